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
    sizes on the device, where the host waits for them. So does its `all_gather`: rows are gathered
    by it only where the graph does not tell how many there are.
    """
    context, parts = tf.distribute.get_replica_context(), list[Any]()
    for tensor in tensors:
        if not isinstance(tensor, tf.IndexedSlices):
            parts.append(tensor)
        elif tensor.values.shape.is_fully_defined():
            # GPUs cannot cut a sum of int64 into parts again; float64 is exact up to 2^53.
            indices = tf.cast(tensor.indices, tf.float64)
            parts += [_among_zeros(x, context) for x in (tensor.values, indices)]
    for dtype in dict.fromkeys(part.dtype for part in parts):
        own = [n for n, part in enumerate(parts) if part.dtype == dtype]
        flat = tf.concat([tf.reshape(parts[n], [-1]) for n in own], 0)
        flat = context.all_reduce(tf.distribute.ReduceOp.SUM, flat)
        sizes = [parts[n].shape.num_elements() for n in own]
        for n, part in zip(own, tf.split(flat, sizes), strict=True):
            parts[n] = tf.reshape(part, parts[n].shape)
    summed, found = iter(parts), []  # in the order of `parts`: one of a tensor, two of slices
    for tensor in tensors:
        if not isinstance(tensor, tf.IndexedSlices):
            found.append(next(summed))
            continue
        pair = tensor.values, tensor.indices
        if tensor.values.shape.is_fully_defined():
            values, indices = next(summed), tf.cast(next(summed), tf.int64)
        else:
            values, indices = (context.all_gather(x, 0) for x in pair)
        found.append(tf.IndexedSlices(values, indices, tensor.dense_shape))
    return found


def _among_zeros(rows: tf.Tensor, context: Any) -> tf.Tensor:
    """[replicas * n, ...] with the replica's rows [n, ...] in their place: the sum has all rows."""
    count, (size, *shape) = context.num_replicas_in_sync, rows.shape
    is_own = tf.equal(tf.range(count), context.replica_id_in_sync_group)
    is_own = tf.reshape(is_own, [count] + [1] * len(rows.shape))
    # Chosen, not multiplied: NaN stays where it is.
    chosen = tf.where(is_own, rows[None], tf.zeros([], rows.dtype))
    return tf.reshape(chosen, [count * size, *shape])
