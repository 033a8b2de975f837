"""From shards to batches in a defined order: the stations of the input system.

    shards --records.loading.load--> decoded split --gather by number--> batches or chunks
                                     in memory, or a file mapped into memory
    shards --records.loading.stream, block by block--> decode ---------> the same, without a cache

1. `records.roles` opens a set by directory and decides which records are train, validation
   and test.
2. Decoding happens once: pictures become uint8, texts int32, and one contiguous array holds the
   split (`records.loading.cache` says where it is kept).
3. `records.ordering.order` and `records.ordering.buckets` say which examples a step's batch holds.
   A batch is gathered from the array by those numbers. There is no shuffle buffer and nothing to
   replay: the whole state is `(seed, epoch, step)`.
4. Without a cache the same numbers are read by offset, or block by block
   (`records.loading.stream`), and decoded again.

`make_batches` gives the single steps of an epoch as a `tf.data.Dataset`, for Keras `fit`;
`make_arrays` the same as NumPy arrays; `make_chunks` several steps at once, for our own loop.
`records.chunks` makes the last two. No other module calls shuffle, repeat, batch, cache or
prefetch.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from records.chunks import iterate_chunks
from records.examples import AnyOrder, Examples, Plan
from records.loading.cache import Filling
from records.ordering.buckets import BucketOrder
from records.system import callbacks
from records.system.memory import share
from records.system.threads import num_threads

# No run gets there, and it still fits the integers of `range`.
_ENDLESS = 2**31  # epochs
# All is fixed here. The thread of AUTOTUNE sleeps for ever longer times and often misses the end of
# a pass, whose iterator waits: 16 of 39 streamed epochs of pictures took up to twice the time.
_FIXED = tf.data.Options()
_FIXED.autotune.enabled = False

# AutoGraph would look for loops in the source of each function, and none has one: the first dataset
# of a process took 0.58 s of processor time with it, and takes 0.14 s.
_not_rewritten = tf.autograph.experimental.do_not_convert

TakeRows = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def make_batches(
    examples: Examples, order: AnyOrder, first_epoch: int = 0, pad: bool = True
) -> tf.data.Dataset:
    """The batches of one epoch; every pass over the dataset gives those of the next epoch.

    They are (inputs [B, ...], labels int32 [B], weights float32 [B]), of which the weights tell the
    rows that pad the last batch; without `pad` (inputs [b, ...], labels int32 [b]), b <= B.
    """
    epochs = itertools.count(first_epoch)
    plan = Plan(examples, order, (first_epoch, 0), first_epoch + 1, 1, slice(None))
    if examples.cached is None and plan.has_blocks:
        batches = _block_batches(plan, epochs, pad)
    elif examples.cached is None:
        batches = _batches(plan, epochs, _load_in(examples), pad)
    elif examples.filling is None or examples.filling.done:
        batches = _gather(plan, epochs, _take_from(*examples.host_tensors), pad)
    else:
        take_rows = _take_from(share(examples.cached), share(examples.split_labels))
        batches = _batches(plan, epochs, take_rows, pad, examples.filling)
    # tf.data cannot count through Python calls, and `fit` shows no progress without a length.
    count = order.steps_per_epoch
    counted = batches.apply(tf.data.experimental.assert_cardinality(count))
    return counted.prefetch(2).with_options(_FIXED)


def make_arrays(
    examples: Examples,
    order: AnyOrder,
    epochs: int = 1,
    start: tuple[int, int] = (0, 0),
    pad: bool = True,
) -> Iterator[tuple[np.ndarray, ...]]:
    """As `make_batches`, as NumPy arrays, without tf.data in between.

    Args:
      epochs, start: the epochs before `epochs`, beginning at (epoch, step) `start`.
    """
    plan = Plan(examples, order, start, epochs, 1, slice(None))
    in_buckets = isinstance(order, BucketOrder)
    for inputs, labels, weights, _keys, _steps, lengths in iterate_chunks(plan):
        inputs = inputs[:, : lengths[0]] if in_buckets else inputs
        # A chunk of one step: its weights are [1, B].
        rows = np.count_nonzero(weights)
        yield (inputs, labels, weights[0]) if pad else (inputs[:rows], labels[:rows])


def make_chunks(
    examples: Examples, order: AnyOrder, start: tuple[int, int], chunk_steps: int, rows: slice
) -> Iterator[tuple[np.ndarray, ...]]:
    """All steps from (epoch, step) `start` on in chunks of K steps, for one replica, endlessly.

    Args:
      chunk_steps: K.
      rows: the replica's part of each global batch, b rows.

    Yields:
      (inputs [K * b, ...], labels int32 [K * b], weights float32 [K, b], keys int64 [K, b],
      steps int64, lengths int64 [K]): an epoch's last chunk holds `steps` <= K real steps, the
      rest repeats them at weight 0. Texts are padded to T; step i needs `lengths[i]` of it.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    return iterate_chunks(Plan(examples, order, start, _ENDLESS, chunk_steps, rows))


