"""Where each record lies and what reading plans need to know of it.

One index per split (`records.decoding.indexing` fills it): it gives plain TFRecords random access.
It is written with the data, and read or mapped, by `records.shards.index_file`.
"""

import dataclasses
import functools
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from records.sets.hints import rebuild_hint
from records.sets.schema import Schema
from records.sets.target import SINGLE_LABEL
from records.shards.framing import (
    FOOTER_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    are_rows,
    check_records,
    cut_payloads,
    damage,
)
from records.shards.open_files import OpenFiles
from records.stores.mirror import object_of, shard_size
from records.stores.ranges import Background, Part, read_parts
from records.system.npz import release

_RUN_BYTES = 8 * 2**20  # read at once
# Records that stand apart are put together before they are cut and checked, up to so many bytes:
# batches of 256 vectors load 1.8 times as fast as with checks one by one.
_JOINED_BYTES = 2**20
_WALKED_ROWS = 2**20  # of a mapped column, looked at together


@dataclasses.dataclass(frozen=True)
class RecordIndex:
    """The records of one split, in the order of its shards."""

    paths: tuple[str, ...]  # the split's shards
    shard_bytes: np.ndarray  # int64 [shards], the sizes of the files indexed
    shard: np.ndarray  # int32 [N], number of the shard that holds each record
    offset: np.ndarray  # int64 [N], byte at which the record's header starts
    length: np.ndarray  # int64 [N], bytes of the payload
    # int32 [N], the class, -1 where unknown; of other targets 0, -1 where unknown.
    label: np.ndarray
    group: np.ndarray  # uint64 [N]; records of equal group must not straddle splits or folds
    sequence_length: np.ndarray  # int32 [N], number of ids; 0 for other inputs
    is_grey: np.ndarray  # bool [N], the picture has one distinct channel
    # input_start and input_bytes: int64 [N], where in the payload an encoded picture stands, and
    # its size; 0 for other inputs.
    input_start: np.ndarray
    input_bytes: np.ndarray
    # bool [N], records that are not to be used: another record stands in their place, under their
    # own class and group (see `records.damage.skipping`); None without any.
    damaged: np.ndarray | None = None
    damage: tuple[str, ...] = ()  # what is wrong with each of them, in their order
    # int64 [N], the number of each in its shard, where records were left out; else None.
    within: np.ndarray | None = None
    # [N, C], float32 1 for each class that is there, or float64 numbers; None for one class.
    target: np.ndarray | None = None

    @property
    def num_records(self) -> int:
        """N, the number of records."""
        return len(self.offset)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all payloads."""
        if self.damaged is not None or self.within is not None:
            return int(self.length.sum())
        # Nothing else stands in the shards.
        return int(self.shard_bytes.sum()) - self.num_records * (HEADER_BYTES + FOOTER_BYTES)

    @functools.cached_property
    def label_range(self) -> tuple[int, int]:
        """The least and the largest label; (-1, -1) of no records. Walks the labels once."""
        least, largest = [], []
        for rows in self.walk():
            part = self.label[rows]
            least.append(int(part.min()))
            largest.append(int(part.max()))
        return min(least, default=-1), max(largest, default=-1)

    def walk(self) -> Iterator[slice]:
        """Slices of all rows, one after the other; what is mapped of each does not stay mapped."""
        for first in range(0, self.num_records, _WALKED_ROWS):
            yield slice(first, min(first + _WALKED_ROWS, self.num_records))
            self.release()

    def release(self) -> None:
        """Takes the pages of a mapped index out of this process's memory; they stay in the cache.

        A process then holds those it is using, not all that it ever looked at.
        """
        release(self.offset)


_NOT_STORED = ("paths", "damaged", "damage", "within", "target")
COLUMNS = tuple(f.name for f in dataclasses.fields(RecordIndex) if f.name not in _NOT_STORED)


def select_records(
    index: RecordIndex, keep: np.ndarray, label: np.ndarray, target: np.ndarray | None = None
) -> RecordIndex:
    """The records where `keep` bool [N], in their order, with other labels int [N].

    `target` [N, C] are other targets; None: they stay.
    """
    within, target = _within(index), index.target if target is None else target
    arrays = {name: getattr(index, name)[keep] for name in COLUMNS if name != "shard_bytes"}
    arrays |= {"label": label[keep].astype(np.int32), "within": within[keep]}
    arrays |= {"target": None if target is None else target[keep]}
    if index.damaged is None:
        return dataclasses.replace(index, **arrays)
    damaged = np.flatnonzero(index.damaged)
    damage = tuple(line for n, line in zip(damaged, index.damage, strict=True) if keep[n])
    rest = index.damaged[keep] if damage else None
    return dataclasses.replace(index, **arrays, damaged=rest, damage=damage)


def join_indexes(indexes: Sequence[RecordIndex]) -> RecordIndex:
    """The records of several splits, one split after the other, as one."""
    arrays = {name: np.concatenate([getattr(i, name) for i in indexes]) for name in COLUMNS}
    firsts = np.cumsum([0, *(len(i.paths) for i in indexes)])
    shards = [i.shard + first for i, first in zip(indexes, firsts)]
    damaged = [np.zeros(len(i.shard), bool) if i.damaged is None else i.damaged for i in indexes]
    targets = [i.target for i in indexes if i.target is not None]
    return RecordIndex(
        paths=tuple(path for i in indexes for path in i.paths),
        **arrays | {"shard": np.concatenate(shards).astype(np.int32)},
        damaged=np.concatenate(damaged) if any(i.damage for i in indexes) else None,
        damage=tuple(line for i in indexes for line in i.damage),
        within=np.concatenate([_within(i) for i in indexes]),
        target=np.concatenate(targets) if targets else None,
    )


def _within(index: RecordIndex) -> np.ndarray:
    """int64 [N], the number of each record in its shard."""
    if index.within is not None:
        return index.within
    starts = np.searchsorted(index.shard, np.arange(len(index.paths)))
    return np.arange(index.num_records) - starts[index.shard]


def frame(
    schema: Schema, split: str, framings: Sequence[tuple[np.ndarray, np.ndarray]]
) -> RecordIndex:
    """An index with nothing of the records' content, from (offsets, lengths) of each shard.

    Raises:
      ValueError: the records are not as many as the metadata say.
    """
    count = sum(len(offsets) for offsets, _ in framings)
    if count != schema.split_counts[split]:
        raise ValueError(
            f"shards: {schema.name}: split {split} expected "
            f"{schema.split_counts[split]} records by its metadata, received {count} in "
            f"{len(framings)} shards of {schema.directory}. {rebuild_hint(schema.directory)}"
        )
    return RecordIndex(
        paths=schema.shards[split],
        shard_bytes=shard_bytes(schema, split),
        shard=np.repeat(np.arange(len(framings), dtype=np.int32), [len(o) for o, _ in framings]),
        offset=np.concatenate([o for o, _ in framings]),
        length=np.concatenate([n for _, n in framings]),
        label=np.full(count, -1, np.int32),
        group=np.zeros(count, np.uint64),
        sequence_length=np.zeros(count, np.int32),
        is_grey=np.zeros(count, bool),
        input_start=np.zeros(count, np.int64),
        input_bytes=np.zeros(count, np.int64),
        target=None
        if schema.task == SINGLE_LABEL
        else np.zeros((count, schema.num_classes), schema.target_dtype),
    )


class RecordReader:
    """Reads records by number, checked, from any thread."""

    def __init__(self, index: RecordIndex):
        self._index = index
        self._files = OpenFiles()
        self._is_stored = any(object_of(path) is not None for path in index.paths)
        self._background = Background(index.paths)
        self._lock = threading.Lock()
        self.bytes_read = 0  # so far, framing included

    def read(self, numbers: np.ndarray, as_rows: bool = False) -> np.ndarray:
        """The payloads of the records `numbers` int [n], as bytes objects [n].

        Records that stand one behind the other in a shard are read at once, whatever their order
        in `numbers`. With `as_rows` payloads of one length L come as uint8 [n, L]: without an
        object for each, rows of 143 bytes are read in a third of the time.

        Raises:
          ValueError: a record's CRC does not match; names shard, record and byte offset. Or the
            index names a place outside of the shards.
        """
        numbers = np.asarray(numbers, np.int64)
        # In the order of the file, so that neighbours become one read.
        in_file = np.argsort(numbers, kind="stable")
        ordered = numbers[in_file]
        offsets = self._index.offset[ordered]
        ends = offsets + self._index.length[ordered] + HEADER_BYTES + FOOTER_BYTES
        shards = self._index.shard[ordered]
        self._check_places(ordered)
        as_rows = as_rows and are_rows(*_side_by_side(offsets, ends))
        all_runs = _contiguous_runs(offsets, ends, shards)
        firsts, lasts = [r.start for r in all_runs], [r.stop - 1 for r in all_runs]
        paths = map(self._index.paths.__getitem__, shards[firsts].tolist())
        parts = list(zip(paths, offsets[firsts].tolist(), ends[lasts].tolist()))
        pieces = self._read_runs(parts)
        found: list[Any] = []
        for runs in _held_together(all_runs, [last - first for _, first, last in parts]):
            part = slice(runs[0].start, runs[-1].stop)
            data = b"".join(itertools.islice(pieces, len(runs)))
            starts, stops = _side_by_side(offsets[part], ends[part])
            cut = cut_payloads(data, starts, stops)
            if as_rows:
                rows = np.frombuffer(data, np.uint8).reshape(len(starts), -1)
                found.append(rows[:, HEADER_BYTES:-FOOTER_BYTES])
            else:
                found += (cut := list(cut))
            fits = check_records(data, starts, stops, cut)
            wrong = np.flatnonzero(~np.logical_and(*fits))
            if len(wrong):
                number = int(ordered[part.start + wrong[0]])
                raise record_damage(self._index, number, "a payload with a matching CRC")
        with self._lock:
            self.bytes_read += int((ends - offsets).sum())
        if as_rows and len(found) == 1 and bool((numbers[1:] > numbers[:-1]).all()):
            return found[0]  # no copy: units of a whole split, one after the other
        shape = (len(numbers), ends[0] - offsets[0] - FRAME_BYTES) if as_rows else len(numbers)
        payloads = np.empty(shape, np.uint8 if as_rows else object)
        payloads[in_file] = np.concatenate(found) if as_rows else found
        return payloads

    def _read_runs(self, runs: list[Part]) -> Iterator[bytes]:
        """The bytes of runs (path, first, last), zeros behind the end of a shard."""
        # Looked up first: what is not here is asked of its store together.
        files = [self._files.get(path) for path, _, _ in runs] if self._is_stored else []
        absent = [run for run, file in zip(runs, files) if file is None]
        if absent:
            self._background.start()
        of_store = read_parts(absent)
        opened = None
        for number, (path, first, last) in enumerate(runs):
            if self._is_stored:
                file = files[number]
            elif path != opened:  # runs of one shard stand together
                file, opened = self._files.get(path), path
            # Takes its own offset, so threads need no lock to read.
            data = next(of_store) if file is None else os.pread(file.fileno(), last - first, first)
            yield data.ljust(last - first, b"\0")  # where the shard ends

    def _check_places(self, numbers: np.ndarray) -> None:
        """What a mapped index says is read without a further check, also of one somebody made."""
        if not lie_inside(self._index, numbers).all():
            number = int(numbers[~lie_inside(self._index, numbers)][0])
            folder = os.path.dirname(self._index.paths[0])
            raise ValueError(
                f"shards: {folder}: the index expected record {number} within its shard, received "
                f"byte {self._index.offset[number]} of shard {self._index.shard[number]}. Remove "
                "*.index.npz there; the next reader writes it again"
            )


def _contiguous_runs(offsets: np.ndarray, ends: np.ndarray, shards: np.ndarray) -> list[slice]:
    """Slices of records, in file order, that stand one behind the other in one shard."""
    if not len(offsets):
        return []
    breaks = (offsets[1:] != ends[:-1]) | (shards[1:] != shards[:-1])
    # Bounded: a run is held twice while it is cut into payloads.
    stretch = np.cumsum(ends - offsets) // _RUN_BYTES
    starts = [0, *(np.flatnonzero(breaks | (stretch[1:] != stretch[:-1])) + 1).tolist()]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(offsets)])]


def _side_by_side(offsets: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(starts, ends) of records that were put together, from where they begin and end in files."""
    stops = np.cumsum(ends - offsets)
    return stops - (ends - offsets), stops


