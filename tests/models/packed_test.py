"""Networks side by side give what each gives alone."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.config import ModelConfig
from models.dcn import MeanProbability, build_dcn, encode_piecewise
from models.mlp import build_mlp
from models.packed import pack
from models.seeding import seeded_initializers

FEATURES, CLASSES = 5, 3


def _network(seed: int, model: str = "mlp", dropout: float = 0.3, hinges: int = 0) -> keras.Model:
    rng = np.random.default_rng(seed)
    mean, variance = rng.normal(size=FEATURES), rng.uniform(0.5, 2, FEATURES)
    config = ModelConfig(model, dropout=dropout, hidden=(16, 8))
    given: dict[str, Any] = {"mean": mean, "variance": variance}
    spec = tf.TensorSpec([FEATURES], tf.float32)
    with seeded_initializers(seed):
        if model == "dcn":
            edges = np.sort(rng.normal(size=(FEATURES, 8)), axis=1)
            return build_dcn(config, spec, CLASSES, edges=edges, **given)
        return build_mlp(
            config, spec, CLASSES, hidden=(), default_dropout=0.0, hinges=hinges, **given
        )


@pytest.mark.parametrize("design", [{}, {"hinges": 4}, {"model": "dcn"}])
def test_each_row_is_what_the_network_gives_alone(design: dict[str, Any]) -> None:
    networks = [_network(seed, **design) for seed in range(3)]
    packed = pack(networks)
    x = np.random.default_rng(9).normal(size=(3, 7, FEATURES)).astype(np.float32)
    found = packed(x, training=False)
    expected = [network(rows, training=False) for network, rows in zip(networks, x, strict=True)]
    np.testing.assert_allclose(found, np.stack(expected), atol=2e-5)
    assert len({e.numpy().tobytes() for e in expected}) == 3  # they differ
    trainable = sum(int(np.prod(v.shape)) for v in packed.trainable_variables)
    assert trainable == 3 * sum(int(np.prod(v.shape)) for v in networks[0].trainable_variables)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU sums in float32")
def test_a_cpu_multiplies_in_float32() -> None:
    """One without AVX-512 adds up batched products of bfloat16 in bfloat16."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        packed = pack([_network(seed) for seed in range(2)])
    finally:
        keras.config.set_dtype_policy("float32")
    products = [one for one in packed.layers if isinstance(one, keras.layers.EinsumDense)]
    assert len(products) == 3
    assert {one.compute_dtype for one in products} == {"float32"}


@pytest.mark.parametrize("design", [{"hinges": 2}, {"model": "dcn"}])
def test_gradients_of_a_sum_are_those_of_each_alone(design: dict[str, Any]) -> None:
    networks = [_network(seed, dropout=0.0, **design) for seed in range(2)]
    packed = pack(networks)
    x = np.random.default_rng(9).normal(size=(2, 6, FEATURES)).astype(np.float32)
    labels = tf.constant([[0, 1, 2, 0, 1, 2]] * 2)

    def gradients(model: keras.Model, rows: Any, wanted: Any) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            logits = model(rows, training=True)
            if len(logits.shape) > len(rows.shape):  # of the networks in one
                wanted = tf.repeat(wanted[..., None], logits.shape[-2], -1)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
            loss = tf.reduce_sum(loss)
        return [
            g.numpy() for g in tape.gradient(loss, [v.value for v in model.trainable_variables])
        ]

    together = gradients(packed, x, labels)
    for i, network in enumerate(networks):
        alone = gradients(network, x[i], labels[i])
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_allclose(all_[i].reshape(one.shape), one, atol=1e-5)


def test_networks_of_an_ensemble_differ_and_their_probability_is_averaged() -> None:
    model = _network(0, "dcn")
    x = np.random.default_rng(1).normal(size=(6, FEATURES)).astype(np.float32)
    until_mean = keras.Model(model.inputs, model.get_layer("logits").output)
    each = tf.nn.softmax(until_mean(x, training=False), -1).numpy()
    assert each.shape == (6, 8, CLASSES)
    assert np.abs(each[:, 0] - each[:, 1]).max() > 1e-3
    mean = tf.nn.softmax(model(x, training=False), -1)
    np.testing.assert_allclose(mean, each.mean(1), atol=1e-6)
    assert MeanProbability()(np.zeros((2, 4, 3), np.float32), training=True).shape == (2, 4, 3)


def test_piecewise_encoding_is_the_papers() -> None:
    """Against the definition, loop by loop; equal edges give 0."""
    edges = np.array([[0.0, 1.0, 3.0], [2.0, 2.0, 4.0]])
    x = np.array([[-1.0, 1.0], [0.5, 2.0], [2.0, 3.0], [9.0, 9.0]], np.float32)
    inputs = keras.Input((2,))
    found = keras.Model(inputs, encode_piecewise(inputs, edges))(x).numpy()
    for i, row in enumerate(x):
        for f in range(2):
            for t in range(2):
                low, high = edges[f, t], edges[f, t + 1]
                expected = np.clip((row[f] - low) / (high - low), 0, 1) if high > low else 0.0
                assert found[i, f, t] == pytest.approx(expected, abs=1e-6)
