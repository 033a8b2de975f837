"""Image classifiers: a pretrained backbone between a preprocessing stage and a small head."""

import dataclasses
import os
import warnings
from collections.abc import Callable
from typing import Any

import keras

from models import efficientnet_lite0
from models.config import ModelConfig

# Where keras.applications downloads from, less the file's own folder.
_BASE_URL = "https://storage.googleapis.com/"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# Units of the head's hidden layer.
_HIDDEN = 512
# The last layer of EfficientNetB0 that only scales; the backbone starts behind it.
_EFFICIENTNET_FIRST = "stem_conv_pad"


@dataclasses.dataclass(frozen=True)
class BackboneDesign:
    """What distinguishes one backbone from another."""

    # (input shape (S, S, 3), weights) -> model from float [B, S, S, 3] to pooled float32 features
    # [B, D]; weights is "imagenet", "random" or a path.
    build: Callable[[tuple[int, int, int], str], keras.Model]
    # Multiplied with a channel's value in 0..255, then `offset` is added.
    scale: tuple[float, float, float]
    # One number per channel, in the order the backbone reads them.
    offset: tuple[float, float, float]
    bgr: bool  # the backbone reads blue, green, red
    min_size: int  # smallest S the backbone accepts
    report_scale: bool = False  # the report divided by 255, in the order red, green, blue


def build_preprocess(shape: tuple[int, int, int], design: BackboneDesign) -> keras.Model:
    """Grey to RGB and the backbone's scaling: [B, S, S, C] in 0..255 -> float32 [B, S, S, 3]."""
    images = keras.Input(shape, dtype="float32", name="images")
    x = images
    if shape[-1] == 1:
        # Not `repeat`, which asks for the shape in the middle of a step.
        x = keras.ops.concatenate([x, x, x], axis=-1)
    # A grey picture has the same value in every channel: nothing to turn round.
    elif design.bgr:
        x = keras.ops.flip(x, axis=-1)
    # float32 whatever the policy: bfloat16 cannot tell neighbouring grey levels apart.
    x = keras.layers.Rescaling(list(design.scale), list(design.offset), dtype="float32")(x)
    return keras.Model(images, x, name="preprocess")


def _build_head(width: int, num_classes: int, dropout: float) -> keras.Model:
    """One hidden layer and the classifier: float32 [B, D] -> float32 logits [B, num_classes].

    On the frozen features of brain_tumor_mri a hidden layer is worth 0.03 of validation accuracy
    over a linear head.
    """
    features = keras.Input((width,), dtype="float32", name="pooled")
    x = features
    if dropout:
        x = keras.layers.Dropout(dropout, dtype="float32", name="feature_dropout")(x)
    x = keras.layers.Dense(_HIDDEN, activation="gelu", dtype="float32", name="hidden")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype="float32", name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(features, logits, name="head")


def _check_shape(config: ModelConfig, spec: Any, min_size: int) -> tuple[int, int, int]:
    """Returns (S, S, C), or raises ValueError naming what the model expected."""
    shape = tuple(spec.shape)
    usable = len(shape) == 3 and None not in shape and shape[2] in (1, 3)
    if not usable or min(shape[:2]) < min_size:
        raise ValueError(
            f"model: {config.name} expected input [S, S, 1 or 3] with S >= {min_size}, "
            f"received {list(shape)}"
        )
    return shape  # type: ignore[return-value]


def build_cnn(
    config: ModelConfig, spec: Any, num_classes: int, *, design: BackboneDesign
) -> keras.Model:
    """Builds the three named stages `preprocess`, `backbone` and `head`.

    Arguments and errors are those of `models.build_model`; of the configuration name, dropout
    (default 0.4, of the head), weights and preprocess are used.

    Returns:
        Model from uint8 or float [B, S, S, C] in 0..255, C 1 (grey) or 3 (RGB), to float32 logits
        [B, num_classes]. Floats are accepted because augmentation and mixup give them.
    """
    shape = _check_shape(config, spec, design.min_size)
    check_weights(config)
    if config.preprocess == "report" and not design.report_scale:
        raise ValueError(
            "model: --preprocess report expected with --model resnet50 or inception_v3, which the "
            f"report scaled in its own way, received --model {config.name}"
        )
    if config.preprocess == "report":
        thirds = (1 / 255,) * 3
        design = dataclasses.replace(design, scale=thirds, offset=(0.0,) * 3, bgr=False)
    backbone = design.build((shape[0], shape[1], 3), config.weights)
    dropout = 0.4 if config.dropout is None else config.dropout
    images = keras.Input(shape, dtype="float32", name="image")
    features = backbone(build_preprocess(shape, design)(images))
    logits = _build_head(features.shape[-1], num_classes, dropout)(features)
    return keras.Model(images, logits, name=config.name)


def check_weights(config: ModelConfig) -> None:
    """Raises FileNotFoundError when `config.weights` is neither a keyword nor a file."""
    if config.weights in ("imagenet", "random") or os.path.isfile(config.weights):
        return
    raise FileNotFoundError(
        f"model: {config.name}: weights expected imagenet, random or the path of a file, "
        f"received {config.weights!r}, which is not a file"
    )


