"""Scans a shard without an index, record by record, also behind a damaged one.

Behind a broken length header the next record is searched for, byte by byte, by a header and a
payload that match their CRCs. A payload that itself holds whole TFRecords can mislead that search;
an index cannot be misled.
"""

import contextlib
import dataclasses
import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from records.damage.shard_scan import ContentCheck, Damage, DamageKind, Layout, ShardScan
from records.shards.crc import crcs_of_lengths, masked_crc, stored_crcs
from records.shards.framing import FOOTER_BYTES, FRAME_BYTES, HEADER_BYTES, read_header

# Read at once: large beside a call's cost, small enough that threads share a set evenly.
UNIT_BYTES = 8 * 2**20


@dataclasses.dataclass(frozen=True)
class _Record:
    """A record that the walk found: its first byte, its size with framing, what is wrong."""

    offset: int
    num_bytes: int
    damage: Damage | None = None


def walk_shard(path: str, expected: int | None, check: ContentCheck | None = None) -> ShardScan:
    """Scans a shard without an index.

    Args:
      path: the file; it may be missing.
      expected: records by the metadata: those that are not found count as damaged, in the largest
        gap between found ones. None where the number is not known.
      check: of the content of records whose CRCs match.
    """
    if not os.path.exists(path):
        # Its records keep their numbers, so that those of later shards do not move.
        none = np.zeros(expected or 0, np.int64)
        lost = dict.fromkeys(range(expected or 0), Damage(DamageKind.SHARD_MISSING))
        return ShardScan(path, Layout(none, none), lost)
    with _mapped(path) as data:
        records = list(_walk(data))
        missing = (expected or 0) - len(records)
        if missing > 0:
            records = _insert_missing(records, missing, len(data))
        offsets = np.array([r.offset for r in records], np.int64)
        lengths = np.array([max(0, r.num_bytes - FRAME_BYTES) for r in records], np.int64)
        damaged = {i: r.damage for i, r in enumerate(records) if r.damage is not None}
    add_content_damage(path, Layout(offsets, lengths), damaged, check)
    return ShardScan(path, Layout(offsets, lengths), damaged)


def frame_damage(header_fits: bool, payload_fits: bool) -> Damage:
    """The damage of a record of known size, of which one or both CRCs do not match."""
    if header_fits:
        return Damage(DamageKind.PAYLOAD)
    return Damage(DamageKind.HEADER if payload_fits else DamageKind.HEADER_AND_PAYLOAD)


def file_size(path: str) -> int:
    """Bytes of a file, 0 where it is missing."""
    return os.path.getsize(path) if os.path.exists(path) else 0


@contextlib.contextmanager
def _mapped(path: str) -> Iterator[Any]:
    """The bytes of a file, of any size, mapped into memory."""
    if not file_size(path):
        yield b""
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def add_content_damage(
    path: str, layout: Layout, damaged: dict[int, Damage], check: ContentCheck | None
) -> None:
    """Adds to `damaged` what `check` finds in the other records of a file."""
    good = np.array([i for i in range(len(layout.offset)) if i not in damaged], np.int64)
    if check is None or not len(good):
        return
    done = 0
    for payloads in read_records(path, Layout(layout.offset[good], layout.length[good])):
        part = good[done : done + len(payloads)]
        done += len(payloads)
        for row, reason in check(part, payloads).items():
            damaged[int(part[row])] = Damage(DamageKind.CONTENT, reason)


def read_records(path: str, layout: Layout) -> Iterator[list[bytes]]:
    """The payloads of records of a file, some at a time, unchecked."""
    starts = layout.offset + HEADER_BYTES
    ends = starts + layout.length
    with _mapped(path) as data:
        for part in np.array_split(np.arange(len(starts)), max(1, -(-len(data) // UNIT_BYTES))):
            yield [data[a:b] for a, b in zip(starts[part].tolist(), ends[part].tolist())]


def _walk(data: Any) -> Iterator[_Record]:
    """The records of a file, one behind the other."""
    at, size = 0, len(data)
    while at < size:
        length, fits = read_header(data, at)
        end = at + length + FRAME_BYTES
        if fits and end <= size and _payload_fits(data, at, length):
            yield _Record(at, end - at)
        elif fits and end <= size and _may_begin(data, end):
            yield _Record(at, end - at, frame_damage(True, False))
        elif fits:
            # The length is right, but the record does not end there: the file does, or bytes of it
            # were cut out or put in, and the next one begins elsewhere.
            after = _next_record(data, at + 1)
            if after == size and end > size:
                yield _Record(at, size - at, Damage(DamageKind.CUT_OFF, str(size)))
                return
            end = end if after == size else after
            yield _Record(at, end - at, frame_damage(True, False))
        elif end <= size and _ends_well(data, at, length):
            # The length is right, though its CRC is not: a record begins, or a payload ends, there.
            yield _Record(at, end - at, frame_damage(False, _payload_fits(data, at, length)))
        else:
            end = _next_record(data, at + 1)
            yield _Record(at, end - at, Damage(DamageKind.LENGTH))
        at = end


def _may_begin(data: Any, at: int) -> bool:
    """Whether a record, also one with a broken header, or the file's end stands at a byte."""
    if at == len(data):
        return True
    length, fits = read_header(data, at)
    end = at + length + FRAME_BYTES
    return fits or (end <= len(data) and (end == len(data) or _ends_well(data, at, length)))


def _ends_well(data: Any, at: int, length: int) -> bool:
    """Whether a record begins, or a payload ends, where a length leads."""
    return read_header(data, at + length + FRAME_BYTES)[1] or _payload_fits(data, at, length)


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
    for first in range(start, size, UNIT_BYTES):
        # Blocks overlap by a header, so that one across the border is found.
        block = np.frombuffer(data[first : first + UNIT_BYTES + HEADER_BYTES], np.uint8)
        if len(block) < HEADER_BYTES:
            break
        windows = np.lib.stride_tricks.sliding_window_view(block, HEADER_BYTES)
        # Of shards below 4 GiB the upper half of a length is 0: few windows are left to look at.
        found = np.flatnonzero(~windows[:, 4:8].any(1))
        headers = np.ascontiguousarray(windows[found])
        lengths = headers[:, :4].copy().view("<u4")[:, 0].astype(np.int64)
        near = lengths <= size - first - found - FRAME_BYTES
        found, headers, lengths = found[near], headers[near], lengths[near]
        fits = crcs_of_lengths(lengths) == stored_crcs(headers[:, 8:])
        for at, length in zip((first + found[fits]).tolist(), lengths[fits].tolist()):
            if _payload_fits(data, at, length):
                return int(at)
    return size


def _insert_missing(records: list[_Record], missing: int, size: int) -> list[_Record]:
    """Adds records that were not found at the widest damaged place, else at the end."""
    # A broken length hides how many records follow it: only there can some have been passed over.
    broken = [i for i, r in enumerate(records) if r.damage and r.damage.kind is DamageKind.LENGTH]
    if not broken:
        return records + [_Record(size, 0, Damage(DamageKind.CUT_OFF, str(size)))] * missing
    widest = max(broken, key=lambda i: records[i].num_bytes)
    lost = _Record(records[widest].offset, 0, Damage(DamageKind.NOT_FOUND))
    return records[: widest + 1] + [lost] * missing + records[widest + 1 :]
