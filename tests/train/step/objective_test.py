"""Label smoothing, mixup's labels and the learning rate's schedule, against Keras and NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.augment import mix_pairs
from tests.support.settings import make_settings
from train.assembly.training import make_optimizer
from train.step.objective import Objective, swap_pairs

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(8, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 8).astype(np.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_losses_are_those_of_keras(smoothing: float) -> None:
    weights = np.array([1.0, 2.0, 0.5, 3.0], np.float32)
    keras_loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction="none"
    )
    expected = keras_loss(np.eye(4)[LABELS], LOGITS).numpy() * weights[LABELS]
    found = Objective(weights, smoothing).losses(LOGITS, LABELS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mixed_labels_share_the_loss() -> None:
    share = RNG.uniform(0.5, 1, 8).astype(np.float32)
    targets = (
        share[:, None] * np.eye(4)[LABELS]
        + (1 - share[:, None]) * np.eye(4)[LABELS.reshape(4, 2)[:, ::-1].ravel()]
    )
    expected = keras.losses.categorical_crossentropy(targets, LOGITS, from_logits=True)
    found = Objective(np.ones(4, np.float32)).losses(LOGITS, LABELS, share)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pairs_are_mixed_alike_whole_and_in_parts() -> None:
    images = RNG.integers(0, 256, (8, 5, 5, 1)).astype(np.uint8)
    keys = tf.constant(RNG.integers(0, 2**62, 8))
    whole, share = mix_pairs(images, keys, 0.3)
    parts = [mix_pairs(images[i : i + 2], keys[i : i + 2], 0.3) for i in range(0, 8, 2)]
    np.testing.assert_array_equal(whole, np.concatenate([p[0] for p in parts]))
    own = share.numpy()[:, None, None, None]
    expected = images * own + swap_pairs(tf.constant(images)).numpy() * (1 - own)
    np.testing.assert_allclose(whole, expected, rtol=1e-5)


def test_shares_follow_the_beta_distribution() -> None:
    from scipy.stats import beta, kstest

    keys = tf.range(20_000, dtype=tf.int64)
    _, share = mix_pairs(np.zeros((20_000, 1, 1, 1), np.uint8), keys, 0.4)

    def distribution(s: np.ndarray) -> np.ndarray:  # of max(s, 1 - s)
        return 2 * beta.cdf(s, 0.4, 0.4) - 1

    assert kstest(share.numpy().astype(np.float64), distribution).pvalue > 1e-3


def test_learning_rate_rises_and_falls() -> None:
    settings = make_settings(learning_rate=0.1, epochs=10, warmup_epochs=2, optimizer="sgd")
    rate = make_optimizer(settings, 5)._learning_rate
    found = [float(rate(step)) for step in range(50)]
    np.testing.assert_allclose(found[:10], 0.1 * np.arange(10) / 10, rtol=1e-6)
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(40) / 40))
    np.testing.assert_allclose(found[10:], cosine, rtol=1e-4)