def _batches(
    plan: Plan,
    epochs: Iterator[int],
    take_rows: TakeRows,
    pad: bool,
    filling: Filling | None = None,
) -> tf.data.Dataset:
    """The batches of the epoch that is next when a pass begins, with their padding if `pad`.

    The plan is of single steps of the same examples and order, in any epoch. What `filling` lacks
    is decoded on the way; batches of which nothing is missing do not call Python.
    """

    def arrange(numbers: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, ...]:
        missing = filling is not None and not filling.holds(numbers.reshape(-1))
        return numbers, *rest, np.full(len(numbers), missing)

    @_not_rewritten
    def fetch(
        numbers: tf.Tensor, weights: tf.Tensor, length: tf.Tensor, missing: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        if not pad:  # rows of weight 0 stand at a batch's end
            numbers = numbers[: tf.math.count_nonzero(weights, dtype=tf.int32)]
        if filling is not None:
            ensure = filling.ensure
            # By the numbers that it gives: the gather must come after the decoding.
            numbers = tf.cond(
                missing,
                lambda: tf.ensure_shape(callbacks.call(ensure, [numbers], tf.int64), numbers.shape),
                lambda: numbers,
            )
        inputs, labels = take_rows(numbers)
        inputs = inputs[:, :length] if in_buckets else inputs
        return (inputs, labels, weights) if pad else (inputs, labels)

    in_buckets = isinstance(plan.order, BucketOrder)
    rows = [tf.TensorSpec([None, plan.width], kind) for kind in (tf.int64, tf.float32)]
    signature = [*rows, *(tf.TensorSpec([None], kind) for kind in (tf.int64, tf.bool))]
    planned = _planned(plan, epochs, arrange, signature)
    # Not AUTOTUNE: more calls at once than cores only hold more memory.
    return planned.unbatch().map(fetch, num_threads())


def _gather(plan: Plan, epochs: Iterator[int], take_rows: TakeRows, pad: bool) -> tf.data.Dataset:
    """The batches of a split that is decoded, with their padding if `pad`."""
    if plan.gathered_together > 1 and not isinstance(plan.order, BucketOrder):
        return _small_batches(plan, epochs, take_rows, pad)
    return _batches(plan, epochs, take_rows, pad)


def _small_batches(
    plan: Plan, epochs: Iterator[int], take_rows: TakeRows, pad: bool
) -> tf.data.Dataset:
    """As `_batches`, many batches gathered in one call and cut by tf.data, with or without padding.

    Cut by `rebatch`, not by `unbatch` and a function that drops the padding of each batch: half of
    the processor time, for 32 rows of 21 numbers.
    """

    def in_a_row(numbers: np.ndarray, weights: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, weights = numbers.reshape(-1), weights.reshape(-1)
        # The rows of weight 0 are the last ones of an epoch.
        return (rows, weights) if pad else (rows[: np.count_nonzero(weights)],)

    @_not_rewritten
    def fetch(rows: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return *take_rows(rows), *weights

    together = plan.gathered_together
    signature = [tf.TensorSpec([None], kind) for kind in (tf.int64, tf.float32)][: 1 + pad]
    if plan.order.steps_per_epoch <= min(together, plan.planned_steps):
        whole = _planned(plan, epochs, in_a_row, signature, fetch)
        return whole.rebatch(plan.width, drop_remainder=pad)
    rows = _planned(plan, epochs, in_a_row, signature).rebatch(together * plan.width)
    return rows.map(fetch, num_threads()).rebatch(plan.width, drop_remainder=pad)


def _take_from(inputs: tf.Tensor, labels: tf.Tensor) -> TakeRows:
    """Rows of a split in memory."""
    return lambda numbers: (tf.gather(inputs, numbers), tf.gather(labels, numbers))


def _load_in(examples: Examples) -> TakeRows:
    """Rows read by offset and decoded."""
    labels, spec = share(examples.split_labels), examples.spec

    def load(numbers: np.ndarray) -> np.ndarray:
        inputs = examples.loader.load(numbers.reshape(-1))
        return inputs.reshape(*numbers.shape, *inputs.shape[1:])

    def read(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = callbacks.call(load, [numbers], spec.dtype)
        shape = [*numbers.shape, *spec.shape]
        return tf.ensure_shape(inputs, shape), tf.gather(labels, numbers)

    return read


def _block_batches(plan: Plan, epochs: Iterator[int], pad: bool) -> tf.data.Dataset:
    """As `_batches`, of records that are read block by block."""
    spec, labels = plan.examples.spec, plan.examples.split_labels
    width = plan.width if pad else None

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        epoch = next(epochs)
        this = dataclasses.replace(plan, start=(epoch, 0), end_epoch=epoch + 1)
        for inputs, labels, weights, *_ in iterate_chunks(this):
            rows = np.count_nonzero(weights)
            yield (inputs, labels, weights[0]) if pad else (inputs[:rows], labels[:rows])

    signature = (
        tf.TensorSpec([width, *spec.shape], spec.dtype),
        tf.TensorSpec([width, *labels.shape[1:]], labels.dtype),
        tf.TensorSpec([width], tf.float32),
    )
    return callbacks.from_generator(batches, signature if pad else signature[:2])


def _planned(
    plan: Plan,
    epochs: Iterator[int],
    arrange: Callable[..., tuple[np.ndarray, ...]],
    signature: Sequence[tf.TensorSpec],
    fetch: Callable[..., tuple[tf.Tensor, ...]] = lambda *arrays: arrays,
) -> tf.data.Dataset:
    """What `arrange` makes of (numbers int64 [n, B], weights float32 [n, B], lengths int64 [n]).

    `signature` tells its results; each call is of n steps. `fetch` gathers by them, in TensorFlow.
    """

    def steps(epoch: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, ...]:
        this_epoch = next(epochs) if step == 0 else int(epoch)
        numbers, weights, _keys, _steps, lengths = plan.chunks(this_epoch, int(step))
        return np.array(this_epoch), *arrange(numbers, weights[:, 0], lengths[:, 0])

    specs = [tf.TensorSpec([], tf.int64), *signature]
    types = [spec.dtype for spec in specs]

    @_not_rewritten
    def call(epoch: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        found = callbacks.call(steps, [epoch, step], types, stateful=True)
        epoch, *planned = (tf.ensure_shape(x, s.shape) for x, s in zip(found, specs, strict=True))
        return epoch, fetch(*planned)

    # A pass carries its epoch along: two passes at a time have two.
    begins = tf.data.Dataset.range(0, plan.order.steps_per_epoch, plan.planned_steps)
    planned = begins.scan(tf.constant(-1, tf.int64), call)
    # Ahead by one call, on another thread than the batches: they wait for one plan only.
    return planned.prefetch(1) if plan.order.steps_per_epoch > plan.planned_steps else planned
