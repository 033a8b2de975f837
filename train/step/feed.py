"""Chunks of K steps for the replicas, whatever keeps the decoded examples.

A chunk has the same form on every cache level: tensors to gather from, and the rows of each step.
`DeviceFeed`: the tensors are the whole split, copied once to each replica and passed to the step
as an argument (a captured tensor would be an XLA constant, and on replica 0). `HostFeed`: they
hold the chunk's own examples, gathered on threads while the step runs.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
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
from train.step.rows import pack_rows

# Room in a chunk: the most examples, and steps whatever the batch. How many of them one call runs
# is `Pace`'s choice. A call costs 2 to 4 ms whatever it does (2 processors; `--suite step`, "host
# overhead"): of half a second 0.5 % (gru) to 0.7 % (mlp); of mlp_small at batch 32, whose 5,738
# steps of an epoch take 204 ms, 1.8 %.
_CHUNK_EXAMPLES, _CHUNK_STEPS = 2**18, 64
# An epoch of fewer examples is planned in place, in about 1 ms: a thread would take longer.
_PLANNED_IN_PLACE = 2**13
_HOST_CHUNK_BYTES = 32 * 2**20
_SHARED_BYTES = 2**16  # below it a copy costs less than sharing the memory

# What gives the chunks: arguments and results as `make_chunks`.
ChunkSource = Callable[
    [Examples, AnyOrder, tuple[int, int], int, slice], Iterator[tuple[np.ndarray, ...]]
]
# (steps, counts [steps], lengths [steps], `Chunk.arrays` for each local replica)
_Taken = tuple[int, np.ndarray, np.ndarray, list[tuple[Any, ...]]]


@dataclasses.dataclass
class Chunk:
    """K steps of every local replica.

    Attributes:
      arrays: per replica (inputs [n, ...] as `pack_rows` gives them, labels int64 [n], float32 or
        float64 [n, C], rows int64 [K, b], weights float32 [K, b], keys int64 [K, b]): step i is
        made of `rows[i]`.
      counts: float32 [K], real examples of each global batch.
      lengths: int32 [K], ids to which each batch of texts is cut; not used for other inputs.
      steps: how many of the K steps are real.
    """

    arrays: tuple[Any, ...]
    counts: np.ndarray
    lengths: np.ndarray
    steps: int


class Feed(abc.ABC):
    """Feeds the epochs of one subset to the replicas of this process.

    Attributes:
      examples, order: what is fed, in which order.
      chunk_steps: K, the room of every chunk.
    """

    def __init__(self, examples: Examples, order: AnyOrder, cluster: Cluster, chunk_steps: int):
        """See the attributes; `cluster` holds the replicas. `make_feed` chooses the class."""
        self.examples, self.order, self._cluster = examples, order, cluster
        self.chunk_steps = chunk_steps
        self._slices = cluster.slices(order.global_batch_size)
        self._position: tuple[int, int] | None = None

    @abc.abstractmethod
    def _go_to(self, epoch: int, step: int) -> None:
        """Makes `step` of `epoch` the next one to be taken."""

    @abc.abstractmethod
    def _take(self, epoch: int, step: int, limit: int) -> _Taken:
        """At most `limit` steps from here on."""

    def start(self, epoch: int, step: int = 0) -> None:
        """Goes to a step of an epoch; costs no replay, and nothing where the feed stands there."""
        if self._position != (epoch, step):
            self._go_to(epoch, step)
        self._position = epoch, step

    def take(self, limit: int) -> Chunk | None:
        """The next chunk, of at most `limit` steps; None at the end of the epoch."""
        assert self._position is not None, "start() comes first"
        epoch, step = self._position
        if step == self.order.steps_per_epoch:
            self._position = epoch + 1, 0
            return None
        steps, counts, lengths, replicas = self._take(epoch, step, limit)
        self._position = epoch, step + steps
        arrays = self._distribute(replicas)
        # A batch of damaged examples alone has the loss 0, not 0 / 0.
        counts = self._padded(np.maximum(counts, 1).astype(np.float32))
        return Chunk(arrays, counts, self._padded(lengths.astype(np.int32)), steps)

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


class DeviceFeed(Feed):
    """Rows into a copy of the whole split that lies on each device: only numbers are sent."""

    def __init__(
        self, examples: Examples, order: AnyOrder, cluster: Cluster, steps: int, one_length: bool
    ):
        """Copies the split to the devices; `one_length` as `make_feed`."""
        super().__init__(examples, order, cluster, steps)
        self._one_length = one_length
        inputs = examples.inputs
        assert inputs is not None, "examples without a cache are read, not gathered"
        # Shared once: on a CPU device the cache is this memory, not a copy of it.
        cache = share(pack_rows(inputs)), share(_targets(examples.split_labels))
        self._caches = [_copy_to(device, *cache) for device in cluster.devices]
        # Plans of steps: (rows, weights, keys [steps, B], lengths [steps]), and what is left of
        # the newest one.
        self._plan_ahead: Iterator[tuple[np.ndarray, ...]] = iter(())
        self._planned: tuple[np.ndarray, ...] | None = None

    def _go_to(self, epoch: int, step: int) -> None:
        self._plan_ahead = self._plans(epoch, step)
        self._planned = None

    def _plans(self, epoch: int, step: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Plans of all steps from here on, many steps each, made on a thread while others run."""
        whole, end = slice(0, self.order.global_batch_size), self.order.steps_per_epoch
        planned_steps = max(self.chunk_steps, PLAN_POSITIONS // self.order.global_batch_size)
        begins = (
            (e, s)
            for e in itertools.count(epoch)
            for s in range(step * (e == epoch), end, planned_steps)
        )

        def plan(begin: tuple[int, int]) -> tuple[np.ndarray, ...]:
            steps = min(planned_steps, end - begin[1])
            return plan_steps(self.examples, self.order, *begin, steps, whole)

        is_short = end * self.order.global_batch_size <= _PLANNED_IN_PLACE
        return map(plan, begins) if is_short else ordered_map(plan, begins, threads=1)

    def _take(self, epoch: int, step: int, limit: int) -> _Taken:
        if self._planned is None:
            self._planned = next(self._plan_ahead)
        lengths, limit = self._planned[3], min(limit, self.chunk_steps)
        if self._one_length:
            other = np.flatnonzero(lengths[:limit] != lengths[0])
            limit = int(other[0]) if len(other) else limit
        steps = min(limit, len(lengths))
        numbers, weights, keys, lengths = (array[:steps] for array in self._planned)
        rest = tuple(array[steps:] for array in self._planned)
        self._planned = rest if len(rest[0]) else None
        replicas = [
            (*cache, *(self._padded(a[:, rows]) for a in (numbers, weights, keys)))
            for cache, rows in zip(self._caches, self._slices, strict=True)
        ]
        return steps, weights.sum(1), lengths, replicas


class HostFeed(Feed):
    """The examples themselves, gathered on threads from memory, disk, shards or other machines."""

    def __init__(
        self, examples: Examples, order: AnyOrder, cluster: Cluster, steps: int, source: ChunkSource
    ):
        """Gathers nothing before `start`; `source` as `make_feed`."""
        super().__init__(examples, order, cluster, steps)
        self._source = source
        # Chunks to come: of each, per local replica, what `_place_chunk` gives.
        self._placed: Iterator[list[tuple[Any, ...]]] = iter(())
        # What was gathered last, per local replica, and which of its steps are left.
        self._gathered: list[tuple[Any, ...]] = []
        self._left = range(0)
        width = order.global_batch_size // cluster.num_replicas
        # Examples are gathered in the order of the steps: step i has the rows from i * width on.
        self._rows = np.arange(steps * width).reshape(steps, width)

    def _go_to(self, epoch: int, step: int) -> None:
        self._left = range(0)
        devices, numbers = self._cluster.devices, self._rows
        chunks = [
            self._source(self.examples, self.order, (epoch, step), self.chunk_steps, rows)
            for rows in self._slices
        ]

        def place(_: int) -> list[tuple[Any, ...]]:
            pairs = zip(chunks, devices, strict=True)
            return [_place_chunk(next(own), numbers, device) for own, device in pairs]

        # TensorFlow lets a copy to a GPU wait for what was started there before, and the thread for
        # the copy. So it has a thread of its own, and is done one chunk ahead.
        ahead = functools.partial(ordered_map, threads=1) if self._cluster.accelerator else map
        self._placed = ahead(place, itertools.count())

    def _take(self, epoch: int, step: int, limit: int) -> _Taken:
        if not self._left:
            self._left = range(min(self.order.steps_per_epoch - step, self.chunk_steps))
            self._gathered = next(self._placed)
        steps, first = min(limit, len(self._left)), self._left.start
        self._left = self._left[steps:]
        replicas = [
            (*examples, *(self._padded(a[first : first + steps]) for a in (rows, weights, keys)))
            for *examples, rows, weights, keys in self._gathered
        ]
        return steps, self._counts(epoch, step, steps), self._lengths(epoch, step, steps), replicas

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


def make_feed(
    examples: Examples,
    order: AnyOrder,
    cluster: Cluster,
    level: str,
    *,
    one_length: bool = False,
    source: ChunkSource = make_chunks,
) -> Feed:
    """A feed from wherever the decoded examples are kept; the batches are the same everywhere.

    Args:
      examples, order: what is fed, in which order.
      cluster: the replicas.
      level: "device" copies the split to the devices; "memory", "disk" and "none" gather on the
        host.
      one_length: all steps of a chunk cut their texts to one length, as XLA needs it.
      source: where chunks come from when the host gathers them.
    """
    one_length = one_length and isinstance(order, BucketOrder)
    most = max(_CHUNK_STEPS, _CHUNK_EXAMPLES // order.global_batch_size)
    most = min(most, order.steps_per_epoch)
    if level == "device":
        return DeviceFeed(examples, order, cluster, most, one_length)
    width = order.global_batch_size // cluster.num_replicas
    fitting = max(1, _HOST_CHUNK_BYTES // max(1, examples.example_bytes * width))
    # Of buckets each step may have another length: only a chunk of one step never mixes two.
    return HostFeed(examples, order, cluster, 1 if one_length else min(most, fitting), source)


def _targets(labels: np.ndarray) -> np.ndarray:
    """Classes in int64, because int32 would lie on the host; others as they are."""
    return labels.astype(np.int64, copy=False) if labels.dtype == np.int32 else labels


def _place_chunk(chunk: tuple[np.ndarray, ...], rows: np.ndarray, device: str) -> tuple[Any, ...]:
    """What the host gathered for K steps of a replica; the examples lie on its device."""
    inputs, labels, weights, keys, *_ = chunk
    inputs, labels = (_place(a, device) for a in (pack_rows(inputs), _targets(labels)))
    return inputs, labels, rows, weights, keys


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
