"""Text models: masks, precision, and agreement compiled and not, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import models

NAMES = [name for name, entry in models.MODELS.items() if entry.modality == "text"]
SMALL = {"vocab_size": 50, "embedding_dim": 8, "units": 6}


@pytest.fixture(autouse=True)
def _float32_policy() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def _ids(steps: int = 12) -> np.ndarray:
    """int32 [5, steps], right-padded; row 3 has one token and row 4 none."""
    ids = np.random.default_rng(0).integers(1, 50, (5, steps)).astype(np.int32)
    for row, length in enumerate((9, 5, 7, 1, 0)):
        ids[row, length:] = 0
    return ids


def _build(name: str, steps: int | None = None, **settings: object) -> keras.Model:
    config = models.ModelConfig(name, **(SMALL | settings))  # type: ignore[arg-type]
    spec = tf.TensorSpec([steps], tf.int32)
    return models.build_model(config, spec, 4, seed=0, use_cudnn=False)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Embedding 400; LSTM 4 * (6 * (8 + 6) + 6); head 4 * 6 + 4.
        ("lstm", 400 + 360 + 28),
        # A weight per word 50; the head also reads 2 * 8 numbers of the words.
        ("bilstm", 400 + 50 + 720 + 4 * (16 + 12) + 4),
        # GRU 3 * (6 * (8 + 6) + 2 * 6).
        ("gru", 400 + 50 + 288 + 4 * (16 + 6) + 4),
    ],
)
def test_parameter_counts(name: str, parameters: int) -> None:
    assert _build(name).count_params() == parameters


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name: str) -> None:
    model, ids = _build(name), _ids()
    logits = model(ids).numpy()
    assert logits.shape == (5, 4) and logits.dtype == np.float32 and np.isfinite(logits).all()
    padded = np.pad(ids, ((0, 0), (0, 9)))
    np.testing.assert_allclose(model(padded), logits, atol=1e-6)
    np.testing.assert_allclose(model(ids[1:2, :5]), logits[1:2], atol=1e-6)
    # And tokens do.
    ids[0, 8] += 1
    assert np.abs(model(ids).numpy()[0] - logits[0]).max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_texts_of_one_word_give_the_same_logits_however_wide_the_batch(name: str) -> None:
    """A batch of one column has no pairs of neighbours: a pooling over none would be NaN."""
    model, ids = _build(name), np.array([[7], [3]], np.int32)
    wide = np.pad(ids, ((0, 0), (0, 5)))
    assert np.isfinite(model(ids).numpy()).all()
    np.testing.assert_allclose(model(ids), model(wide), atol=1e-6)


# Both cells, and all that is around them; the others are made of the same parts.
@pytest.mark.parametrize(
    "name",
    [
        "lstm",
        "gru_pairs",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("bilstm", "gru", "gru_language")),
    ],
)
def test_compiled_and_not_are_equal_forward_and_backward(name: str) -> None:
    model, ids = _build(name, steps=12, dropout=0.0), _ids()
    labels = np.arange(5) % 4
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def forward_backward(ids: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            logits = model(ids, training=True)
            value = loss(labels, logits)
        gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
        return logits, [tf.convert_to_tensor(gradient) for gradient in gradients]

    plain = tf.function(forward_backward)(ids)
    compiled = tf.function(forward_backward, jit_compile=True)(ids)
    for a, b in zip(tf.nest.flatten(plain), tf.nest.flatten(compiled), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_is_near_float32(name: str, policy: str) -> None:
    ids = _ids()
    expected = _build(name)(ids).numpy()
    keras.config.set_dtype_policy(policy)
    logits = _build(name)(ids)
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, expected, atol=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_loads_and_a_seed_fixes_it(name: str, tmp_path: Path) -> None:
    model, ids = _build(name), _ids()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(ids), model(ids))
    np.testing.assert_array_equal(_build(name)(ids, training=True), model(ids, training=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_lowers_the_loss(name: str) -> None:
    model, ids, labels = _build(name, dropout=0.0), _ids(), np.arange(5) % 4
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, run_eagerly=True)
    before = model.train_on_batch(ids, labels)
    assert model.train_on_batch(ids, labels) < before


def test_inputs_that_are_no_ids_are_refused() -> None:
    for spec in (tf.TensorSpec([12], tf.float32), tf.TensorSpec([12, 3], tf.int32)):
        with pytest.raises(ValueError, match=r"model: gru expected input int32 \[T\]"):
            models.build_model(models.ModelConfig("gru"), spec, 4, seed=0)
    with pytest.raises(ValueError, match="takes no mean and variance"):
        spec = tf.TensorSpec([12], tf.int32)
        models.build_model(models.ModelConfig("gru"), spec, 4, mean=np.zeros(12), seed=0)
