"""Predictions over a split and the metrics made from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from records.buckets import make_order
from records.cache import show_progress
from records.examples import Examples
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


class Stopped(KeyboardInterrupt):
    """A worker asked predictions to stop (`Predictor.stop`); all workers raise it together."""


class Predictor:
    """Outputs of a model for every example of a subset, each exactly once, in its order.

    Attributes:
      stop: is asked after every call whether to raise `Stopped`.
    """

    def __init__(
        self,
        model: Any,
        examples: Examples,
        cluster: Cluster,
        level: str,
        global_batch_size: int,
        length_buckets: int = 1,
    ):
        """Feeds `examples` over all replicas; texts in batches of like length."""
        order = make_order(
            examples.num_examples,
            global_batch_size,
            shuffle=False,
            lengths=examples.subset_lengths,
            length_buckets=length_buckets,
        )
        self._feed = Feed(examples, order, cluster, level)
        with cluster.strategy.scope():
            self._step = PredictStep(model, cluster)
        self._examples, self._order = examples, order
        self._pace = Pace()
        self._cluster = cluster
        self._epoch = 0
        self.stop: Callable[[], bool] = bool

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers int64 [rows] in the subset, outputs float32 [rows, ...]), each example once."""
        self._feed.start(self._epoch)
        pace, step = self._pace, 0
        while (chunk := self._feed.take(self._agreed_steps())) is not None:
            with pace.timed(chunk.steps):
                outputs = self._step.run(chunk)
            numbers, weights = self._order.examples(self._epoch, step, chunk.steps)
            step += chunk.steps
            real = weights > 0
            yield numbers[real], outputs[real]
        self._epoch += 1  # the same order again; the feed goes on without a new start

    def _agreed_steps(self) -> int:
        """Steps of the next call, by the chief's clock."""
        said = self._cluster.exchange(self._pace.steps, self.stop())
        if said[:, 1].any():
            raise Stopped
        return int(said[0, 0])

    def outputs(self, label: str = "predicting") -> np.ndarray:
        """The outputs float32 [n, ...] in the subset's order; `label` names the progress line."""
        total = self._examples.num_examples
        found = np.empty(0, np.float32)

        def fill() -> Iterator[np.ndarray]:
            nonlocal found
            for numbers, outputs in self.batches():
                if not len(found):
                    found = np.empty((total, *outputs.shape[1:]), np.float32)
                found[numbers] = outputs
                yield numbers

        for _ in show_progress(fill(), total, label):
            pass
        return found

    def metrics(self) -> Metrics:
        """Metrics of the outputs, taken as logits."""
        return metrics_from_logits(self.outputs(), self._examples.subset_labels)
