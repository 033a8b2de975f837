"""From shards to batches in a defined order: the whole input system in one file.

    shards --records.load--> decoded split --gather by number--> batches (`fit`) or chunks (ours)
                             in memory, or a file mapped into memory
    shards --records.stream, block by block--> decode -------->  the same, without a cache

1. `records.data` opens a set by directory and decides which records are train, validation
   and test.
2. Decoding happens once: pictures become uint8, texts int32, and one contiguous array holds the
   split (`records.cache` says where it is kept).
3. `records.order` and `records.buckets` say which examples a step's batch holds. A batch is
   gathered from the array by those numbers; no shuffle buffer, nothing to replay, state
   `(seed, epoch, step)`.
4. Without a cache the same numbers are read by offset (`records.stream`) and decoded again.

No other module calls shuffle, repeat, batch, cache or prefetch.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.buckets import BucketOrder
from records.cache import ALIGNMENT, Filling
from records.index import RecordIndex
from records.load import Loader, num_threads, ordered_map
from records.order import Order
from records.schema import Schema
from records.stream import read_blocks

_ENDLESS = 2**31  # epochs
ORDER_STEPS = 64  # steps whose order is computed in one NumPy call
# Chunks up to this size together are gathered in one call and then cut: a call of TensorFlow's
# costs some 20 us, as much as copying 200 KB. Larger ones are gathered one by one, in parallel.
_GATHER_BYTES = 2**20

AnyOrder = Order | BucketOrder


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one subset of a split, ready to be fed.

    Attributes:
      schema, index: of the split.
      numbers: int64 [n], the subset: record numbers in the split.
      labels: int32 [N], of all records of the split.
      spec: one example's input, without the batch.
      lengths: int64 [N], ids of each record's text, up to T; None for other inputs.
      cached: [N, ...], all records of the split decoded, in memory or mapped into it; None when
        they are not cached. Read it as `inputs`: pictures are decoded while the first epoch goes
        by, or when `inputs` is first asked for.
      loader: reads and decodes records.
      filling: what decodes into `cached`; None where that is done.
    """

    schema: Schema
    index: RecordIndex
    numbers: np.ndarray
    labels: np.ndarray
    spec: tf.TensorSpec
    lengths: np.ndarray | None
    cached: np.ndarray | None
    loader: Loader
    filling: Filling | None = None

    @property
    def inputs(self) -> np.ndarray | None:
        """[N, ...], all records of the split decoded; None when they are not cached."""
        if self.filling is not None:
            self.filling.finish()
        return self.cached

    @property
    def num_examples(self) -> int:
        """n, the examples of the subset."""
        return len(self.numbers)

    @property
    def subset_labels(self) -> np.ndarray:
        """int32 [n], the labels of the subset."""
        return self.labels[self.numbers]

    @property
    def subset_lengths(self) -> np.ndarray | None:
        """int64 [n], ids of the subset's texts; None for other inputs."""
        return None if self.lengths is None else self.lengths[self.numbers]

    @property
    def example_bytes(self) -> int:
        """Bytes of one decoded input."""
        return int(np.prod(self.spec.shape)) * self.spec.dtype.size

    @functools.cached_property
    def host_tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """(inputs [N, ...], labels int32 [N]) as tensors in host memory, or mapped into it."""
        inputs = self.inputs
        assert inputs is not None, "examples without a cache are read, not gathered"
        return share(inputs), share(self.labels)


