"""Figures against scikit-learn and SciPy; those of resamples against those of repeated rows."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from train.measures import scores
from train.measures.scores import Bootstrap


def _make(seed: int, n: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties, and labels; the last class is in none of them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes - 1, n, p=[0.6, 0.3, 0.1])
    weights = rng.integers(1, 6, (n, classes)) + 4.0 * np.eye(classes)[labels]
    return weights / weights.sum(1, keepdims=True), labels


def _check_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_allclose(value, b[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_figures_are_scikit_learns() -> None:
    probability, labels = _make(0)
    found = scores.score(probability, labels)
    predicted = probability.argmax(1)
    assert found["loss"] == pytest.approx(reference.log_loss(labels, probability, labels=range(4)))
    assert found["balanced_accuracy"] == reference.balanced_accuracy_score(labels, predicted)
    auc = reference.roc_auc_score(labels == 1, probability[:, 1])
    assert found["auc"][1] == auc and np.isnan(found["auc"][3]) and np.isnan(found["recall"][3])
    assert found["macro_auc"] == pytest.approx(np.nanmean(found["auc"]))


def test_calibration_error_by_hand() -> None:
    """Three examples in the bin around 0.7 (2 right), one in that around 0.9 (wrong)."""
    confidence = np.array([0.70, 0.71, 0.72, 0.90])
    probability = np.stack([confidence, 1 - confidence], 1)
    found = scores.score(probability, np.array([0, 0, 1, 1]))["calibration_error"]
    assert found == pytest.approx(0.75 * abs(2 / 3 - 0.71) + 0.25 * 0.9)


@pytest.mark.parametrize("seed", range(3))
def test_resamples_have_the_figures_of_their_rows(seed: int) -> None:
    probability, labels = _make(seed)
    draws = np.random.default_rng(seed).integers(0, 3, (2, len(labels))).astype(np.float64)
    draws[1] = 1
    found = scores._Resampled(probability, labels)(draws)
    for i, counts in enumerate(draws.astype(int)):
        rows = np.repeat(np.arange(len(labels)), counts)
        expected = scores.score(probability[rows], labels[rows])
        _check_equal({k: v[i] for k, v in found.items()}, expected)


def test_intervals_are_those_of_scipy() -> None:
    probability, labels = _make(1, n=400)
    found = scores.intervals(probability, labels, Bootstrap(4000, seed=1, percent=90))
    right = probability.argmax(1) == labels
    expected = stats.bootstrap(
        (right,), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", rng=0
    ).confidence_interval
    np.testing.assert_allclose(found["accuracy"], expected, atol=0.006)
    again = scores.intervals(probability, labels, Bootstrap(4000, seed=1, percent=90))
    _check_equal(found, again)
    assert np.isnan(found["auc"][:, 3]).all() and found["auc"].shape == (2, 4)


def test_groups_are_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine copies of each example tell nothing new: the interval stays that of the originals."""
    monkeypatch.setattr(scores, "_CHUNK_NUMBERS", 100 * 1800)  # several chunks
    probability, labels = _make(2)
    copies = (np.repeat(probability, 9, 0), np.repeat(labels, 9))
    groups = np.repeat(np.arange(len(labels)), 9)
    bootstrap = Bootstrap(500)
    once = scores.intervals(probability, labels, bootstrap)["accuracy"]
    grouped = scores.intervals(*copies, bootstrap, groups)["accuracy"]
    single = scores.intervals(*copies, bootstrap)["accuracy"]
    assert np.ptp(grouped) == pytest.approx(np.ptp(once), rel=0.15)
    assert np.ptp(single) < 0.5 * np.ptp(once)
