"""Chunks of K steps for the replicas, from wherever the decoded examples are kept.

A chunk is the same on every cache level: tensors to gather from, and the rows of each step.
On the `device` level the tensors are the whole split, copied once to each replica and passed
to the step as an argument (a captured tensor would be an XLA constant, and on replica 0). On
the other levels they hold the chunk's own examples, gathered on threads while the step runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.buckets import BucketOrder
from records.examples import AnyOrder, Examples, plan_steps
from records.memory import share
from records.pipeline import make_chunks
from train.strategy import Cluster

# The most steps of one call. Longer calls gain nothing (host overhead is below 1 % at 64 even
# for the smallest model) and would keep signals and checkpoints waiting.
MAX_CHUNK_STEPS = 64
_HOST_CHUNK_BYTES = 32 * 2**20
_SHARED_BYTES = 2**16  # below it a copy costs less than sharing the memory
# One call lasts about this long: host overhead (under 1 ms a call) stays below 1 %, and
# progress, checkpoints and signals get their turn several times a second.
_CALL_SECONDS = 0.25


@dataclasses.dataclass
class Chunk:
    """K steps of every local replica.

    Attributes:
      arrays: per replica (inputs [n, ...], labels int32 [n], rows int64 [K, b], weights
        float32 [K, b], keys int64 [K, b], replica int64 []): step i is made of `rows[i]`.
      counts: float32 [K], real examples of each global batch.
      lengths: int64 [K], ids to which each batch of texts is cut; 0 for other inputs.
      steps: how many of the K steps are real.
    """

    arrays: tuple[Any, ...]
    counts: np.ndarray
    lengths: np.ndarray
    steps: int


class Feed:
    """Feeds the epochs of one subset to the replicas of this process."""

    def __init__(
        self,
        examples: Examples,
        order: AnyOrder,
        cluster: Cluster,
        level: str,
        *,
        one_length: bool = False,
    ):
        """Copies the split to the devices where `level` is "device".

        Args:
          examples, order: what is fed, in which order.
          cluster: the replicas.
          level: "device", "memory", "disk" or "none".
          one_length: all steps of a chunk cut their texts to one length, as XLA needs it.
        """
        self._one_length = one_length and isinstance(order, BucketOrder)
        self.examples, self.order, self._cluster, self._level = examples, order, cluster, level
        self._slices = cluster.slices(order.global_batch_size)
        width = order.global_batch_size // cluster.num_replicas
        self.chunk_steps = min(MAX_CHUNK_STEPS, order.steps_per_epoch)
        if level == "device":
            inputs, labels = examples.host_tensors
            self._caches = [_copy_to(d, inputs, labels) for d in cluster.devices]
        else:
            fitting = max(1, _HOST_CHUNK_BYTES // max(1, examples.example_bytes * width))
            self.chunk_steps = 1 if self._one_length else min(self.chunk_steps, fitting)
        self._position: tuple[int, int] | None = None
        self._rows = np.arange(self.chunk_steps * width).reshape(self.chunk_steps, width)

    def start(self, epoch: int, step: int = 0) -> None:
        """Goes to a step of an epoch; costs no replay, and nothing where the feed stands there."""
        if self._level != "device" and self._position != (epoch, step):
            self._iterators = [
                make_chunks(self.examples, self.order, (epoch, step), self.chunk_steps, rows)
                for rows in self._slices
            ]
        self._position = epoch, step

    def take(self, limit: int) -> Chunk | None:
        """The next chunk: up to `limit` steps from the device cache, K steps from the host;
        None at the end of the epoch.
        """
        assert self._position is not None, "start() comes first"
        epoch, step = self._position
        left = self.order.steps_per_epoch - step
        if left == 0:
            self._position = epoch + 1, 0
            return None
        if self._level == "device":
            steps = self._alike(epoch, step, min(left, limit, self.chunk_steps))
            replicas = self._plan(epoch, step, steps)
        else:
            steps = min(left, self.chunk_steps)
            replicas = [self._next(i) for i in range(len(self._slices))]
        self._position = epoch, step + steps
        counts = self.order.counts(epoch, step, steps).astype(np.float32)
        lengths = self.order.lengths(epoch, step, steps)
        if lengths is None:
            lengths = np.full(steps, self.examples.spec.shape[0] or 0, np.int64)
        arrays = self._distribute(replicas)
        return Chunk(arrays, self._padded(counts), self._padded(lengths), steps)

    def _alike(self, epoch: int, step: int, steps: int) -> int:
        """How many of the next `steps` steps may be one chunk."""
        lengths = self.order.lengths(epoch, step, steps) if self._one_length else None
        if lengths is None:
            return steps
        other = np.flatnonzero(lengths != lengths[0])
        return int(other[0]) if len(other) else steps

    def _plan(self, epoch: int, step: int, steps: int) -> list[tuple[Any, ...]]:
        """The rows of each local replica's next chunk, behind its copy of the split."""
        whole = slice(0, self.order.global_batch_size)
        planned = plan_steps(self.examples, self.order, epoch, step, steps, whole)[:3]
        return [
            (*cache, *(self._padded(a[:, rows]) for a in planned), self._replica(local))
            for local, (cache, rows) in enumerate(zip(self._caches, self._slices, strict=True))
        ]

    def _padded(self, array: np.ndarray) -> np.ndarray:
        """[steps, ...] repeated to [K, ...]."""
        if len(array) == self.chunk_steps:
            return array
        return np.resize(array, (self.chunk_steps, *array.shape[1:]))

    def _next(self, local: int) -> tuple[Any, ...]:
        inputs, labels, weights, keys, *_ = next(self._iterators[local])
        return inputs, labels, self._rows, weights, keys, self._replica(local)

    def _replica(self, local: int) -> np.int64:
        return np.int64(self._cluster.first_replica + local)

    def _distribute(self, replicas: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Puts each replica's arrays on its device and joins them to per-replica values."""
        placed = []
        for device, arrays in zip(self._cluster.devices, replicas, strict=True):
            with tf.device(device):
                placed.append(tuple(_place(a) for a in arrays))
        if self._cluster.num_replicas == 1:
            return placed[0]
        first = self._cluster.first_replica

        def value(context: Any) -> tuple[Any, ...]:
            return placed[context.replica_id_in_sync_group - first]

        joined = self._cluster.strategy.experimental_distribute_values_from_function(value)
        return tuple(joined)


class Pace:
    """How many steps the next call should run, from the time the last ones took."""

    def __init__(self) -> None:
        """Begins with single steps: the first call compiles, the second is measured."""
        self.steps = 1
        self._calls = 0

    @contextlib.contextmanager
    def timed(self, steps: int) -> Iterator[None]:
        """Times a call of `steps` steps."""
        start = time.perf_counter()
        yield
        self._calls += 1
        if self._calls > 1:
            per_step = max((time.perf_counter() - start) / steps, 1e-9)
            fitting = int(_CALL_SECONDS / per_step)
            self.steps = max(1, min(MAX_CHUNK_STEPS, fitting, 8 * self.steps))


def _place(array: Any) -> tf.Tensor:
    """The array as a tensor on the device in scope; large ones are not copied on the host first."""
    is_large = isinstance(array, np.ndarray) and array.nbytes >= _SHARED_BYTES
    return tf.identity(share(array)) if is_large else tf.convert_to_tensor(array)


def _copy_to(device: str, inputs: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.device(device):
        return tf.identity(inputs), tf.identity(labels)
