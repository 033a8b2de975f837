"""Metrics against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as reference

from train.measures.metrics import metrics_from_confusion, metrics_from_logits


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, 300, p=[0.6, 0.25, 0.1, 0.05])
    logits = rng.normal(size=(300, 4)).astype(np.float32) + 2 * np.eye(4)[labels]
    found = metrics_from_logits(logits, labels)
    predicted = logits.argmax(1)
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found.accuracy == pytest.approx(reference.accuracy_score(labels, predicted))
    f1 = reference.f1_score(labels, predicted, average="weighted")
    assert found.weighted_f1 == pytest.approx(f1)
    assert found.recall == pytest.approx(reference.recall_score(labels, predicted, average=None))
    assert found.loss == pytest.approx(reference.log_loss(labels, probability), rel=1e-5)
    assert np.array_equal(found.confusion, reference.confusion_matrix(labels, predicted))


def test_absent_class_has_no_recall_and_does_not_count() -> None:
    found = metrics_from_confusion(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), 0.5)
    assert np.isnan(found.recall[2])
    assert found.to_dict(("a", "b", "c"))["recall"]["c"] is None
    labels, predicted = [0] * 4 + [1] * 4, [0, 0, 0, 1, 1, 1, 1, 1]
    expected = reference.f1_score(labels, predicted, average="weighted")
    assert found.weighted_f1 == pytest.approx(expected)