def share(array: np.ndarray) -> tf.Tensor:
    """A tensor in host memory, on the array's own memory where TensorFlow can use that.

    A copy would double the memory of a cache, and read a mapped file whole.
    """
    usable = array.flags.c_contiguous and array.flags.writeable
    with tf.device("/cpu:0"):
        if usable and array.ctypes.data % ALIGNMENT == 0:
            return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
        return tf.convert_to_tensor(array)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which steps, in which pieces, for which rows: the chunks of one replica.

    Attributes:
      examples, order: what is fed, in which order.
      start: (epoch, step) of the first step.
      end_epoch: the epoch before which it ends.
      chunk_steps: K, steps of a chunk.
      rows: the replica's part of each global batch, b rows.
    """

    examples: Examples
    order: AnyOrder
    start: tuple[int, int]
    end_epoch: int
    chunk_steps: int
    rows: slice

    @property
    def width(self) -> int:
        """b, rows of a replica's batch."""
        return len(range(self.order.global_batch_size)[self.rows])

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the inputs of a chunk."""
        return self.chunk_steps * self.width * self.examples.example_bytes

    @property
    def gathers_together(self) -> bool:
        """Chunks are small: those that are planned in one call are gathered in one, too."""
        return self.chunk_bytes <= _GATHER_BYTES

    def stride(self) -> int:
        """Steps that are planned in one call: whole chunks."""
        chunks = max(1, ORDER_STEPS // self.chunk_steps)
        if self.gathers_together:
            chunks = min(chunks, max(1, _GATHER_BYTES // max(1, self.chunk_bytes)))
        return chunks * self.chunk_steps

    def chunks(self, epoch: int, step: int, stride: int) -> tuple[np.ndarray, ...]:
        """The chunks of up to `stride` steps: (numbers int64 [chunks, K * b] of records,
        weights float32 [chunks, K, b], keys int64 [chunks, K, b], steps int64 [chunks], lengths
        int64 [chunks, K]). A last chunk repeats its steps at weight 0.
        """
        order, k = self.order, self.chunk_steps
        steps = min(stride, order.steps_per_epoch - step)
        arrays = plan_steps(self.examples, order, epoch, step, steps, self.rows)
        chunks = -(-steps // k)
        real = np.full(chunks, k, np.int64)
        real[-1] = steps - (chunks - 1) * k
        tail = np.arange(chunks * k) % steps
        numbers, weights, keys, lengths = (a[tail].reshape(chunks, k, *a.shape[1:]) for a in arrays)
        weights = np.where(np.arange(k)[:, None] < real[:, None, None], weights, 0)
        return numbers.reshape(chunks, -1), weights.astype(np.float32), keys, real, lengths

    def split(self) -> tuple[Plan, Plan]:
        """The rest of the first epoch, and what comes after it."""
        following = min(self.start[0] + 1, self.end_epoch)
        return (
            dataclasses.replace(self, end_epoch=following),
            dataclasses.replace(self, start=(following, 0)),
        )

    def begins(self, stride: int) -> Iterator[tuple[int, int]]:
        """(epoch, step) of every call of `chunks`."""
        for epoch in range(self.start[0], self.end_epoch):
            first = self.start[1] if epoch == self.start[0] else 0
            for step in range(first, self.order.steps_per_epoch, stride):
                yield epoch, step


def plan_steps(
    examples: Examples, order: AnyOrder, epoch: int, step: int, steps: int, rows: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `steps` consecutive steps of one replica hold: all that a batch depends on.

    Returns:
      (numbers int64 [steps, b] of records in the split, weights float32 [steps, b],
      keys int64 [steps, b], lengths int64 [steps] to which texts are cut; 0 for other inputs).
    """
    positions, weights = order.examples(epoch, step, steps)
    keys = order.keys(epoch, step, steps)
    lengths = order.lengths(epoch, step, steps)
    if lengths is None:
        width = examples.spec.shape[0] if examples.lengths is not None else 0
        lengths = np.full(steps, width, np.int64)
    return examples.numbers[positions[:, rows]], weights[:, rows], keys[:, rows], lengths


def make_batches(
    examples: Examples, order: AnyOrder, epochs: int = 1, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """The batches of the epochs before `epochs`, beginning at (epoch, step) `start`.

    Returns:
      A dataset of (inputs [B, ...], labels int32 [B], weights float32 [B]).
    """
    plan = Plan(examples, order, start, epochs, 1, slice(None))
    if examples.cached is None:
        batches = _loaded_batches(plan)
    elif examples.filling is None or examples.filling.done:
        batches = _gathered_batches(plan, examples.host_tensors)
    else:
        # The first epoch decodes and fills; the others find the same memory filled.
        tensors = share(examples.cached), share(examples.labels)
        first, rest = plan.split()
        batches = _loaded_batches(first).concatenate(_gathered_batches(rest, tensors))
    count = max(0, (epochs - start[0]) * order.steps_per_epoch - start[1])
    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)


def make_chunks(
    examples: Examples, order: AnyOrder, start: tuple[int, int], chunk_steps: int, rows: slice
) -> Iterator[tuple[Any, ...]]:
    """All steps from (epoch, step) `start` on in chunks of K steps, for one replica, endlessly.

    Args:
      examples, order: what is fed, in which order.
      start: where to begin.
      chunk_steps: K.
      rows: the replica's part of each global batch, b rows.

    Yields:
      (inputs [K * b, ...], labels int32 [K * b], weights float32 [K, b], keys int64 [K, b],
      steps int64, lengths int64 [K]), tensors or arrays: an epoch's last chunk holds `steps` <= K
      real steps, the rest repeats them at weight 0. Texts are padded to T; step i needs
      `lengths[i]` of it.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    plan = Plan(examples, order, start, _ENDLESS, chunk_steps, rows)
    if examples.cached is None:
        return _loaded(plan)
    if examples.filling is None or examples.filling.done:
        return _gathered_chunks(plan)
    first, rest = plan.split()
    return itertools.chain(_loaded(first), _gathered_chunks(rest))


def _gathered_chunks(plan: Plan) -> Iterator[tuple[Any, ...]]:
    """The chunks from memory; nothing is done before the first is asked for."""
    yield from _gathered(plan, plan.examples.host_tensors, lambda *chunk: chunk).prefetch(2)


def _gathered_batches(plan: Plan, tensors: tuple[tf.Tensor, tf.Tensor]) -> tf.data.Dataset:
    """Batches from memory."""
    # The dots stand for the chunks that are gathered together, where they are.
    batches = _gathered(
        plan, tensors, lambda x, y, w, keys, steps, n: (x, y, w[..., 0, :], n[..., 0])
    )
    if isinstance(plan.order, BucketOrder):
        return batches.map(lambda x, y, w, n: (x[:, :n], y, w), num_threads())
    return batches.map(lambda x, y, w, n: (x, y, w))


def _gathered(
    plan: Plan,
    tensors: tuple[tf.Tensor, tf.Tensor],
    keep: Callable[..., tuple[tf.Tensor, ...]],
) -> tf.data.Dataset:
    """The chunks, gathered from (inputs, labels); `keep` chooses what of each is wanted."""

    def gather(numbers: tf.Tensor, *rest: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return keep(*take(*tensors, numbers), *rest)

    planned = _planned(plan, plan.stride())
    # Not AUTOTUNE: more calls at once than cores only hold more memory.
    if plan.gathers_together:
        return planned.map(gather, num_threads()).unbatch()
    return planned.unbatch().map(gather, num_threads())


def take(inputs: tf.Tensor, labels: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The inputs and labels of the records `numbers`."""
    return tf.gather(inputs, numbers), tf.gather(labels, numbers)


