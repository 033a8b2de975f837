"""Loss, accuracy, weighted F1 and recall: what training looks at after every epoch."""

import dataclasses
from typing import Any, Protocol

import numpy as np

from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL

# The figures of `Metrics` that are one number each. The history, TensorBoard, the curves, --monitor
# and the sweep have one column or choice for each of them.
FIGURES = ("loss", "accuracy", "weighted_f1")
# By task. Of training alone there is no mean average precision, which no sums give.
FIGURES_OF = {
    SINGLE_LABEL: FIGURES,
    MULTI_LABEL: ("loss", "macro_f1", "micro_f1", "mean_average_precision"),
    REGRESSION: ("loss", "mae", "rmse", "r2"),
}
MONITORED = tuple(dict.fromkeys(name for names in FIGURES_OF.values() for name in names))
# What a search looks for where nothing is said, and cross-validation tells of each seed.
CHOSEN_BY = {SINGLE_LABEL: "weighted_f1", MULTI_LABEL: "macro_f1", REGRESSION: "rmse"}
SMALL_IS_GOOD = ("loss", "mae", "rmse")


class AnyMetrics(Protocol):
    """What a set of predictions is worth, whatever is predicted."""

    @property
    def figures(self) -> dict[str, float]:
        """The figures that are one number each, by name: those of `FIGURES_OF`."""

    def to_dict(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """JSON-ready figures, those of each class or number as well."""


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

    @property
    def figures(self) -> dict[str, float]:
        """The figures that are one number each, by name."""
        return {name: getattr(self, name) for name in FIGURES}

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


def say(task: str, outputs: np.ndarray) -> np.ndarray:
    """What a model's outputs [n, C] stand for, float64 [n, C].

    Probabilities: of one class they add up to 1, of several at once each is for itself. Or numbers.
    """
    found = outputs.astype(np.float64)
    if task == MULTI_LABEL:
        small = np.exp(-np.abs(found))  # never overflows
        return np.where(found >= 0, 1, small) / (1 + small)
    return probabilities(outputs) if task == SINGLE_LABEL else found


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits [n, C]: float64 [n, C]."""
    # Less the largest, no exponential overflows.
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    weights = np.exp(shifted)
    return weights / weights.sum(1, keepdims=True)


def metrics_from_confusion(confusion: np.ndarray, loss: float) -> Metrics:
    """Metrics of a confusion matrix [C, C] (rows true) and a mean loss."""
    confusion = np.asarray(confusion, np.float64)
    right, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    # 0 for a class that neither occurs nor was predicted; its weight is 0 as well.
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
    # Not at the top: the command line reads `FIGURES`, and its help is to appear at once.
    from sklearn.metrics import confusion_matrix

    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -log_probability[np.arange(len(labels)), labels].mean()
    confusion = confusion_matrix(labels, logits.argmax(1), labels=range(logits.shape[1]))
    return metrics_from_confusion(confusion, loss)
