"""Chunks of K steps for the replicas, from wherever the decoded examples are kept.

A chunk is the same on every cache level: tensors to gather from, and the rows of each step.
On the `device` level the tensors are the whole split, copied once to each replica and passed
to the step as an argument (a captured tensor would be an XLA constant, and on replica 0). On
the other levels they hold the chunk's own examples, gathered on threads while the step runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.examples import PLAN_POSITIONS, AnyOrder, Examples, plan_steps
from records.ordering.buckets import BucketOrder
from records.pipeline import make_chunks
from records.system.memory import recycled_inputs, share
from records.system.threads import ordered_map
from train.devices.strategy import Cluster

# Room in a chunk: the most examples, and steps whatever the batch. How many of them one call runs
# is `Pace`'s choice. A call costs 2 to 4 ms whatever it does (2 processors; `--suite step`, "host
# overhead"): of half a second 0.5 % (gru) to 0.7 % (mlp); of mlp_small at batch 32, whose 5,738
# steps of an epoch take 204 ms, 1.8 %.
_CHUNK_EXAMPLES, _CHUNK_STEPS = 2**18, 64
# An epoch of fewer examples is planned in place, in about 1 ms: a thread would take longer.
_PLANNED_IN_PLACE = 2**13
_HOST_CHUNK_BYTES = 32 * 2**20
_SHARED_BYTES = 2**16  # below it a copy costs less than sharing the memory
# One call lasts about this long: its fixed cost stays below 1 %, and progress, checkpoints and
# signals get their turn twice a second.
_CALL_SECONDS = 0.5

# What gives the chunks: arguments and results as `make_chunks`.
ChunkSource = Callable[
    [Examples, AnyOrder, tuple[int, int], int, slice], Iterator[tuple[np.ndarray, ...]]
]


@dataclasses.dataclass
class Chunk:
    """K steps of every local replica.

    Attributes:
      arrays: per replica (inputs [n, ...], labels int32 [n], rows int64 [K, b], weights
        float32 [K, b], keys int64 [K, b], replica int64 []): step i is made of `rows[i]`.
      counts: float32 [K], real examples of each global batch.
      lengths: int64 [K], ids to which each batch of texts is cut; not used for other inputs.
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
        source: ChunkSource = make_chunks,
    ):
        """Copies the split to the devices where `level` is "device".

        Args:
          examples, order: what is fed, in which order.
          cluster: the replicas.
          level: "device", "memory", "disk" or "none".
          one_length: all steps of a chunk cut their texts to one length, as XLA needs it.
          source: where chunks come from on the other levels.
        """
        self._source = source
        self._one_length = one_length and isinstance(order, BucketOrder)
        self.examples, self.order, self._cluster, self._level = examples, order, cluster, level
        self._slices = cluster.slices(order.global_batch_size)
        width = order.global_batch_size // cluster.num_replicas
        most = max(_CHUNK_STEPS, _CHUNK_EXAMPLES // order.global_batch_size)
        self.chunk_steps = min(most, order.steps_per_epoch)
        if level == "device":
            inputs, labels = examples.host_tensors
            self._caches = [_copy_to(d, inputs, labels) for d in cluster.devices]
        else:
            fitting = max(1, _HOST_CHUNK_BYTES // max(1, examples.example_bytes * width))
            self.chunk_steps = 1 if self._one_length else min(self.chunk_steps, fitting)
        self._position: tuple[int, int] | None = None
        self._planned: tuple[np.ndarray, ...] | None = None
        self._gathered: list[tuple[Any, ...]] = []
        self._left = range(0)
        self._rows = np.arange(self.chunk_steps * width).reshape(self.chunk_steps, width)

    def start(self, epoch: int, step: int = 0) -> None:
        """Goes to a step of an epoch; costs no replay, and nothing where the feed stands there."""
        if self._position != (epoch, step):
            if self._level == "device":
                self._plan_ahead = self._plans(epoch, step)
                self._planned = None
            else:
                self._left = range(0)
                self._iterators = [
                    self._source(self.examples, self.order, (epoch, step), self.chunk_steps, rows)
                    for rows in self._slices
                ]
        self._position = epoch, step

    def take(self, limit: int) -> Chunk | None:
        """The next chunk, of at most `limit` steps; None at the end of the epoch."""
        assert self._position is not None, "start() comes first"
        epoch, step = self._position
        left = self.order.steps_per_epoch - step
        if left == 0:
            self._position = epoch + 1, 0
            return None
        if self._level == "device":
            steps, counts, lengths, replicas = self._take_planned(min(limit, self.chunk_steps))
        else:
            if not self._left:
                self._left = range(min(left, self.chunk_steps))
                self._gathered = [self._next(i) for i in range(len(self._slices))]
            steps, replicas = self._take_gathered(limit)
            counts = self._counts(epoch, step, steps)
            lengths = self._lengths(epoch, step, steps)
        self._position = epoch, step + steps
        arrays = self._distribute(replicas)
        # A batch of damaged examples alone has the loss 0, not 0 / 0.
        counts = self._padded(np.maximum(counts, 1).astype(np.float32))
        return Chunk(arrays, counts, self._padded(lengths), steps)

    def _counts(self, epoch: int, step: int, steps: int) -> np.ndarray:
        """[steps], real examples of each global batch."""
        if self.examples.index.damaged is None:
            return self.order.counts(epoch, step, steps)
        whole = slice(0, self.order.global_batch_size)
        return plan_steps(self.examples, self.order, epoch, step, steps, whole)[1].sum(1)

    def _lengths(self, epoch: int, step: int, steps: int) -> np.ndarray:
        lengths = self.order.lengths(epoch, step, steps)
        if lengths is None:
            lengths = np.full(steps, self.examples.spec.shape[0] or 0, np.int64)
        return lengths

    def _plans(self, epoch: int, step: int) -> Iterator[tuple[np.ndarray, ...]]:
        """What all steps from here on hold, many at once, planned on a thread while steps run."""
        whole, end = slice(0, self.order.global_batch_size), self.order.steps_per_epoch
        stride = max(self.chunk_steps, PLAN_POSITIONS // self.order.global_batch_size)
        begins = (
            (e, s) for e in itertools.count(epoch) for s in range(step * (e == epoch), end, stride)
        )

        def plan(begin: tuple[int, int]) -> tuple[np.ndarray, ...]:
            steps = min(stride, end - begin[1])
            return plan_steps(self.examples, self.order, *begin, steps, whole)

        is_short = end * self.order.global_batch_size <= _PLANNED_IN_PLACE
        return map(plan, begins) if is_short else ordered_map(plan, begins, threads=1)

    def _take_planned(self, limit: int) -> tuple[int, np.ndarray, np.ndarray, list[Any]]:
        """(steps, counts, lengths, rows behind the copy of the split per local replica)."""
        if self._planned is None:
            self._planned = next(self._plan_ahead)
        lengths = self._planned[3]
        if self._one_length:
            other = np.flatnonzero(lengths[:limit] != lengths[0])
            limit = int(other[0]) if len(other) else limit
        steps = min(limit, len(lengths))
        numbers, weights, keys, lengths = (array[:steps] for array in self._planned)
        rest = tuple(array[steps:] for array in self._planned)
        self._planned = rest if len(rest[0]) else None
        replicas = [
            (
                *cache,
                *(self._padded(a[:, rows]) for a in (numbers, weights, keys)),
                self._replica(local),
            )
            for local, (cache, rows) in enumerate(zip(self._caches, self._slices, strict=True))
        ]
        return steps, weights.sum(1), lengths, replicas

    def _padded(self, array: np.ndarray) -> np.ndarray:
        """[steps, ...] in room for K steps, whose rest nobody reads and may hold anything.

        A new shape would be compiled anew. Large rooms are used again and shared with TensorFlow:
        2.6 MB of fresh zeros, copied twice on their way, took 4 ms a call.
        """
        if len(array) == self.chunk_steps and array.nbytes < _SHARED_BYTES:
            return array
        room = recycled_inputs((self.chunk_steps, *array.shape[1:]), array.dtype)
        room[: len(array)] = array
        return room

    def _next(self, local: int) -> tuple[Any, ...]:
        """What the host gathered for K steps; the examples lie on the replica's device."""
        inputs, labels, weights, keys, *_ = next(self._iterators[local])
        device = self._cluster.devices[local]
        return _place(inputs, device), _place(labels, device), self._rows, weights, keys

    def _take_gathered(self, limit: int) -> tuple[int, list[Any]]:
        """(steps, arrays per local replica): the next steps of what the host gathered last."""
        steps = min(limit, len(self._left))
        first = self._left.start
        self._left = self._left[steps:]
        replicas = [
            (
                *examples,
                *(self._padded(a[first : first + steps]) for a in (rows, weights, keys)),
                self._replica(local),
            )
            for local, (*examples, rows, weights, keys) in enumerate(self._gathered)
        ]
        return steps, replicas

    def _replica(self, local: int) -> np.int64:
        return np.int64(self._cluster.first_replica + local)

    def _distribute(self, replicas: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Puts each replica's arrays on its device and joins them to per-replica values."""
        placed = []
        for device, arrays in zip(self._cluster.devices, replicas, strict=True):
            placed.append(tuple(_place(a, device) for a in arrays))
        if self._cluster.num_replicas == 1:
            return placed[0]
        first = self._cluster.first_replica

        def value(context: Any) -> tuple[Any, ...]:
            return placed[context.replica_id_in_sync_group - first]

        joined = self._cluster.strategy.experimental_distribute_values_from_function(value)
        return tuple(joined)


class Pace:
    """How many steps the next call should run, from the time the last ones took.

    A feed gives fewer where an epoch ends, or where a chunk has room for no more.
    """

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
            self.steps = max(1, min(fitting, 8 * self.steps))


def _place(array: Any, device: str) -> tf.Tensor:
    """The array as a tensor on the device; large ones are not copied on the host first."""
    if not (isinstance(array, np.ndarray) and array.nbytes >= _SHARED_BYTES):
        with tf.device(device):
            return tf.convert_to_tensor(array)
    shared = share(array)
    if shared.device.endswith(device):
        return shared
    with tf.device(device):
        return tf.identity(shared)


def _copy_to(device: str, inputs: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.device(device):
        return tf.identity(inputs), tf.identity(labels)
