"""Which records of a shard are damaged: every record's framing and both CRCs.

Where the index tells where the records lie, each is checked at its place, so that damage to one
says nothing about the next. Without an index the file is walked: after a broken length header the
next record is searched for, byte by byte, by a header and a payload that match their CRCs. (A
payload that itself holds whole TFRecords can mislead that search; the index cannot be misled.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from records.shards.framing import (
    FOOTER_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    check_records,
    masked_crc,
)
from records.system.threads import num_threads, ordered_map

# Read at once: large beside a call's cost, small enough that threads share a set evenly.
_UNIT_BYTES = 8 * 2**20
# (numbers int64 [n] in the shard, payloads [n]) -> {row: what is wrong with its content}.
ContentCheck = Callable[[np.ndarray, Sequence[bytes]], dict[int, str]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the records of a shard lie.

    Attributes:
      offset: int64 [n], byte at which each header starts.
      length: int64 [n], bytes of each payload.
    """

    offset: np.ndarray
    length: np.ndarray


@dataclasses.dataclass(frozen=True)
class ShardScan:
    """What a scan found in a shard.

    Attributes:
      path: the file.
      layout: of all records that it should hold; of a damaged one without an index the length is
        what is known of it, 0 at least.
      damaged: what is wrong, by the number of the record in the shard.
      is_relaid: the file is whole, but its records lie elsewhere than the index says: it holds
        other records than those that were indexed.
    """

    path: str
    layout: Layout
    damaged: dict[int, str]
    is_relaid: bool = False

    @property
    def usable(self) -> np.ndarray:
        """bool [n], the record is not damaged."""
        found = np.ones(len(self.layout.offset), bool)
        found[list(self.damaged)] = False
        return found

    def describe(self, number: int) -> str:
        """Shard, record, byte offset and damage in one line."""
        place = f"record {number} at byte {self.layout.offset[number]}"
        return f"{self.path}, {place}: {self.damaged[number]}"


