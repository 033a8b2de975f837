"""What a step minimises: cross-entropy with class weights, label smoothing and mixup."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf


class Diverged(ValueError):
    """The training loss became NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of each example.

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
