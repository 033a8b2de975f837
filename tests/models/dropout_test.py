"""`HashDropout` does what `keras.layers.Dropout` does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.dropout import HashDropout

SHAPE = (50, 400)


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_share_scale_and_independence(rate: float, xla: bool) -> None:
    """A share `rate` is 0, the rest is scaled; every draw is another, unrelated to the others."""
    layer = HashDropout(rate, seed=3)
    call = tf.function(lambda x: layer(x, training=True), jit_compile=xla)
    masks = np.stack([call(tf.ones(SHAPE)).numpy() for _ in range(6)])
    np.testing.assert_allclose(np.unique(masks), [0, 1 / (1 - rate)], rtol=1e-6)
    zero = (masks == 0).astype(float)
    noise = 5 * np.sqrt(rate * (1 - rate) / SHAPE[0] / SHAPE[1])
    assert np.abs(zero.mean((1, 2)) - rate).max() < noise
    for lag in (1, 7, SHAPE[1]):  # neighbours in a row, others, and in a column
        flat = zero.reshape(6, -1)
        assert abs(np.corrcoef(flat[0, :-lag], flat[0, lag:])[0, 1]) < 5 / np.sqrt(flat[0].size)
    assert np.abs(np.corrcoef(zero.reshape(6, -1)) - np.eye(6)).max() < 5 / np.sqrt(zero[0].size)


def test_seed_state_names_the_mask() -> None:
    layer, again = HashDropout(0.4, seed=1), HashDropout(0.4, seed=2)
    x = tf.ones(SHAPE)
    layer(x, training=True)
    again.seed_generator.state.assign(layer.seed_generator.state)
    np.testing.assert_array_equal(layer(x, training=True), again(x, training=True))


def test_nothing_happens_outside_of_training_and_it_can_be_saved(tmp_path: object) -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, HashDropout(0.5, seed=1, name="drop")(inputs))
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    np.testing.assert_array_equal(model(x, training=False), x)
    assert model(x, training=True).shape == (4, 8)
    file = f"{tmp_path}/m.keras"
    model.save(file)
    loaded = keras.models.load_model(file, compile=False)
    assert loaded.get_layer("drop").rate == 0.5


def test_half_precision_stays_half() -> None:
    layer = HashDropout(0.5, seed=1, dtype="mixed_bfloat16")
    assert layer(tf.ones(SHAPE, tf.bfloat16), training=True).dtype == tf.bfloat16