def scan_shards(
    paths: Sequence[str],
    expected: Sequence[int],
    layouts: Sequence[Layout | None],
    check: Callable[[int, np.ndarray, Sequence[bytes]], dict[int, str]] | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> list[ShardScan]:
    """Scans shards on all cores.

    Args:
      paths: the shards.
      expected: records of each by the metadata.
      layouts: of each by the index; None for one that is walked without an index.
      check: (shard, numbers, payloads) -> damage by row, of records whose CRCs match.
      done: is called with the bytes of each unit of work.
    """
    scans: list[ShardScan | None] = [None] * len(paths)
    units = [unit for i in range(len(paths)) for unit in _units(i, layouts[i] if layouts else None)]

    def of_shard(shard: int) -> ContentCheck | None:
        return None if check is None else lambda numbers, rows: check(shard, numbers, rows)

    def run(unit: tuple[int, slice | None]) -> tuple[int, ShardScan | dict[int, str], int]:
        shard, rows = unit
        layout = layouts[shard]
        if rows is None or layout is None:
            scan = walk_shard(paths[shard], expected[shard], of_shard(shard))
            return shard, scan, _size(paths[shard])
        found = _check_rows(paths[shard], layout, rows, of_shard(shard))
        size = int((layout.length[rows] + FRAME_BYTES).sum())
        return shard, found, size

    damaged: dict[int, dict[int, str]] = {}
    for shard, found, size in ordered_map(run, units, threads=num_threads()):
        if isinstance(found, ShardScan):
            scans[shard] = found
        else:
            damaged.setdefault(shard, {}).update(found)
        done(size)
    for shard, found_there in damaged.items():
        layout = layouts[shard]
        assert layout is not None, "it was looked at by the index"
        scan = ShardScan(paths[shard], layout, found_there)
        other = _relaid(scan, of_shard(shard)) if found_there else None
        scans[shard] = other or scan
    return [s for s in scans if s is not None]


def _units(shard: int, layout: Layout | None) -> Iterator[tuple[int, slice | None]]:
    """(shard, records to check at their places), or the whole shard, None, without an index."""
    if layout is None:
        yield shard, None
        return
    ends = np.cumsum(layout.length + FRAME_BYTES)
    cuts = np.flatnonzero(np.diff(ends // _UNIT_BYTES)) + 1
    bounds = [0, *cuts.tolist(), len(ends)]
    yield from ((shard, slice(a, b)) for a, b in itertools.pairwise(bounds))


def _check_rows(
    path: str, layout: Layout, rows: slice, check: ContentCheck | None
) -> dict[int, str]:
    """The damage of some records of a shard, each looked at where the index says it lies."""
    numbers = np.arange(len(layout.offset))[rows]
    starts, lengths = layout.offset[rows], layout.length[rows]
    ends = starts + lengths + FRAME_BYTES
    if not os.path.exists(path):
        return dict.fromkeys(numbers.tolist(), "the shard is missing")
    if not len(numbers):
        return {}
    first, size = int(starts[0]), _size(path)
    with open(path, "rb", buffering=0) as file:
        data = os.pread(file.fileno(), int(ends[-1]) - first, first)
    there = ends - first <= len(data)
    damaged = dict.fromkeys(numbers[~there].tolist(), f"the shard ends at byte {size}")
    numbers, starts, ends = numbers[there], starts[there] - first, ends[there] - first
    payloads, header_fits, payload_fits = check_records(data, starts, ends, keep=check is not None)
    for i in np.flatnonzero(~(header_fits & payload_fits)):
        damaged[int(numbers[i])] = _reason(bool(header_fits[i]), bool(payload_fits[i]))
    good = np.flatnonzero(header_fits & payload_fits)
    if check is not None and len(good):
        found = check(numbers[good], [payloads[i] for i in good])
        damaged |= {int(numbers[good[row]]): reason for row, reason in found.items()}
    return damaged


def _reason(header_fits: bool, payload_fits: bool) -> str:
    if header_fits:
        return "its payload does not match its CRC"
    if payload_fits:
        return "its length or the length's CRC is broken"
    return "its header and its payload are broken"


def _relaid(scan: ShardScan, check: ContentCheck | None) -> ShardScan | None:
    """The scan of a file that is whole but laid out otherwise, else None."""
    if not os.path.exists(scan.path):
        return None
    walked = walk_shard(scan.path, None, None)
    common = min(len(walked.layout.offset), len(scan.layout.offset))
    is_cut = np.array_equal(walked.layout.offset[:common], scan.layout.offset[:common])
    if walked.damaged or not common or is_cut:
        return None
    found = {} if check is None else walk_shard(scan.path, None, check).damaged
    return ShardScan(scan.path, walked.layout, found, is_relaid=True)


def walk_shard(path: str, expected: int | None, check: ContentCheck | None = None) -> ShardScan:
    """Scans a shard without an index.

    Args:
      path: the file; it may be missing.
      expected: records by the metadata: those that are not found count as damaged, in the largest
        gap between found ones.
      check: of the content of records whose CRCs match.
    """
    if not os.path.exists(path):
        none = np.zeros(expected or 0, np.int64)
        lost = dict.fromkeys(range(expected or 0), "the shard is missing")
        return ShardScan(path, Layout(none, none), lost)
    with _mapped(path) as data:
        rows = list(_walk(data))
        missing = (expected or 0) - len(rows)
        if missing > 0:
            rows = _insert_missing(rows, missing, len(data))
        offsets = np.array([r[0] for r in rows], np.int64)
        lengths = np.array([max(0, r[1] - FRAME_BYTES) for r in rows], np.int64)
        damaged = {i: r[2] for i, r in enumerate(rows) if r[2]}
        if check is not None:
            _check_content(data, Layout(offsets, lengths), damaged, check)
    return ShardScan(path, Layout(offsets, lengths), damaged)


@contextlib.contextmanager
def _mapped(path: str) -> Iterator[Any]:
    """The bytes of a file, of any size, mapped into memory."""
    if not _size(path):
        yield b""
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _check_content(data: Any, layout: Layout, damaged: dict[int, str], check: ContentCheck) -> None:
    """Adds the damage of the content of records whose CRCs match."""
    good = np.array([i for i in range(len(layout.offset)) if i not in damaged], np.int64)
    for part in np.array_split(good, max(1, -(-len(data) // _UNIT_BYTES))):
        starts = (layout.offset[part] + HEADER_BYTES).tolist()
        ends = (layout.offset[part] + HEADER_BYTES + layout.length[part]).tolist()
        payloads = [data[a:b] for a, b in zip(starts, ends)]
        found = check(part, payloads) if payloads else {}
        damaged |= {int(part[row]): reason for row, reason in found.items()}


def _walk(data: Any) -> Iterator[tuple[int, int, str]]:
    """(offset, bytes with framing, damage or "") of each record, one behind the other."""
    at, size = 0, len(data)
    while at < size:
        length, fits = _read_header(data, at)
        end = at + length + FRAME_BYTES
        if fits and end > size:
            yield at, size - at, f"the shard ends at byte {size}"
            return
        if fits:
            whole = _payload_fits(data, at, length)
            yield at, end - at, "" if whole else _reason(header_fits=True, payload_fits=False)
        elif end <= size and (_read_header(data, end)[1] or _payload_fits(data, at, length)):
            yield at, end - at, _reason(False, _payload_fits(data, at, length))
        else:
            end = _next_record(data, at + 1)
            yield at, end - at, "its length is broken"
        at = end


def _read_header(data: Any, at: int) -> tuple[int, bool]:
    """(payload bytes, whether they match their CRC) of the header at a byte."""
    header = data[at : at + HEADER_BYTES]
    length = int.from_bytes(header[:8], "little")
    crc = int.from_bytes(header[8:], "little")
    return length, len(header) == HEADER_BYTES and masked_crc(header[:8]) == crc


def _payload_fits(data: Any, at: int, length: int) -> bool:
    """Whether a record whose end lies in the file has a payload that matches its CRC."""
    start, end = at + HEADER_BYTES, at + HEADER_BYTES + length
    footer = data[end : end + FOOTER_BYTES]
    if len(footer) < FOOTER_BYTES:
        return False
    return masked_crc(data[start:end]) == int.from_bytes(footer, "little")


def _next_record(data: Any, start: int) -> int:
    """The byte from `start` on at which a record with matching CRCs begins, else the end."""
    size = len(data)
    for first in range(start, size, _UNIT_BYTES):
        block = np.frombuffer(data[first : first + _UNIT_BYTES + HEADER_BYTES], np.uint8)
        if len(block) < HEADER_BYTES:
            break
        windows = np.lib.stride_tricks.sliding_window_view(block, HEADER_BYTES)
        # Of shards below 4 GiB the upper half of a length is 0: few windows are left to look at.
        found = np.flatnonzero(~windows[:, 4:8].any(1))
        headers = np.ascontiguousarray(windows[found])
        lengths = headers[:, :4].copy().view("<u4")[:, 0].astype(np.int64)
        near = lengths <= size - first - found - FRAME_BYTES
        found, headers, lengths = found[near], headers[near], lengths[near]
        unique, which = np.unique(lengths, return_inverse=True)
        crcs = np.array([masked_crc(int(n).to_bytes(8, "little")) for n in unique], np.uint32)
        fits = crcs[which] == headers[:, 8:].copy().view("<u4")[:, 0]
        for at, length in zip((first + found[fits]).tolist(), lengths[fits].tolist()):
            if _payload_fits(data, at, length):
                return int(at)
    return size


def _insert_missing(
    rows: list[tuple[int, int, str]], missing: int, size: int
) -> list[tuple[int, int, str]]:
    """Adds records that were not found at the widest damaged place, else at the end."""
    broken = [i for i, row in enumerate(rows) if "length is broken" in row[2]]
    if not broken:
        return rows + [(size, 0, f"the shard ends at byte {size}")] * missing
    widest = max(broken, key=lambda i: rows[i][1])
    lost = (rows[widest][0], 0, "not found behind a broken length")
    return rows[: widest + 1] + [lost] * missing + rows[widest + 1 :]


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0
