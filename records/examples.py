"""The examples of one subset of a split, and which of them each step holds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from records.loading.cache import Filling
from records.loading.load import Loader
from records.ordering.buckets import BucketOrder, make_order
from records.ordering.mixture import MixedOrder, Mixture
from records.ordering.order import Order
from records.ordering.splits import AllRecords, Numbers
from records.sets.schema import IMAGE, Schema
from records.shards.index import RecordIndex
from records.system.memory import share

# Positions whose order is computed in one NumPy call, 1 to 3 ms: its fixed cost, some 0.2 ms, is
# then small, and the first batch does not wait long.
PLAN_POSITIONS = 2**16
# Small batches are gathered together in one TensorFlow call up to this size and then cut. Inside
# a loop that reads them: 33 instead of 45 us for 256 rows of 21 numbers, 31 instead of 40 us for
# 64 texts of 200 ids. Larger ones are gathered one by one, in parallel.
_GATHER_BYTES = 2**20

AnyOrder = Order | BucketOrder | MixedOrder


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one subset of a split, ready to be fed.

    Attributes:
      schema, index: of the split.
      numbers: int64 [n], the subset: record numbers in the split; used as an array.
      split_labels: int32 [N], of all records of the split; of several classes at once
        float32 [N, C], of numbers float64.
      spec: one example's input, without the batch.
      lengths: int [N], ids of each record's text as stored; None for other inputs.
      cached: [N, ...], all records of the split decoded, in memory or mapped into it; None when
        they are not cached. Read it as `inputs`: pictures are decoded while the first epoch goes
        by, or when `inputs` is first asked for.
      loader: reads and decodes records.
      filling: what decodes into `cached`; None where that is done.
      mixture: how the training examples of several sets are mixed; None of one set.
    """

    schema: Schema
    index: RecordIndex
    numbers: Numbers
    split_labels: np.ndarray
    spec: tf.TensorSpec
    lengths: np.ndarray | None
    cached: np.ndarray | None
    loader: Loader
    filling: Filling | None = None
    mixture: Mixture | None = None

    @property
    def inputs(self) -> np.ndarray | None:
        """[N, ...], all records of the split decoded; None when they are not cached."""
        if self.filling is not None:
            self.filling.finish()
        return self.cached

    @property
    def num_damaged(self) -> int:
        """Examples of the subset that are damaged: their positions have weight 0."""
        damaged = self.index.damaged
        return 0 if damaged is None else int(self._of_subset(damaged).sum())

    def without_damaged(self) -> Examples:
        """The examples that can be used; the same where none is damaged."""
        if not self.num_damaged or self.index.damaged is None:
            return self
        usable = ~self._of_subset(self.index.damaged)
        mixture = None if self.mixture is None else self.mixture.keep(usable)
        return dataclasses.replace(self, numbers=self.numbers[usable], mixture=mixture)

    @property
    def num_examples(self) -> int:
        """n, the examples of the subset."""
        return len(self.numbers)

    @property
    def subset_labels(self) -> np.ndarray:
        """int32 [n], float32 or float64 [n, C], the labels of the subset."""
        return self._of_subset(self.split_labels)

    @property
    def weights(self) -> np.ndarray | None:
        """float64 [n], how often each example counts in what is learned of all; None: once."""
        return None if self.mixture is None else self.mixture.weights

    def order(
        self,
        global_batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        *,
        shuffle_block: int | None = None,
        length_buckets: int = 1,
    ) -> AnyOrder:
        """The order of the subset: arguments as `make_order`.

        Without `shuffle` every example stands once, those of a mixture set after set.
        """
        if self.mixture is not None and shuffle:
            return self.mixture.order(global_batch_size, seed)
        return make_order(
            self.num_examples,
            global_batch_size,
            seed,
            shuffle,
            shuffle_block=shuffle_block,
            lengths=self.subset_lengths if length_buckets > 1 else None,
            length_buckets=length_buckets,
        )

    @property
    def subset_lengths(self) -> np.ndarray | None:
        """int [n], ids of the subset's texts, up to T; None for other inputs."""
        if self.lengths is None:
            return None
        return np.minimum(self._of_subset(self.lengths), self.spec.shape[0])

    def _of_subset(self, column: np.ndarray) -> np.ndarray:
        """[n, ...]: a column [N, ...] of the split; itself where the subset is the whole split."""
        return column if isinstance(self.numbers, AllRecords) else column[self.numbers]

    @property
    def example_bytes(self) -> int:
        """Bytes of one decoded input."""
        return int(np.prod(self.spec.shape)) * self.spec.dtype.size

    @functools.cached_property
    def host_tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """(inputs [N, ...], labels) as tensors in host memory, or mapped into it."""
        inputs = self.inputs
        assert inputs is not None, "examples without a cache are read, not gathered"
        return share(inputs), share(self.split_labels)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which steps, cut into which chunks, for which rows of the batch: the chunks of one replica.

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
    def has_blocks(self) -> bool:
        """The order permutes blocks, not the whole subset."""
        return isinstance(self.order, Order) and self.order.block_size < self.order.num_examples

    @property
    def planned_steps(self) -> int:
        """Steps that are planned in one call: whole chunks."""
        chunk = self.chunk_steps * self.order.global_batch_size
        return max(1, PLAN_POSITIONS // chunk) * self.chunk_steps

    @property
    def gathered_together(self) -> int:
        """Batches that TensorFlow gathers in one call."""
        return max(1, _GATHER_BYTES // max(1, self.width * self.examples.example_bytes))

    def chunks(self, epoch: int, step: int) -> tuple[np.ndarray, ...]:
        """The chunks of the next steps, up to `planned_steps`: (numbers int64 [chunks, K * b] of
        records, weights float32 [chunks, K, b], keys int64 [chunks, K, b], steps int64 [chunks],
        lengths int64 [chunks, K]). A last chunk repeats its steps at weight 0.
        """
        order, k = self.order, self.chunk_steps
        steps = min(self.planned_steps, order.steps_per_epoch - step)
        arrays = [*plan_steps(self.examples, order, epoch, step, steps, self.rows)]
        chunks = -(-steps // k)
        real = np.full(chunks, k, np.int64)
        # The compiled loop needs K steps in every chunk. The tail repeats real steps, so that no
        # shape and no value is new to the model, at weight 0.
        real[-1] = steps - (chunks - 1) * k
        if steps < chunks * k:
            tail = np.arange(chunks * k) % steps
            arrays = [a[tail] for a in arrays]
            arrays[1][steps:] = 0
        numbers, weights, keys, lengths = (a.reshape(chunks, k, *a.shape[1:]) for a in arrays)
        return numbers.reshape(chunks, -1), weights, keys, real, lengths

    def place(self, number: int) -> tuple[int, int, int]:
        """(epoch, step, row): the chunk `number` of `all_chunks` is that row of `chunks` there."""
        end, k = self.order.steps_per_epoch, self.chunk_steps
        epoch, step = self.start
        # A chunk never reaches over the end of an epoch: the first epoch is counted by itself.
        in_first = -(-(end - step) // k)
        if number >= in_first:
            later, number = divmod(number - in_first, -(-end // k))
            epoch, step = epoch + 1 + later, 0
        call, row = divmod(number, self.planned_steps // k)
        return epoch, step + call * self.planned_steps, row

    def split(self) -> tuple[Plan, Plan]:
        """The rest of the first epoch, and what comes after it."""
        following = min(self.start[0] + 1, self.end_epoch)
        return (
            dataclasses.replace(self, end_epoch=following),
            dataclasses.replace(self, start=(following, 0)),
        )

    def all_chunks(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Every chunk, one after the other, as the rows of what `chunks` gives."""
        for epoch in range(self.start[0], self.end_epoch):
            first = self.start[1] if epoch == self.start[0] else 0
            for step in range(first, self.order.steps_per_epoch, self.planned_steps):
                rows = min(self.planned_steps, self.order.steps_per_epoch - step) * self.width
                with self.examples.loader.timed("order", rows):
                    chunks = self.chunks(epoch, step)
                yield from zip(*chunks, strict=True)


def plan_steps(
    examples: Examples, order: AnyOrder, epoch: int, step: int, steps: int, rows: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `steps` consecutive steps of one replica hold: all that a batch depends on.

    Returns:
      (numbers int64 [steps, b] of records in the split, weights float32 [steps, b],
      keys int64 [steps, b] for the augmentation of pictures, 0 for other inputs, lengths int64
      [steps] to which texts are cut, 0 for other inputs).
    """
    positions, weights = order.examples(epoch, step, steps, rows)
    if examples.index.damaged is not None:
        # The position stays, so that every other batch is the same with and without the damage.
        weights = weights * ~examples.index.damaged[examples.numbers[positions]]
    # Keys are computed for pictures only: nothing else is augmented.
    keys = np.zeros_like(positions)
    if examples.schema.modality == IMAGE:
        keys = order.keys(epoch, step, steps, rows)
    lengths = order.lengths(epoch, step, steps)
    if lengths is None:
        width = examples.spec.shape[0] if examples.lengths is not None else 0
        lengths = np.full(steps, width, np.int64)
    return examples.numbers[positions], weights, keys, lengths