def _pooled(inputs: Any, *outputs: keras.KerasTensor) -> keras.Model:
    """Closes a backbone with average pooling: [B, H, W, D] each -> float32 [B, sum of D]."""
    # float32, so that cached features lose nothing and do not depend on the policy's range.
    pooled = [keras.layers.GlobalAveragePooling2D(dtype="float32")(x) for x in outputs]
    if len(pooled) > 1:
        pooled = [keras.layers.Concatenate(dtype="float32", name="pool")(pooled)]
    return keras.Model(inputs, pooled[0], name="backbone")


def _load_application(
    application: Callable[..., keras.Model], shape: tuple[int, int, int], weights: str, url: str
) -> keras.Model:
    """Makes a headless model of keras.applications with the weights asked for."""
    if weights == "imagenet":
        try:
            return application(include_top=False, weights="imagenet", input_shape=shape)
        except Exception as error:  # Keras raises a bare Exception for a failed download.
            if "URL fetch failure" not in str(error):
                raise
            name = application.__name__
            raise ConnectionError(
                f"model: {name}: the ImageNet weights could not be downloaded ({error}). "
                f"Fetch {url} on a machine with network and pass --weights FILE, or use "
                "--weights random, or --model efficientnet_lite0, whose weights are installed "
                "with pip"
            ) from error
    model = application(include_top=False, weights=None, input_shape=shape)
    if weights != "random":
        load_weights_file(model, weights, url)
    return model


def load_weights_file(model: keras.Model, path: str, url: str) -> None:
    """Loads a `.weights.h5` or `.h5` file that holds exactly the weights of `model`.

    Raises:
        ValueError: the file is of another model, has a classifier, or is no HDF5 file.
    """
    try:
        with warnings.catch_warnings():
            # Keras only warns about layers the file has nothing for.
            warnings.filterwarnings("error", message=".*freshly-initialized weights")
            model.load_weights(path)
    except Exception as error:  # Keras and HDF5 raise some ten kinds, RuntimeError among them
        raise ValueError(
            f"model: {model.name}: cannot load {path}: expected an HDF5 file (.weights.h5 or "
            f".h5) of this backbone without its classifier, such as {url}; received: {error}"
        ) from error


def build_resnet50(shape: tuple[int, int, int], weights: str) -> keras.Model:
    """ResNet50: float [B, S, S, 3] -> float32 [B, 2048]."""
    url = _BASE_URL + (
        "tensorflow/keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    )
    base = _load_application(keras.applications.ResNet50, shape, weights, url)
    return _pooled(base.inputs, base.output)


def build_inception_v3(shape: tuple[int, int, int], weights: str) -> keras.Model:
    """InceptionV3: float [B, S, S, 3] -> float32 [B, 2048]."""
    url = _BASE_URL + (
        "tensorflow/keras-applications/inception_v3/"
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
    )
    base = _load_application(keras.applications.InceptionV3, shape, weights, url)
    return _pooled(base.inputs, base.output)


def build_efficientnet_b0(shape: tuple[int, int, int], weights: str) -> keras.Model:
    """EfficientNetB0 without its own scaling layers: float [B, S, S, 3] -> float32 [B, 1280].

    Keras scales inside the model, and adds one more scaling layer only for weights="imagenet",
    so the same file passed as a path would see other inputs. Cutting these layers off and scaling
    in `preprocess` makes both ways equal.
    """
    url = _BASE_URL + "keras-applications/efficientnetb0_notop.h5"
    base = _load_application(keras.applications.EfficientNetB0, shape, weights, url)
    return _pooled(base.get_layer(_EFFICIENTNET_FIRST).input, base.output)


def build_efficientnet_lite0(shape: tuple[int, int, int], weights: str) -> keras.Model:
    """EfficientNet-Lite0: float [B, S, S, 3] -> float32 [B, 2432].

    The last convolution's 1280 features and the 1152 of the last block's depthwise convolution,
    which are less bound to ImageNet's classes: together worth 0.01 of validation accuracy on
    brain_tumor_mri over the last ones alone.
    """
    base = efficientnet_lite0.build_features(shape)
    if weights == "imagenet":
        efficientnet_lite0.load_torch_weights(base, efficientnet_lite0.find_weights())
    elif weights.endswith(".pth"):
        efficientnet_lite0.load_torch_weights(base, weights)
    elif weights != "random":
        load_weights_file(base, weights, "the efficientnet-lite0-*.pth of its pip package")
    return _pooled(base.inputs, base.output, base.get_layer("blocks_15_bn1_relu6").output)


def _scaled(mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """Scale and offset that map 0..255 to (x / 255 - mean) / std per channel."""
    return {
        "scale": tuple(1.0 / (255.0 * s) for s in std),
        "offset": tuple(-m / s for m, s in zip(mean, std, strict=True)),
    }


RESNET50 = BackboneDesign(
    build_resnet50,
    (1.0,) * 3,
    (-103.939, -116.779, -123.68),
    bgr=True,
    min_size=32,
    report_scale=True,
)
INCEPTION_V3 = BackboneDesign(
    build_inception_v3, (1 / 127.5,) * 3, (-1.0,) * 3, bgr=False, min_size=75, report_scale=True
)
EFFICIENTNET_B0 = BackboneDesign(
    build_efficientnet_b0,
    **_scaled(_IMAGENET_MEAN, _IMAGENET_STD),  # type: ignore[arg-type]
    bgr=False,
    min_size=32,
)
EFFICIENTNET_LITE0 = BackboneDesign(
    build_efficientnet_lite0, (1 / 128,) * 3, (-127 / 128,) * 3, bgr=False, min_size=32
)
