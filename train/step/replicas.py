"""Sums over the replicas of a step."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def replica_sum(shape: Any, dtype: Any = tf.float64) -> tf.Variable:
    """Zeros that each replica adds to for itself; read outside them it is the sum of all."""
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def all_reduce(tensors: list[Any]) -> list[Any]:
    """The sums over the replicas, in one reduction for each dtype; of slices all rows together.

    One large message is what NCCL likes; and TensorFlow, joining them itself, would compute their
    sizes on the device, where the host waits for them.
    """
    context, summed = tf.distribute.get_replica_context(), dict[int, Any]()
    dense = []
    for n, tensor in enumerate(tensors):
        if isinstance(tensor, tf.IndexedSlices):
            values, indices = (context.all_gather(x, 0) for x in (tensor.values, tensor.indices))
            summed[n] = tf.IndexedSlices(values, indices, tensor.dense_shape)
        else:
            dense.append(n)
    for dtype in dict.fromkeys(tensors[n].dtype for n in dense):
        own = [n for n in dense if tensors[n].dtype == dtype]
        flat = tf.concat([tf.reshape(tensors[n], [-1]) for n in own], 0)
        flat = context.all_reduce(tf.distribute.ReduceOp.SUM, flat)
        sizes = [tensors[n].shape.num_elements() for n in own]
        for n, part in zip(own, tf.split(flat, sizes), strict=True):
            summed[n] = tf.reshape(part, tensors[n].shape)
    return [summed[n] for n in range(len(tensors))]
