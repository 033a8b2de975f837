"""What a step minimises and counts: of one class, of several at once, of numbers."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Protocol

import numpy as np
import tensorflow as tf

from train.measures.metrics import Metrics, metrics_from_confusion, metrics_from_logits
from train.measures.target_metrics import TargetMetrics, metrics_of_classes, metrics_of_numbers
from train.step.replicas import replica_sum


class Diverged(ValueError):
    """The training loss became NaN or infinite.

    Attributes:
      what: where, and in which batch: the message without its remedy.
    """

    def __init__(self, what: str, remedy: str):
        super().__init__(f"{what}. {remedy}")
        self.what = what


class AnyObjective(Protocol):
    """What a step needs of an objective. Sums are those of a replica's rows until they are read."""

    def make_totals(self) -> list[tf.Variable]:
        """The epoch's sums besides the loss; call it in the strategy's scope."""

    def form_inputs(self, taken: tf.Tensor) -> Any:
        """What the model takes, of rows as `take_rows` gives them: here the rows themselves."""
        return taken

    def measure(
        self, outputs: Any, targets: tf.Tensor, weight: tf.Tensor, count: tf.Tensor, share: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(sum of the rows' losses [], their part [] of the global batch's mean loss).

        `weight` float32 [b] is 0 for rows that fill a batch up, `count` [] the real rows of the
        global batch, `share` [b] that of a row's own label after mixup, or None.
        """

    def note(
        self, totals: list[tf.Variable], outputs: Any, targets: tf.Tensor, weight: tf.Tensor
    ) -> None:
        """Adds a replica's rows to the sums."""

    def count(self, totals: list[tf.Variable]) -> float:
        """Examples in the sums."""

    def figures(self, totals: list[tf.Variable], loss: float) -> dict[str, Any]:
        """The epoch's figures by name, of its sums and its mean loss."""


@dataclasses.dataclass(frozen=True)
class Objective(AnyObjective):
    """The loss of each example, and the confusion matrix of the epoch.

    Attributes:
      class_weights: float32 [C].
      label_smoothing: share e of the target that is spread evenly over the classes: the loss is
        (1 - e) times the cross-entropy plus e times the mean of -log p over all classes (Szegedy
        et al. 2016, section 7; the same as Keras's `label_smoothing`).
    """

    class_weights: np.ndarray
    label_smoothing: float = 0.0

    def losses(
        self, logits: tf.Tensor, labels: tf.Tensor, share: tf.Tensor | None = None
    ) -> tf.Tensor:
        """float32 [b] of logits float32 [b, C] and labels int64 [b].

        Args:
          logits, labels: of the examples; logits [b, E, C] are those of E networks, whose losses
            are averaged.
          share: float32 [b], of a row's own label after mixup; the rest goes to the label of the
            other row of its pair (see `models.augment.mix_pairs`). None without mixup.
        """
        own = self._of_label(logits, labels)
        if share is None:
            return own
        return share * own + (1.0 - share) * self._of_label(logits, swap_pairs(labels))

    def make_totals(self) -> list[tf.Variable]:
        """[the confusion matrix float64 [C, C]]."""
        return [replica_sum((len(self.class_weights), len(self.class_weights)))]

    def measure(
        self, outputs: Any, targets: tf.Tensor, weight: tf.Tensor, count: tf.Tensor, share: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `AnyObjective`; `outputs` [b, C] are logits."""
        logits = tf.cast(outputs, tf.float32)
        loss = tf.reduce_sum(self.losses(logits, targets, share) * weight)
        return loss, loss / count

    def note(
        self, totals: list[tf.Variable], outputs: Any, targets: tf.Tensor, weight: tf.Tensor
    ) -> None:
        """As `AnyObjective`."""
        totals[0].assign_add(_confusion(targets, tf.cast(outputs, tf.float32), weight))

    def count(self, totals: list[tf.Variable]) -> float:
        """As `AnyObjective`."""
        return float(totals[0].numpy().sum())

    def figures(self, totals: list[tf.Variable], loss: float) -> dict[str, Any]:
        """loss, accuracy, weighted_f1."""
        return metrics_from_confusion(totals[0].numpy(), loss).figures

    def metrics(self, outputs: np.ndarray, labels: np.ndarray) -> Metrics:
        """Of logits [n, C] and labels int [n]."""
        return metrics_from_logits(outputs, labels)

    def _of_label(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        if len(logits.shape) == 3:
            each = [self._of_label(one, labels) for one in tf.unstack(logits, axis=1)]
            return tf.reduce_mean(tf.stack(each), 0)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if self.label_smoothing:
            evenly = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
            losses = (1.0 - self.label_smoothing) * losses + self.label_smoothing * evenly
        return losses * tf.gather(self.class_weights, labels)


class _OfEach(AnyObjective, abc.ABC):
    """A loss and sums over C outputs, each with a target of its own."""

    num_sums: ClassVar[int]

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """C."""

    @abc.abstractmethod
    def losses(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """float32 [b, C] of both [b, C], float32 for classes, float64 for numbers."""

    @abc.abstractmethod
    def terms(self, outputs: tf.Tensor, targets: tf.Tensor) -> list[tf.Tensor]:
        """What is summed over the rows besides the rows themselves: `num_sums` times [b, C]."""

    @abc.abstractmethod
    def figures_of(self, count: float, sums: np.ndarray) -> dict[str, float]:
        """The figures besides the loss of an epoch, of float64 [num_sums, C]."""

    def make_totals(self) -> list[tf.Variable]:
        """[rows and sums float64 [1 + num_sums, C]]."""
        return [replica_sum((1 + self.num_sums, self.width))]

    def measure(
        self, outputs: Any, targets: tf.Tensor, weight: tf.Tensor, count: tf.Tensor, share: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `AnyObjective`; there is no mixup."""
        losses = tf.reduce_mean(self.losses(tf.cast(outputs, targets.dtype), targets), 1)
        loss = tf.reduce_sum(losses * weight)
        return loss, loss / count

    def note(
        self, totals: list[tf.Variable], outputs: Any, targets: tf.Tensor, weight: tf.Tensor
    ) -> None:
        """As `AnyObjective`."""
        terms = [tf.ones_like(targets), *self.terms(tf.cast(outputs, targets.dtype), targets)]
        each = tf.cast(tf.stack(terms), tf.float64) * tf.cast(weight, tf.float64)[:, None]
        totals[0].assign_add(tf.reduce_sum(each, 1))

    def count(self, totals: list[tf.Variable]) -> float:
        """As `AnyObjective`."""
        return float(totals[0].numpy()[0, 0])

    def figures(self, totals: list[tf.Variable], loss: float) -> dict[str, Any]:
        """As `AnyObjective`; of several targets the means."""
        rows, *sums = totals[0].numpy()
        return {"loss": loss} | self.figures_of(max(float(rows[0]), 1.0), np.stack(sums))


@dataclasses.dataclass(frozen=True)
class ClassesObjective(_OfEach):
    """Several classes at once: the mean binary cross-entropy of C logits, nats."""

    num_classes: int
    num_sums: ClassVar[int] = 3

    @property
    def width(self) -> int:
        """C."""
        return self.num_classes

    def losses(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """As `_OfEach`."""
        return tf.nn.sigmoid_cross_entropy_with_logits(targets, outputs)

    def terms(self, outputs: tf.Tensor, targets: tf.Tensor) -> list[tf.Tensor]:
        """Rightly decided for, decided for, there."""
        decided = tf.cast(outputs >= 0, tf.float32)  # a probability of 0.5
        return [decided * targets, decided, targets]

    def figures_of(self, count: float, sums: np.ndarray) -> dict[str, float]:
        """macro_f1, micro_f1."""
        right, decided, there = sums
        f1 = 2 * right / np.maximum(decided + there, 1)
        micro = 2 * right.sum() / max((decided + there).sum(), 1)
        return {"macro_f1": float(f1.mean()), "micro_f1": float(micro)}

    def metrics(self, outputs: np.ndarray, labels: np.ndarray) -> TargetMetrics:
        """Of logits and labels [n, C]."""
        return metrics_of_classes(outputs, labels)


@dataclasses.dataclass(frozen=True)
class NumbersObjective(_OfEach):
    """Numbers: the mean squared error, in units of the deviation of the training examples.

    Attributes:
      mean, deviation: float64 [D], of the training examples.
    """

    mean: np.ndarray
    deviation: np.ndarray
    num_sums: ClassVar[int] = 4

    @property
    def width(self) -> int:
        """D."""
        return len(self.mean)

    def losses(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """As `_OfEach`; outputs and targets are in the user's units."""
        # Scaled before they are float32, in which a time stamp is rounded to 128 seconds.
        return tf.square(tf.cast((outputs - targets) / self.deviation, tf.float32))

    def terms(self, outputs: tf.Tensor, targets: tf.Tensor) -> list[tf.Tensor]:
        """Error, its square, target and its square, scaled: their sums lose no digits."""
        error = (outputs - targets) / self.deviation
        target = (targets - self.mean) / self.deviation
        return [tf.abs(error), error * error, target, target * target]

    def figures_of(self, count: float, sums: np.ndarray) -> dict[str, float]:
        """mae, rmse, r2."""
        error, squared, target, squares = sums / count
        variance = squares - target**2
        # As scikit-learn's where all targets are alike.
        without = np.where(squared > 0, 0.0, 1.0)
        r2 = np.where(variance > 0, 1 - squared / np.maximum(variance, 1e-300), without)
        found = {"mae": error * self.deviation, "rmse": np.sqrt(squared) * self.deviation, "r2": r2}
        return {name: float(value.mean()) for name, value in found.items()}

    def metrics(self, outputs: np.ndarray, labels: np.ndarray) -> TargetMetrics:
        """Of numbers and labels [n, D]."""
        return metrics_of_numbers(outputs, labels, self.deviation)


def swap_pairs(rows: tf.Tensor) -> tf.Tensor:
    """[b, ...] with rows 0 and 1, 2 and 3, ... exchanged; b is even."""
    paired = tf.reshape(rows, [-1, 2, *rows.shape[1:]])
    return tf.reshape(tf.reverse(paired, [1]), tf.shape(rows))


def _confusion(labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Counts float64 [C, C] (true class, predicted class) of the rows of weight 1."""
    if logits.shape.rank == 3:  # of several networks
        logits = tf.reduce_logsumexp(tf.nn.log_softmax(logits), 1)
    num_classes = logits.shape[-1]
    true = tf.one_hot(labels, num_classes, dtype=tf.float64)
    predicted = tf.one_hot(tf.argmax(logits, -1), num_classes, dtype=tf.float64)
    return tf.matmul(true * tf.cast(weights, tf.float64)[:, None], predicted, transpose_a=True)
