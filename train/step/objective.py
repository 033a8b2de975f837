"""What a step minimises and counts: cross-entropy with class weights, label smoothing and mixup."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from train.measures.metrics import metrics_from_confusion
from train.step.replicas import replica_sum


class Diverged(ValueError):
    """The training loss became NaN or infinite."""


class AnyObjective(Protocol):
    """What a step needs of an objective. Sums are those of a replica's rows until they are read."""

    def make_totals(self) -> list[tf.Variable]:
        """The epoch's sums besides the loss; call it in the strategy's scope."""

    def form_inputs(self, taken: tf.Tensor) -> Any:
        """What the model takes, of the rows of a batch as `take_rows` gives them."""

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
class Objective:
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
        """float32 [b] of logits float32 [b, C] and labels int32 [b].

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

    def form_inputs(self, taken: tf.Tensor) -> tf.Tensor:
        """The rows themselves."""
        return taken

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

    def _of_label(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        if len(logits.shape) == 3:
            each = [self._of_label(one, labels) for one in tf.unstack(logits, axis=1)]
            return tf.reduce_mean(tf.stack(each), 0)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if self.label_smoothing:
            evenly = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
            losses = (1.0 - self.label_smoothing) * losses + self.label_smoothing * evenly
        return losses * tf.gather(self.class_weights, labels)


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
