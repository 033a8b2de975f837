"""Chunks of consecutive steps as NumPy arrays, made on a pool of threads a little ahead.

`iterate_chunks` takes the first of these ways that fits; all give the same bytes in the same order:

| the examples are | a chunk is |
|---|---|
| decoded in memory, or in a file mapped into it | its rows, gathered |
| to be kept in memory, and not all decoded yet | decoded where it was not yet, kept, gathered |
| not kept, shuffled block by block | cut out of the block that was read ahead, decoded |
| not kept, else | read by offset, several small chunks in one call, decoded |
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from records.examples import Examples, Plan, plan_steps
from records.loading.cache import Filling
from records.loading.stream import read_blocks
from records.ordering.order import Order
from records.system.memory import recycled_inputs
from records.system.npz import release
from records.system.threads import ordered_map

# (inputs [K * b, ...], labels int32 [K * b], weights float32 [K, b], keys int64 [K, b],
# steps int64, lengths int64 [K]); a planned chunk has record numbers in place of the first two.
HostChunk = tuple[np.ndarray, ...]


def iterate_chunks(plan: Plan) -> Iterator[HostChunk]:
    """The chunks of a plan; nothing is done before the first is asked for.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    examples, filling = plan.examples, plan.examples.filling
    if examples.cached is None:
        if plan.has_blocks and isinstance(plan.order, Order):
            return _read_by_block(plan, plan.order)
        return _read_by_offset(plan)
    if filling is None or filling.done:
        return _gather(plan)
    # The first epoch decodes and fills the memory; the others find it filled.
    first, rest = plan.split()
    return itertools.chain(_fill(first, filling), _gather(rest))


def load_chunk(examples: Examples, chunk: HostChunk) -> HostChunk:
    """A planned chunk, a row of `Plan.chunks`, as `iterate_chunks` yields it.

    Any thread may call it.

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
    return inputs, examples.split_labels[numbers], *rest


def take(inputs: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The inputs of the records `numbers`, in memory that TensorFlow can share."""
    taken = recycled_inputs((len(numbers), *inputs.shape[1:]), inputs.dtype)
    # "clip": "raise" would copy once more; the order gives no number beyond the split.
    return np.take(inputs, numbers, axis=0, out=taken, mode="clip")


def _gather(plan: Plan) -> Iterator[HostChunk]:
    inputs, labels = plan.examples.inputs, plan.examples.split_labels
    assert inputs is not None, "examples without a cache are read, not gathered"

    def gather(chunk: HostChunk) -> HostChunk:
        numbers, *rest = chunk
        with plan.examples.loader.timed("gather", len(numbers)) as done:
            taken = take(inputs, numbers)
            done.bytes = taken.nbytes
        return taken, labels[numbers], *rest

    yield from ordered_map(gather, plan.all_chunks())


def _fill(plan: Plan, filling: Filling) -> Iterator[HostChunk]:
    yield from ordered_map(functools.partial(load_chunk, plan.examples), plan.all_chunks())
    filling.finish()  # an epoch that began in its middle has left records out


def _read_by_offset(plan: Plan) -> Iterator[HostChunk]:
    """Reads several small chunks in one call, because a call has a cost of its own.

    Epochs of texts in batches of 64 and of vectors in batches of 256 are 3.4 times as fast so.
    """
    loader, labels = plan.examples.loader, plan.examples.split_labels
    rows = plan.chunk_steps * plan.width
    together = max(1, loader.unit // rows)

    def load(planned: list[HostChunk]) -> list[HostChunk]:
        numbers = np.concatenate([chunk[0] for chunk in planned])
        inputs, classes = loader.load(numbers), labels[numbers]
        parts = [slice(i * rows, (i + 1) * rows) for i in range(len(planned))]
        return [(inputs[p], classes[p], *c[1:]) for p, c in zip(parts, planned, strict=True)]

    chunks = plan.all_chunks()
    first = [list(itertools.islice(chunks, 1))]  # alone: it is waited for
    others = iter(lambda: list(itertools.islice(chunks, together)), [])
    for loaded in ordered_map(load, filter(None, itertools.chain(first, others))):
        yield from loaded


def _read_by_block(plan: Plan, order: Order) -> Iterator[HostChunk]:
    """Reads a block ahead, and decodes chunk by chunk, so that decoding never outruns reading."""
    loader, labels = plan.examples.loader, plan.examples.split_labels

    def load(item: tuple[HostChunk, np.ndarray]) -> HostChunk:
        (numbers, *rest), payloads = item
        return loader.finish(numbers, payloads), labels[numbers], *rest

    yield from ordered_map(load, read_blocks(loader, _blocks(plan, order), plan.all_chunks()))


def _blocks(plan: Plan, order: Order) -> Iterator[np.ndarray]:
    """The numbers int64 of the records of each block, those left out that only pad a batch."""
    block_steps = order.block_size // order.global_batch_size
    for epoch in range(plan.start[0], plan.end_epoch):
        first = plan.start[1] if epoch == plan.start[0] else 0
        while first < order.steps_per_epoch:
            steps = min(block_steps - first % block_steps, order.steps_per_epoch - first)
            found = plan_steps(plan.examples, order, epoch, first, steps, plan.rows)
            release(plan.examples.numbers)
            yield found[0][found[1] > 0]
            first += steps
