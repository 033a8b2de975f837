"""From shards to batches in a defined order: the whole input system in one file.

    shards --read_parsed--> decoded split in memory --make_batches--> batches, for `fit`
                                                    `-make_chunks---> K batches per host call

1. `records.data` opens a set by directory and decides which records are train, validation
   and test.
2. Decoding happens once: whole batches are parsed, pictures become uint8 and texts int32,
   and one contiguous array holds the split (`records.cache` says where it is kept).
3. `records.order` says which examples a step's batch holds. A batch is gathered from the
   array by those numbers; no shuffle buffer, nothing to replay, state `(seed, epoch, step)`.
4. Without a cache the same numbers are read by offset (`records.index`) and decoded again.

No other module calls shuffle, repeat, batch, cache or prefetch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records import decode
from records.index import RecordIndex, RecordReader
from records.order import Order
from records.schema import IMAGE, Schema

_READ_ROWS = 1024  # rows parsed at once; pictures are regrouped for decoding
_PICTURE_ROWS = 64
_ENDLESS = 2**31  # epochs
_ORDER_STEPS = 64  # steps whose order is computed in one NumPy call


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one subset of a split, ready to be fed.

    Attributes:
      schema, index: of the split.
      numbers: int64 [n], the subset: record numbers in the split.
      labels: int32 [N], of all records of the split.
      spec: one example's input, without the batch.
      inputs: [N, ...], all records of the split decoded; None when they are not cached.
      finish: maps parsed rows to inputs, for reading without a cache.
    """

    schema: Schema
    index: RecordIndex
    numbers: np.ndarray
    labels: np.ndarray
    spec: tf.TensorSpec
    inputs: np.ndarray | None
    finish: Callable[[Any], Any]

    @property
    def num_examples(self) -> int:
        """n, the examples of the subset."""
        return len(self.numbers)

    @property
    def subset_labels(self) -> np.ndarray:
        """int32 [n], the labels of the subset."""
        return self.labels[self.numbers]

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the split's decoded inputs."""
        return int(len(self.labels) * np.prod(self.spec.shape) * self.spec.dtype.size)

    @functools.cached_property
    def host_tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """(inputs [N, ...], labels int32 [N]) as tensors in host memory."""
        with tf.device("/cpu:0"):
            return tf.convert_to_tensor(self.inputs), tf.convert_to_tensor(self.labels)


def read_parsed(
    schema: Schema, split: str, index: RecordIndex, pictures: Callable[..., Any] | None = None
) -> Iterator[tuple[Any, tf.Tensor]]:
    """Reads a split once, in record order, in parsed batches.

    Args:
      schema, split, index: what is read.
      pictures: decodes one encoded picture; None leaves them encoded.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    rows = tf.data.TFRecordDataset(list(schema.shards[split])).batch(_READ_ROWS)
    parsed = rows.map(lambda r: decode.parse_rows(r, schema), tf.data.AUTOTUNE)
    if schema.modality == IMAGE and pictures is not None:
        decoded = parsed.unbatch().map(lambda x, y: (pictures(x), y), tf.data.AUTOTUNE)
        parsed = decoded.batch(_PICTURE_ROWS)
    try:
        yield from parsed.prefetch(2)
    except tf.errors.DataLossError:
        RecordReader(index).read(np.arange(index.num_records))  # raises, naming the record
        raise


def make_batches(
    examples: Examples, order: Order, epochs: int = 1, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """The batches of the epochs before `epochs`, beginning at (epoch, step) `start`.

    Returns:
      A dataset of (inputs [B, ...], labels int32 [B], weights float32 [B]).
    """
    planned = _plan(examples, order, start, epochs, 1, slice(None))
    batches = _load(examples, planned).map(lambda x, y, w, keys, steps: (x, y, w[0]))
    count = max(0, (epochs - start[0]) * order.steps_per_epoch - start[1])
    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)


def make_chunks(
    examples: Examples, order: Order, start: tuple[int, int], chunk_steps: int, rows: slice
) -> tf.data.Dataset:
    """All steps from (epoch, step) `start` on in chunks of K steps, for one replica, endlessly.

    Args:
      examples, order: what is fed, in which order.
      start: where to begin.
      chunk_steps: K.
      rows: the replica's part of each global batch, b rows.

    Returns:
      A dataset of (inputs [K * b, ...], labels int32 [K * b], weights float32 [K, b],
      keys int64 [K, b], steps int64): an epoch's last chunk holds `steps` <= K real steps, the
      rest repeats them at weight 0.
    """
    planned = _plan(examples, order, start, _ENDLESS, chunk_steps, rows)
    return _load(examples, planned).prefetch(2)


def plan_steps(
    examples: Examples, order: Order, epoch: int, step: int, steps: int, rows: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `steps` consecutive steps of one replica hold: all that a batch depends on.

    Returns:
      (numbers int64 [steps, b] of records in the split, weights float32 [steps, b],
      keys int64 [steps, b]).
    """
    positions, weights = order.examples(epoch, step, steps)
    keys = order.keys(epoch, step, steps)
    return examples.numbers[positions[:, rows]], weights[:, rows], keys[:, rows]