def repeat_batch(batch: np.ndarray, count: int) -> tf.data.Dataset:
    """The same batch again and again: what handing out batches costs."""
    return tf.data.Dataset.from_tensors(batch).repeat(count).prefetch(2)


def _loaded_batches(plan: Plan) -> tf.data.Dataset:
    """Batches that are read and decoded, as a dataset."""
    b, spec = plan.width, plan.examples.spec
    bucketed = isinstance(plan.order, BucketOrder)
    shape = [None] if bucketed else spec.shape

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        for inputs, labels, weights, _keys, _steps, lengths in _loaded(plan):
            yield (inputs[:, : lengths[0]] if bucketed else inputs), labels, weights[0]

    signature = (
        tf.TensorSpec([b, *shape], spec.dtype),
        tf.TensorSpec([b], tf.int32),
        tf.TensorSpec([b], tf.float32),
    )
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def _planned(plan: Plan, stride: int) -> tf.data.Dataset:
    """The results of `plan.chunks`, one call after the other, without a list of all of them."""
    k, b = plan.chunk_steps, plan.width

    def call(begin: tf.Tensor) -> tuple[tf.Tensor, ...]:
        dtypes = (tf.int64, tf.float32, tf.int64, tf.int64, tf.int64)
        found = tf.numpy_function(
            lambda begin: plan.chunks(int(begin[0]), int(begin[1]), stride),
            [begin],
            dtypes,
            stateful=False,
        )
        shapes = ([None, k * b], [None, k, b], [None, k, b], [None], [None, k])
        return tuple(tf.ensure_shape(x, s) for x, s in zip(found, shapes, strict=True))

    (epoch, step), end = plan.start, plan.end_epoch
    blocks = -(-plan.order.steps_per_epoch // stride)
    begins = tf.data.Dataset.range((epoch + 1) * blocks, end * blocks)
    begins = begins.map(lambda p: tf.stack([p // blocks, p % blocks * stride]))
    first = [(epoch, s) for s in range(step, plan.order.steps_per_epoch, stride)]
    if epoch < end and first:
        begins = tf.data.Dataset.from_tensor_slices(np.array(first, np.int64)).concatenate(begins)
    return begins.map(call, num_parallel_calls=1)  # beside what follows, not beside itself


def _loaded(plan: Plan) -> Iterator[tuple[np.ndarray, ...]]:
    """The chunks, read and decoded on a pool of threads; fills the cache, where there is one."""
    examples, stride = plan.examples, plan.stride()
    filling = examples.filling
    planned: Iterator[tuple[np.ndarray, ...]] = (
        tuple(column[i] for column in chunks)
        for epoch, step in plan.begins(stride)
        for chunks in [plan.chunks(epoch, step, stride)]
        for i in range(len(chunks[0]))
    )
    planned, again = itertools.tee(planned)
    payloads = _payloads(plan, (chunk[0] for chunk in again))

    def load(item: tuple[tuple[np.ndarray, ...], Any]) -> tuple[np.ndarray, ...]:
        (numbers, *rest), payload = item
        if filling is not None:
            inputs = filling.load(numbers)
        elif payload is None:
            inputs = examples.loader.load(numbers)
        else:
            inputs = examples.loader.finish(numbers, payload)
        return inputs, examples.labels[numbers], *rest

    yield from ordered_map(load, zip(planned, payloads))
    if filling is not None:
        filling.finish()


def _payloads(plan: Plan, chunks: Iterator[np.ndarray]) -> Iterator[Any]:
    """The records of each chunk where the order has blocks; None: they are read by offset."""
    order, examples = plan.order, plan.examples
    if not isinstance(order, Order) or order.block_size == order.num_examples:
        return itertools.repeat(None)
    if examples.filling is not None:
        return itertools.repeat(None)
    stride = order.block_size // order.global_batch_size

    def blocks() -> Iterator[np.ndarray]:
        for epoch in range(plan.start[0], plan.end_epoch):
            first = plan.start[1] if epoch == plan.start[0] else 0
            while first < order.steps_per_epoch:
                steps = min(stride - first % stride, order.steps_per_epoch - first)
                found = plan_steps(examples, order, epoch, first, steps, plan.rows)
                yield found[0][found[1] > 0]
                first += steps

    return read_blocks(examples.loader, blocks(), chunks)
