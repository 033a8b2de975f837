"""Chunks of K steps for the replicas, from wherever the decoded examples are kept.

A chunk is the same on every cache level: tensors to gather from, and the rows of each step.
On the `device` level the tensors are the whole split, copied once to each replica and passed
to the step as an argument (a captured tensor would be an XLA constant, and on replica 0). On
the other levels they hold the chunk's own examples, made by tf.data while the step runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.order import Order
from records.pipeline import Examples, make_chunks, plan_steps
from train.strategy import Cluster

# The most steps of one call. Longer calls gain nothing (host overhead is below 1 % at 64 even
# for the smallest model) and would keep signals and checkpoints waiting.
MAX_CHUNK_STEPS = 64
_HOST_CHUNK_BYTES = 32 * 2**20
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
      steps: how many of the K steps are real.
    """

    arrays: tuple[Any, ...]
    counts: np.ndarray
    steps: int


class Feed:
    """Feeds the epochs of one subset to the replicas of this process."""

    def __init__(self, examples: Examples, order: Order, cluster: Cluster, level: str):
        """Copies the split to the devices where `level` is "device".

        Args:
          examples, order: what is fed, in which order.
          cluster: the replicas.
          level: "device", "memory" or "none".
        """
        self.examples, self.order, self._cluster, self._level = examples, order, cluster, level
        self._slices = cluster.slices(order.global_batch_size)
        width = order.global_batch_size // cluster.num_replicas
        self.chunk_steps = min(MAX_CHUNK_STEPS, order.steps_per_epoch)
        if level == "device":
            inputs, labels = examples.host_tensors
            self._caches = [_copy_to(d, inputs, labels) for d in cluster.devices]
        else:
            row_bytes = int(np.prod(examples.spec.shape)) * examples.spec.dtype.size
            fitting = max(1, _HOST_CHUNK_BYTES // max(1, row_bytes * width))
            self.chunk_steps = min(self.chunk_steps, fitting)
        self._position: tuple[int, int] | None = None
        self._rows = np.arange(self.chunk_steps * width).reshape(self.chunk_steps, width)

    def start(self, epoch: int, step: int = 0) -> None:
        """Goes to a step of an epoch; costs no replay, and nothing where the feed stands there."""
        if self._level != "device" and self._position != (epoch, step):
            self._iterators = [
                iter(make_chunks(self.examples, self.order, (epoch, step), self.chunk_steps, rows))
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
            steps = min(left, limit, self.chunk_steps)
            replicas = [self._plan(i, epoch, step, steps) for i in range(len(self._slices))]
        else:
            steps = min(left, self.chunk_steps)
            replicas = [self._next(i) for i in range(len(self._slices))]
        self._position = epoch, step + steps
        return Chunk(self._distribute(replicas), self._counts(step), steps)

    def _plan(self, local: int, epoch: int, step: int, steps: int) -> tuple[Any, ...]:
        rows = self._slices[local]
        planned = plan_steps(self.examples, self.order, epoch, step, steps, rows)
        padded = (np.resize(a, (self.chunk_steps, *a.shape[1:])) for a in planned)
        return (*self._caches[local], *padded, self._replica(local))

    def _next(self, local: int) -> tuple[Any, ...]:
        inputs, labels, weights, keys, _ = next(self._iterators[local])
        return inputs, labels, self._rows, weights, keys, self._replica(local)

    def _replica(self, local: int) -> np.int64:
        return np.int64(self._cluster.first_replica + local)

    def _counts(self, step: int) -> np.ndarray:
        size = self.order.global_batch_size
        first = (step + np.arange(self.chunk_steps)) * size
        counts = np.clip(self.order.num_examples - first, 0, size)
        return np.maximum(counts, 1).astype(np.float32)

    def _distribute(self, replicas: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Puts each replica's arrays on its device and joins them to per-replica values."""
        placed = []
        for device, arrays in zip(self._cluster.devices, replicas, strict=True):
            with tf.device(device):
                placed.append(tuple(tf.convert_to_tensor(a) for a in arrays))
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


def _copy_to(device: str, inputs: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.device(device):
        return tf.identity(inputs), tf.identity(labels)
