"""BatchNorm whose statistics are those of the global batch's real examples.

Keras's layer takes them over a replica's rows, padding included; `synchronized=True` adds up the
replicas but still counts rows of weight 0. Here only the method that computes the moments is
replaced, on the layers of a model in training: the model itself stays plain Keras, saved and
loaded as ever.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from train.step.keras_private import all_layers, replace_moments

# Each replica of a MirroredStrategy is traced in a thread of its own.
_current = threading.local()


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The BatchNorm layers of a model that use the statistics of the batch in training."""
    found = [
        layer
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    return list(dict.fromkeys(found))  # a layer that is called twice stands in the list twice


def count_rows(model: keras.Model, num_replicas: int) -> None:
    """Lets the BatchNorm layers in training count each row by its weight, over all replicas.

    Call the model inside `row_weights` then.
    """
    for layer in batch_norms(model):
        replace_moments(layer, functools.partial(_moments, layer, num_replicas))


@contextlib.contextmanager
def row_weights(weights: tf.Tensor) -> Iterator[None]:
    """The rows' weights float32 [b] (0: padding) for the model calls inside."""
    _current.weights = weights
    try:
        yield
    finally:
        del _current.weights


def _moments(
    layer: keras.layers.BatchNormalization, num_replicas: int, inputs: tf.Tensor, mask: None
) -> tuple[tf.Tensor, tf.Tensor]:
    """(mean, variance) float32 [D] of inputs [b, ..., D] over all rows of weight 1.

    The sums are taken of x - moving mean: one reduction gives both, and they cancel little once the
    moving mean is near the mean.
    Without any real row (an empty last piece) the moving statistics are returned, and so kept.
    """
    channel = layer.axis % len(inputs.shape)
    axes = [axis for axis in range(len(inputs.shape)) if axis != channel]
    width = inputs.shape[layer.axis]
    shape = [1] * len(inputs.shape)
    shape[layer.axis] = width
    shift = tf.cast(layer.moving_mean.value, inputs.dtype)
    weights = tf.cast(_current.weights > 0, inputs.dtype)
    weights = tf.reshape(weights, [-1, *[1] * (len(inputs.shape) - 1)])
    x = inputs - tf.reshape(shift, shape)
    first, second = tf.reduce_sum(x * weights, axes), tf.reduce_sum(tf.square(x) * weights, axes)
    # Values of a channel in one row: 1 of vectors, H * W of pictures.
    each = np.prod(inputs.shape[1:]) / width
    sums = tf.concat([first, second, [tf.reduce_sum(weights) * each]], 0)
    if num_replicas > 1:
        context = tf.distribute.get_replica_context()
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
    count = tf.maximum(sums[-1], 1.0)
    mean = sums[:width] / count
    variance = tf.maximum(sums[width:-1] / count - tf.square(mean), 0.0)
    kept = tf.cast(layer.moving_variance.value, inputs.dtype)
    return shift + mean, tf.where(sums[-1] > 0, variance, kept)
