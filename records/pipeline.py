"""From shards to batches in a defined order: the whole input system in one file.

    shards --records.load--> decoded split --gather by number--> batches (`fit`) or chunks (ours)
                             in memory, or a file mapped into memory
    shards --records.stream, block by block--> decode -------->  the same, without a cache

1. `records.roles` opens a set by directory and decides which records are train, validation
   and test.
2. Decoding happens once: pictures become uint8, texts int32, and one contiguous array holds the
   split (`records.loading.cache` says where it is kept).
3. `records.ordering.order` and `records.ordering.buckets` say which examples a step's batch holds.
A batch is
   gathered from the array by those numbers; no shuffle buffer, nothing to replay, state
   `(seed, epoch, step)`.
4. Without a cache the same numbers are read by offset (`records.loading.stream`) and decoded again.

No other module calls shuffle, repeat, batch, cache or prefetch.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.examples import AnyOrder, Examples, Plan, plan_steps
from records.loading.cache import Filling
from records.loading.stream import read_blocks
from records.ordering.buckets import BucketOrder
from records.ordering.order import Order
from records.system import callbacks
from records.system.memory import recycled_inputs, share
from records.system.threads import num_threads, ordered_map

_ENDLESS = 2**31  # epochs

TakeRows = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def make_batches(
    examples: Examples, order: AnyOrder, epochs: int = 1, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """The batches of the epochs before `epochs`, beginning at (epoch, step) `start`.

    Returns:
      A dataset of (inputs [B, ...], labels int32 [B], weights float32 [B]).
    """
    plan = Plan(examples, order, start, epochs, 1, slice(None))
    if examples.cached is None:
        batches = _block_batches(plan) if plan.has_blocks else _batches(plan, _load_in(examples), 1)
    elif examples.filling is None or examples.filling.done:
        batches = _batches(plan, _take_from(*examples.host_tensors), plan.gathered_together)
    else:
        # The first epoch decodes and fills; the others find the same memory filled.
        first, rest = plan.split()
        tensors = share(examples.cached), share(examples.labels)
        batches = _batches(first, _fill_in(examples.filling, _take_from(*tensors)), 1)
        if rest.start[0] < epochs:
            # A first epoch that began in its middle has left records out.
            finish, together = examples.filling.finish, plan.gathered_together
            following = _batches(rest, _take_from(*tensors), together, finish)
            batches = batches.concatenate(following)
    count = max(0, (epochs - start[0]) * order.steps_per_epoch - start[1])
    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)


def make_arrays(
    examples: Examples, order: AnyOrder, epochs: int = 1, start: tuple[int, int] = (0, 0)
) -> Iterator[tuple[np.ndarray, ...]]:
    """As `make_batches`, as NumPy arrays, without tf.data in between."""
    plan = Plan(examples, order, start, epochs, 1, slice(None))
    in_buckets = isinstance(order, BucketOrder)
    for inputs, labels, weights, _keys, _steps, lengths in _all(plan):
        yield (inputs[:, : lengths[0]] if in_buckets else inputs), labels, weights[0]


def make_chunks(
    examples: Examples, order: AnyOrder, start: tuple[int, int], chunk_steps: int, rows: slice
) -> Iterator[tuple[np.ndarray, ...]]:
    """All steps from (epoch, step) `start` on in chunks of K steps, for one replica, endlessly.

    Args:
      examples, order: what is fed, in which order.
      start: where to begin.
      chunk_steps: K.
      rows: the replica's part of each global batch, b rows.

    Yields:
      (inputs [K * b, ...], labels int32 [K * b], weights float32 [K, b], keys int64 [K, b],
      steps int64, lengths int64 [K]): an epoch's last chunk holds `steps` <= K real steps, the
      rest repeats them at weight 0. Texts are padded to T; step i needs `lengths[i]` of it.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    return _all(Plan(examples, order, start, _ENDLESS, chunk_steps, rows))


