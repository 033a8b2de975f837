"""Tabular models: sizes, normalisation, precision, and agreement compiled and not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from models.packed import pack
from models.standardization import build_standardization

SPEC = tf.TensorSpec([21], tf.float32)
NAMES = [name for name, entry in models.MODELS.items() if entry.modality == "tabular"]


@pytest.fixture(autouse=True)
def _float32_policy() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def _features(rows: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(5, 3, (rows, 21)).astype(np.float32)


def _build(name: str, seed: int = 0, dropout: float | None = None) -> keras.Model:
    mean, variance = _features().mean(axis=0), _features().var(axis=0)
    config = models.ModelConfig(name, dropout=dropout)
    bins = models.MODELS[name].bins
    edges = np.quantile(_features(), np.linspace(0, 1, bins + 1), axis=0).T if bins else None
    return models.build_model(config, SPEC, 3, mean=mean, variance=variance, edges=edges, seed=seed)


@pytest.mark.parametrize(
    ("name", "parameters"), [("mlp_report", 711_939), ("mlp_report_best", 417_411)]
)
def test_parameter_counts_of_the_report(name: str, parameters: int) -> None:
    model = _build(name)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters
    assert not model.non_trainable_weights


def test_the_report_mlp_equals_numpy() -> None:
    model, x = _build("mlp_report"), _features()
    expected = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0))
    weights = model.get_weights()
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        expected = np.maximum(expected @ kernel + bias, 0)
    expected = expected @ weights[-2] + weights[-1]
    np.testing.assert_allclose(model(x), expected, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_and_not_are_equal_and_a_saved_model_too(name: str, tmp_path: Path) -> None:
    model, x = _build(name), _features()
    logits = model(x).numpy()
    assert logits.shape == (64, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(tf.function(model, jit_compile=True)(x), logits, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(x), logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_fixes_weights_and_first_dropout(name: str) -> None:
    x = _features()
    first = _build(name, seed=3)(x, training=True)
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(_build(name, seed=3)(x, training=True), first)
    assert not np.array_equal(_build(name, seed=4)(x, training=True), first)


def test_building_leaves_the_global_random_state_alone() -> None:
    keras.utils.set_random_seed(5)
    expected = keras.initializers.GlorotUniform()((2, 2)).numpy()
    keras.utils.set_random_seed(5)
    _build("mlp_report", seed=1)
    np.testing.assert_array_equal(keras.initializers.GlorotUniform()((2, 2)), expected)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_float32_logits_and_survives_large_features(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    x = _features() * 1e6
    model = models.build_model(
        models.ModelConfig("mlp_report"),
        SPEC,
        3,
        mean=x.mean(axis=0),
        variance=x.var(axis=0),
        seed=0,
    )
    logits = model(x)
    assert logits.dtype == tf.float32 and np.isfinite(logits).all()
    assert all(weight.dtype == "float32" for weight in model.weights)
    assert model.get_layer("hidden_0").compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize("name", NAMES)
def test_steps_lower_the_loss(name: str) -> None:
    model, x = _build(name, dropout=0.0), _features()
    labels = np.arange(64) % 3
    networks = model(x, training=True).shape[1:-1]  # each has a loss of its own
    labels = np.broadcast_to(labels.reshape(64, *[1] * len(networks)), (64, *networks))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    before = model.train_on_batch(x, labels)
    assert model.train_on_batch(x, labels) < before


def test_a_constant_feature_gives_zero() -> None:
    x = _features()
    x[:, 4] = 1234.5678
    x[:, 5] = 0.0
    mean, variance = x.mean(axis=0, dtype=np.float32), x.var(axis=0, dtype=np.float32)
    variance[4] = 1e-9  # What rounding may leave.
    inputs = keras.Input((21,))
    out = build_standardization(mean, variance, inputs)(x).numpy()
    assert np.abs(out[:, 4:6]).max() < 1e-3
    np.testing.assert_allclose(out[:, :4].std(axis=0), 1, atol=1e-4)
    x[:, 5] = 1.0
    assert np.abs(build_standardization(mean, variance, inputs)(x).numpy()).max() < 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_an_offset_changes_nothing(name: str, policy: str, tmp_path: Path) -> None:
    """Time stamps: float32 has steps of 128 there."""
    keras.config.set_dtype_policy(policy)
    x = _features().astype(np.float64)
    logits, near = [], 1e-4 if policy == "float32" else 5e-2
    for rows in (x, x + 1_700_000_000):
        bins = models.MODELS[name].bins
        edges = np.quantile(rows, np.linspace(0, 1, bins + 1), axis=0).T if bins else None
        model = models.build_model(
            models.ModelConfig(name),
            tf.TensorSpec([21], tf.float64),
            3,
            mean=rows.mean(0),
            variance=rows.var(0),
            edges=edges,
            seed=0,
        )
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        logits.append(loaded(rows).numpy())
        packed = pack([model, model])(np.stack([rows, rows])).numpy()
        np.testing.assert_allclose(packed[1], logits[-1], atol=near)
    assert np.ptp(logits[0], axis=0).min() > 0.1
    np.testing.assert_allclose(logits[1], logits[0], atol=near)


def test_small_units_are_scaled_as_large_ones() -> None:
    x = _features()
    small = (x * np.float32(1e-25)).astype(np.float32)
    found = []
    for rows in (x, small):
        wide = rows.astype(np.float64)
        layer = build_standardization(wide.mean(0), wide.var(0), keras.Input((21,)))
        found.append(layer(rows).numpy())
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


@pytest.mark.parametrize(
    ("mean", "variance", "message"),
    [
        (np.zeros(20), np.ones(21), r"mean expected shape \[21\], received \[20\]"),
        (np.zeros(21), np.full(21, np.nan), "variance expected finite numbers"),
        (np.zeros(21), None, "must be given together"),
    ],
)
def test_unusable_statistics_are_refused(
    mean: np.ndarray, variance: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        models.build_model(
            models.ModelConfig("mlp_report"), SPEC, 3, mean=mean, variance=variance, seed=0
        )


def test_a_model_with_bins_asks_for_their_edges() -> None:
    with pytest.raises(ValueError, match="dcn expected mean, variance and edges"):
        models.build_model(models.ModelConfig("dcn"), SPEC, 3, seed=0)


def test_bad_settings_name_the_valid_ones() -> None:
    with pytest.raises(
        ValueError, match="'mlpp' expected one of the models mlp, mlp_small, mlp_report"
    ):
        models.build_model(models.ModelConfig("mlpp"), SPEC, 3, seed=0)
    with pytest.raises(ValueError, match="one of the text models lstm, bilstm, gru"):
        models.check_model("mlp", "text")
    with pytest.raises(ValueError, match="dropout expected a rate"):
        models.ModelConfig("mlp", dropout=1.0)
    with pytest.raises(ValueError, match="has no pretrained weights"):
        models.build_model(models.ModelConfig("mlp", weights="x.h5"), SPEC, 3, seed=0)
    with pytest.raises(ValueError, match=r"expected input \[F\], received \[8, 8, 1\]"):
        models.build_model(models.ModelConfig("mlp"), tf.TensorSpec([8, 8, 1]), 3, seed=0)
    with pytest.raises(ValueError, match="num_classes expected at least 1"):
        models.build_model(models.ModelConfig("mlp"), SPEC, 0, seed=0)