def _held_together(runs: list[slice], sizes: list[int]) -> Iterator[list[slice]]:
    """Lists of runs with up to `_JOINED_BYTES` together; larger runs by themselves."""
    held: list[slice] = []
    total = 0
    for run, size in zip(runs, sizes, strict=True):
        if held and total + size > _JOINED_BYTES:
            yield held
            held, total = [], 0
        held.append(run)
        total += size
    if held:
        yield held


def record_damage(
    index: RecordIndex, number: int, expected: str, received: str | None = None
) -> ValueError:
    """The error for the damaged record `number` of a split; names shard, record and offset."""
    return damage(*_place(index, number), expected, received)


def record_place(index: RecordIndex, number: int) -> str:
    """Shard, record and offset of the record `number` of a split."""
    return "{}, record {} at byte {}".format(*_place(index, number))


def _place(index: RecordIndex, number: int) -> tuple[str, int, int]:
    shard = int(index.shard[number])
    # People and `records.verify` count records by shard, not by split.
    if index.within is not None:
        return index.paths[shard], int(index.within[number]), int(index.offset[number])
    within = number - int(np.searchsorted(index.shard, shard))
    return index.paths[shard], within, int(index.offset[number])


def shard_bytes(schema: Schema, split: str) -> np.ndarray:
    """int64 [shards]: the sizes of a split's files now, 0 for one that is missing."""
    return np.array([shard_size(path) for path in schema.shards[split]], np.int64)


def lie_inside(index: RecordIndex, rows: np.ndarray | slice) -> np.ndarray:
    """bool [n]: numbers are used as subscripts and offsets without a further check.

    A file that somebody else made must not read outside of the shards.
    """
    shard, offset, length = index.shard[rows], index.offset[rows], index.length[rows]
    known = (shard >= 0) & (shard < len(index.paths))
    # Compared by subtraction: a sum of two large int64 could wrap around.
    room = index.shard_bytes[np.where(known, shard, 0)] - HEADER_BYTES - FOOTER_BYTES
    inside = known & (length >= 0) & (length <= room) & (offset >= 0) & (offset <= room - length)
    start, size = index.input_start[rows], index.input_bytes[rows]
    return inside & (start >= 0) & (size >= 0) & (start <= length - np.minimum(size, length))