def _all(plan: Plan) -> Iterator[tuple[np.ndarray, ...]]:
    """The chunks of a plan, made on threads a little ahead of who takes them."""
    examples = plan.examples
    if examples.cached is None:
        return _loaded(plan)
    if examples.filling is None or examples.filling.done:
        return _gathered(plan)
    first, rest = plan.split()
    return itertools.chain(_loaded(first), _gathered(rest))


def _gathered(plan: Plan) -> Iterator[tuple[np.ndarray, ...]]:
    """The chunks from memory; nothing is done before the first is asked for."""
    inputs, labels = plan.examples.inputs, plan.examples.labels
    assert inputs is not None, "examples without a cache are read, not gathered"

    def gather(chunk: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        numbers, *rest = chunk
        with plan.examples.loader.timed("gather", len(numbers)) as done:
            taken = take(inputs, numbers)
            done.bytes = taken.nbytes
        return taken, labels[numbers], *rest

    yield from ordered_map(gather, plan.all_chunks())


def _batches(
    plan: Plan, take_rows: TakeRows, together: int, prepare: Callable[[], None] = lambda: None
) -> tf.data.Dataset:
    """The batches of a plan of single steps.

    Args:
      plan: which ones.
      take_rows: numbers int64 [..., B] of records -> (inputs [..., B, ...], labels [..., B]).
      together: batches that are taken in one call.
      prepare: is called before steps are planned, for the first time when the first is asked for.
    """

    def fetch(numbers: tf.Tensor, weights: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, ...]:
        inputs, labels = take_rows(numbers)
        return (inputs[:, :length] if in_buckets else inputs), labels, weights

    in_buckets = isinstance(plan.order, BucketOrder)
    # Not AUTOTUNE: more calls at once than cores only hold more memory.
    if in_buckets or together == 1:
        return _planned(plan, prepare).unbatch().map(fetch, num_threads())
    return _planned(plan, prepare).rebatch(together).map(fetch, num_threads()).unbatch()


def _take_from(inputs: tf.Tensor, labels: tf.Tensor) -> TakeRows:
    """Rows of a split in memory."""
    return lambda numbers: (tf.gather(inputs, numbers), tf.gather(labels, numbers))


def _fill_in(filling: Filling, take_rows: TakeRows) -> TakeRows:
    """The same, of a split that is decoded where it was not yet."""

    def fill(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ensured = callbacks.call(filling.ensure, [numbers], tf.int64)
        return take_rows(tf.ensure_shape(ensured, numbers.shape))

    return fill


def _load_in(examples: Examples) -> TakeRows:
    """Rows read by offset and decoded."""
    labels, spec = share(examples.labels), examples.spec

    def load(numbers: np.ndarray) -> np.ndarray:
        inputs = examples.loader.load(numbers.reshape(-1))
        return inputs.reshape(*numbers.shape, *inputs.shape[1:])

    def read(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = callbacks.call(load, [numbers], spec.dtype)
        shape = [*numbers.shape, *spec.shape]
        return tf.ensure_shape(inputs, shape), tf.gather(labels, numbers)

    return read


def take(inputs: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The inputs of the records `numbers`, in memory that TensorFlow can share."""
    taken = recycled_inputs((len(numbers), *inputs.shape[1:]), inputs.dtype)
    # "clip": "raise" would copy once more; the order gives no number beyond the split.
    return np.take(inputs, numbers, axis=0, out=taken, mode="clip")


def load_chunk(examples: Examples, chunk: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """A planned chunk with its inputs and labels, by itself; any thread may call it.

    Args:
      examples: what is fed.
      chunk: a row of `Plan.chunks`.

    Returns:
      As `make_chunks` yields.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    numbers, *rest = chunk
    if examples.filling is not None:
        inputs = take(examples.filling.inputs, examples.filling.ensure(numbers))
    elif examples.cached is not None:
        inputs = take(examples.cached, numbers)
    else:
        inputs = examples.loader.load(numbers)
    return inputs, examples.labels[numbers], *rest


def _block_batches(plan: Plan) -> tf.data.Dataset:
    """Batches whose records are read block by block."""
    spec = plan.examples.spec

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        for inputs, labels, weights, *_ in _loaded(plan):
            yield inputs, labels, weights[0]

    signature = (
        tf.TensorSpec([plan.width, *spec.shape], spec.dtype),
        tf.TensorSpec([plan.width], tf.int32),
        tf.TensorSpec([plan.width], tf.float32),
    )
    return callbacks.from_generator(batches, signature)


def _planned(plan: Plan, prepare: Callable[[], None]) -> tf.data.Dataset:
    """(numbers int64 [n, B], weights float32 [n, B], lengths int64 [n]) of n steps at a time."""

    def call(begin: tf.Tensor) -> tuple[tf.Tensor, ...]:
        def steps(begin: np.ndarray) -> tuple[np.ndarray, ...]:
            prepare()
            numbers, weights, _keys, _steps, lengths = plan.chunks(int(begin[0]), int(begin[1]))
            return numbers, weights[:, 0], lengths[:, 0]

        found = callbacks.call(steps, [begin], (tf.int64, tf.float32, tf.int64))
        shapes = ([None, plan.width], [None, plan.width], [None])
        return tuple(tf.ensure_shape(x, s) for x, s in zip(found, shapes, strict=True))

    (epoch, step), end, stride = plan.start, plan.end_epoch, plan.stride
    blocks = -(-plan.order.steps_per_epoch // stride)
    begins = tf.data.Dataset.range((epoch + 1) * blocks, end * blocks)
    begins = begins.map(lambda p: tf.stack([p // blocks, p % blocks * stride]))
    first = [(epoch, s) for s in range(step, plan.order.steps_per_epoch, stride)]
    if epoch < end and first:
        begins = tf.data.Dataset.from_tensor_slices(np.array(first, np.int64)).concatenate(begins)
    return begins.map(call, num_parallel_calls=1)  # beside what follows, not beside itself


def _loaded(plan: Plan) -> Iterator[tuple[np.ndarray, ...]]:
    """The chunks, read and decoded on a pool of threads; fills the cache, where there is one."""
    examples, filling = plan.examples, plan.examples.filling
    planned = plan.all_chunks()
    if filling is not None:
        yield from ordered_map(functools.partial(load_chunk, examples), planned)
        filling.finish()
        return
    payloads: Iterator[Any] = itertools.repeat(None)  # read by offset
    if plan.has_blocks and isinstance(plan.order, Order):
        planned, again = itertools.tee(planned)
        payloads = _payloads(plan, plan.order, (chunk[0] for chunk in again))

    def load(items: list[tuple[tuple[np.ndarray, ...], Any]]) -> list[tuple[np.ndarray, ...]]:
        numbers = np.concatenate([chunk[0] for chunk, _ in items])
        given = items[0][1] is not None
        read = np.concatenate([p for _, p in items]) if given else examples.loader.read(numbers)
        inputs, labels = examples.loader.finish(numbers, read), examples.labels[numbers]
        size = len(numbers) // len(items)
        parts = [slice(i * size, (i + 1) * size) for i in range(len(items))]
        return [(inputs[p], labels[p], *c[1:]) for p, (c, _) in zip(parts, items, strict=True)]

    # In units, because a call has a cost of its own (epochs of texts in batches of 64 and of
    # vectors in batches of 256 are 3.4 times as fast); the first chunk is not kept waiting, and
    # blocks are not used up faster than they are read.
    rows = plan.chunk_steps * plan.width
    together = 1 if plan.has_blocks else max(1, examples.loader.unit // rows)
    items = zip(planned, payloads)
    units = itertools.chain([list(itertools.islice(items, 1))], _grouped(items, together))
    for loaded in ordered_map(load, filter(None, units)):
        yield from loaded


def _grouped(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last one shorter."""
    return iter(lambda: list(itertools.islice(items, size)), [])


def _payloads(plan: Plan, order: Order, chunks: Iterator[np.ndarray]) -> Iterator[Any]:
    """The records of each chunk, read block by block."""
    examples = plan.examples
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
