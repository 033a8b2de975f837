"""Predictions over a split and the metrics made from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from records.order import Order
from records.pipeline import Examples
from train.feed import Feed, Pace
from train.step import PredictStep
from train.strategy import Cluster


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What a set of predictions is worth.

    Attributes:
      loss: mean cross-entropy, nats, without class weights.
      accuracy: share of right predictions.
      weighted_f1: F1 per class, averaged by the classes' true counts (scikit-learn's
        `average="weighted"`).
      recall: per class; NaN for a class without examples.
      confusion: int64 [C, C], rows true, columns predicted.
    """

    loss: float
    accuracy: float
    weighted_f1: float
    recall: tuple[float, ...]
    confusion: np.ndarray

    def to_dict(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """JSON-ready figures; absent classes have recall None."""
        recall = [None if np.isnan(r) else r for r in self.recall]
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "weighted_f1": self.weighted_f1,
            "recall": dict(zip(class_names, recall, strict=True)),
            "confusion_matrix": self.confusion.tolist(),
        }


def metrics_from_confusion(confusion: np.ndarray, loss: float) -> Metrics:
    """Metrics of a confusion matrix [C, C] (rows true) and a mean loss."""
    confusion = np.asarray(confusion, np.float64)
    right, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    f1 = 2 * right / np.maximum(true + predicted, 1)
    total = max(confusion.sum(), 1)
    recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
    return Metrics(
        loss=float(loss),
        accuracy=float(right.sum() / total),
        weighted_f1=float((f1 * true).sum() / total),
        recall=tuple(recall.tolist()),
        confusion=confusion.astype(np.int64),
    )


def metrics_from_logits(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Metrics of logits float32 [n, C] against labels int [n]."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -log_probability[np.arange(len(labels)), labels].mean()
    confusion = confusion_matrix(labels, logits.argmax(1), labels=range(logits.shape[1]))
    return metrics_from_confusion(confusion, loss)


class Predictor:
    """Outputs of a model for every example of a subset, each exactly once, in its order."""

    def __init__(self, model: Any, examples: Examples, cluster: Cluster, level: str, size: int):
        """Feeds `examples` in batches of `size` rows over all replicas."""
        order = Order(examples.num_examples, size, shuffle=False)
        self._feed = Feed(examples, order, cluster, level)
        with cluster.strategy.scope():
            self._step = PredictStep(model, cluster)
        self._examples = examples
        self._pace = Pace()
        self._epoch = 0

    def batches(self) -> Iterator[np.ndarray]:
        """Outputs float32 [rows, ...] in order; the last ones include the rows that pad."""
        self._feed.start(self._epoch)
        pace = self._pace
        while (chunk := self._feed.take(pace.steps)) is not None:
            with pace.timed(chunk.steps):
                outputs = self._step.run(chunk)
            yield outputs.reshape(-1, *outputs.shape[2:])
        self._epoch += 1  # the same order again; the feed goes on without a new start

    def outputs(self) -> np.ndarray:
        """The outputs float32 [n, ...]; the rows that pad the last batch are cut off."""
        return np.concatenate(list(self.batches()))[: self._examples.num_examples]

    def metrics(self) -> Metrics:
        """Metrics of the outputs, taken as logits."""
        return metrics_from_logits(self.outputs(), self._examples.subset_labels)
