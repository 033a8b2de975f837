"""Streams records without a cache: each block is read in long stretches, one block ahead.

A block (`records.ordering.order`) is what is permuted together. While its examples are decoded and
used, the records of the next one are read in file order. Two blocks of encoded records are held;
for one chunk, at a change, also the one before. The first block after a start is not waited for:
its first batches are read by offset.
"""

import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from records.loading.load import Loader

_Block = dict[int, bytes]


def read_blocks(
    loader: Loader, blocks: Iterable[np.ndarray], chunks: Iterable[tuple[np.ndarray, ...]]
) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
    """Yields each chunk with the payloads, bytes objects [n], of its records.

    Args:
      blocks: the numbers int64 of each block's records, in the order of the blocks.
      chunks: each begins with the numbers int64 [n] of its records; all of a block come before
        those of the next one, except records that only pad, which may be of any block.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    is_finalizing = sys.is_finalizing  # when the interpreter goes, so do its modules' names
    # One thread: blocks are read one after the other, each in file order.
    ahead = ThreadPoolExecutor(1, thread_name_prefix="records-blocks")
    upcoming = iter(blocks)

    def read_next() -> Future[_Block] | None:
        numbers = next(upcoming, None)
        return None if numbers is None else ahead.submit(_read_block, loader, numbers)

    held: _Block = {}
    following, is_first = read_next(), True
    try:
        for chunk in chunks:
            numbers = chunk[0]
            # The first block may take nearly half of the memory budget: training begins meanwhile,
            # at the price of single reads.
            if is_first and following is not None and not following.done():
                yield chunk, loader.read(numbers)
                continue
            wanted = numbers.tolist()
            before: _Block = {}
            if following is not None and not all(n in held for n in wanted):
                # The old block is kept for this one chunk: it may hold the end of one and the start
                # of the next.
                before, held, is_first = held, following.result(), False
                following = read_next()
            yield chunk, _collect(loader, wanted, held, before)
    finally:
        if not is_finalizing():
            ahead.shutdown(wait=True, cancel_futures=True)


def _read_block(loader: Loader, numbers: np.ndarray) -> _Block:
    read = dict(zip(numbers.tolist(), loader.read(numbers)))
    loader.index.release()  # the next block lies elsewhere
    return read


def _collect(loader: Loader, wanted: list[int], *blocks: _Block) -> np.ndarray:
    """The payloads of a chunk; of records that only pad it, read by offset."""
    payloads = np.empty(len(wanted), object)
    missing = []
    for place, number in enumerate(wanted):
        payload = next((b[number] for b in blocks if number in b), None)
        payloads[place] = payload
        if payload is None:
            missing.append(place)
    if missing:
        payloads[missing] = loader.read(np.array([wanted[place] for place in missing]))
    return payloads
