"""Precision policies and the dynamic loss scale of mixed_float16."""

from __future__ import annotations

import keras
import tensorflow as tf

# As in Keras's LossScaleOptimizer, like the number below.
_INITIAL_SCALE = 2.0**15
_GROWTH_STEPS = 2000  # finite steps before the scale doubles, as in Keras's LossScaleOptimizer


def set_precision(precision: str) -> None:
    """Sets Keras's global dtype policy: variables float32, arithmetic as named."""
    keras.config.set_dtype_policy(precision)


class LossScale:
    """A dynamic loss scale: halves on overflow, doubles after 2000 finite steps.

    Keras's LossScaleOptimizer reads finiteness from replica 0 alone; here the caller passes the
    finiteness of the reduced gradients, which is the same on every replica.
    """

    def __init__(self) -> None:
        """Makes the two variables; call it in the strategy's scope."""
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.scale = tf.Variable(_INITIAL_SCALE, trainable=False, aggregation=first)
        self.finite_steps = tf.Variable(0.0, trainable=False, aggregation=first)

    def update(self, finite: tf.Tensor) -> None:
        """Records one step: `finite` bool []; call it in cross-replica context."""
        steps = tf.where(finite, self.finite_steps + 1, 0)
        grow = steps >= _GROWTH_STEPS
        scale = tf.where(finite, self.scale * 1.0, tf.maximum(self.scale / 2, 1.0))
        self.scale.assign(tf.where(grow, scale * 2, scale))
        self.finite_steps.assign(tf.where(grow, 0.0, steps))