def _plan(
    examples: Examples,
    order: Order,
    start: tuple[int, int],
    end_epoch: int,
    chunk_steps: int,
    rows: slice,
) -> tf.data.Dataset:
    """The chunks of all steps from `start` to the end of epoch `end_epoch - 1`.

    A dataset of (numbers int64 [K * b], weights [K, b], keys [K, b], steps int64). Many steps
    are planned in one call, so that small batches do not pay for Python each.
    """
    stride = max(1, _ORDER_STEPS // chunk_steps) * chunk_steps
    width = len(range(order.global_batch_size)[rows])

    def plan(epoch: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, ...]:
        steps = min(stride, order.steps_per_epoch - int(step))
        arrays = plan_steps(examples, order, int(epoch), int(step), steps, rows)
        chunks = -(-steps // chunk_steps)
        real = np.full(chunks, chunk_steps, np.int64)
        real[-1] = steps - (chunks - 1) * chunk_steps
        tail = np.arange(chunks * chunk_steps) % steps
        numbers, weights, keys = (a[tail].reshape(chunks, chunk_steps, width) for a in arrays)
        weights = np.where(np.arange(chunk_steps)[:, None] < real[:, None, None], weights, 0)
        return numbers.reshape(chunks, -1), weights.astype(np.float32), keys, real

    def call(begin: tf.Tensor) -> tuple[tf.Tensor, ...]:
        dtypes = (tf.int64, tf.float32, tf.int64, tf.int64)
        numbers, weights, keys, steps = tf.numpy_function(
            plan, [begin[0], begin[1]], dtypes, stateful=False
        )
        return (
            tf.ensure_shape(numbers, [None, chunk_steps * width]),
            tf.ensure_shape(weights, [None, chunk_steps, width]),
            tf.ensure_shape(keys, [None, chunk_steps, width]),
            tf.ensure_shape(steps, [None]),
        )

    # Whole blocks of later epochs are numbered by arithmetic: no list of all steps is made.
    blocks = -(-order.steps_per_epoch // stride)
    first = [(start[0], s) for s in range(start[1], order.steps_per_epoch, stride)]
    begins = tf.data.Dataset.range((start[0] + 1) * blocks, end_epoch * blocks)
    begins = begins.map(lambda p: tf.stack([p // blocks, p % blocks * stride]))
    if start[0] < end_epoch and first:
        begins = tf.data.Dataset.from_tensor_slices(np.array(first, np.int64)).concatenate(begins)
    return begins.map(call).unbatch()


def _load(examples: Examples, planned: tf.data.Dataset) -> tf.data.Dataset:
    """Replaces the numbers of planned chunks by (inputs, labels)."""
    if examples.inputs is not None:
        inputs, labels = examples.host_tensors

        def gather(numbers: tf.Tensor, *rest: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return (tf.gather(inputs, numbers), tf.gather(labels, numbers), *rest)

        return planned.map(gather, tf.data.AUTOTUNE)
    reader = RecordReader(examples.index)
    size = planned.element_spec[0].shape[0]

    def read(numbers: tf.Tensor, *_: tf.Tensor) -> tuple[Any, tf.Tensor]:
        serialised = tf.numpy_function(reader.read, [numbers], tf.string, stateful=False)
        return decode.parse_rows(tf.ensure_shape(serialised, [size]), examples.schema)

    parsed = planned.map(read, tf.data.AUTOTUNE)
    if examples.schema.modality == IMAGE:
        pictures = parsed.unbatch().map(lambda x, y: (examples.finish(x), y), tf.data.AUTOTUNE)
        loaded = pictures.batch(size, drop_remainder=True)
    else:
        loaded = parsed.map(lambda x, y: (examples.finish(x), y), tf.data.AUTOTUNE)
    rest = planned.map(lambda numbers, *rest: rest)
    return tf.data.Dataset.zip(loaded, rest).map(lambda xy, rest: (*xy, *rest))
