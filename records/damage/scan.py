"""Which records of a split are damaged: every record's framing and both CRCs.

Where the index tells where the records lie, each is checked at its place, so that damage to one
says nothing about the next. A shard without an index is walked (`records.damage.walk`), and so is
one whose records are not at their places (`records.damage.moved`).
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from records.damage.content import ContentChecker
from records.damage.moved import find_moved
from records.damage.shard_scan import ContentCheck, Damage, DamageKind, Layout, ShardScan
from records.damage.walk import UNIT_BYTES, file_size, frame_damage, walk_shard
from records.shards.framing import FRAME_BYTES, check_records, cut_payloads
from records.system.threads import ordered_map


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Records of a shard that are read and checked at once, at the places the index names."""

    shard: int
    layout: Layout
    rows: slice

    @property
    def num_bytes(self) -> int:
        return int((self.layout.length[self.rows] + FRAME_BYTES).sum())


def scan_shards(
    paths: Sequence[str],
    expected: Sequence[int],
    layouts: Sequence[Layout | None],
    checker: ContentChecker | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> list[ShardScan]:
    """Scans the shards of a split on all cores.

    Args:
      expected: records of each by the metadata.
      layouts: of each by the index; None for one that is walked without an index.
      checker: of the content of records whose CRCs match.
      done: is called with the bytes of each piece of work.
    """
    reasons = {i: reason for i, path in enumerate(paths) if (reason := why_unreadable(path))}
    scans = {
        i: _unreadable(paths[i], layouts[i], expected[i], reason) for i, reason in reasons.items()
    }
    # Shards of any size are shared evenly between the cores, because the index cuts them in pieces.
    indexed = {i: one for i, one in enumerate(layouts) if one is not None and i not in scans}
    damaged: dict[int, dict[int, Damage]] = {i: {} for i in indexed}

    def check_piece(piece: _Piece) -> dict[int, Damage]:
        return _check_rows(paths[piece.shard], piece.layout, piece.rows, _of(checker, piece.shard))

    pieces = [piece for i, layout in indexed.items() for piece in _pieces(i, layout)]
    for piece, found in zip(pieces, ordered_map(check_piece, pieces), strict=True):
        damaged[piece.shard] |= found
        done(piece.num_bytes)
    for i, layout in indexed.items():
        scan = ShardScan(paths[i], layout, damaged[i])
        scans[i] = (find_moved(scan, i, checker) if _may_have_moved(scan) else None) or scan

    def walk(shard: int) -> ShardScan:
        return walk_shard(paths[shard], expected[shard], _of(checker, shard))

    # A walk is sequential, hence one task per shard.
    others = [i for i in range(len(paths)) if i not in scans]
    for i, scan in zip(others, ordered_map(walk, others), strict=True):
        scans[i] = scan
        done(file_size(paths[i]))
    return [scans[i] for i in range(len(paths))]


def _may_have_moved(scan: ShardScan) -> bool:
    """Whether a shard of which each record was looked at by the index is worth a walk."""
    if any(one.kind is DamageKind.UNREADABLE for one in scan.damaged.values()):
        return False  # a walk maps the file, and a bad sector would end the process
    end = int((scan.layout.length + FRAME_BYTES).sum())
    return bool(scan.damaged) or file_size(scan.path) > end


def why_unreadable(path: str) -> str:
    """What the system says when a file is opened; "" where it can be read, or is not there."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _unreadable(path: str, layout: Layout | None, expected: int, reason: str) -> ShardScan:
    """The scan of a file that cannot be opened: all its records are lost."""
    none = np.zeros(expected, np.int64)
    layout = Layout(none, none) if layout is None else layout
    damage = Damage(DamageKind.UNREADABLE, reason)
    return ShardScan(path, layout, dict.fromkeys(range(len(layout.offset)), damage))


def _of(checker: ContentChecker | None, shard: int) -> ContentCheck | None:
    """The check of one shard's records."""
    return None if checker is None else functools.partial(checker.check, shard)


def _pieces(shard: int, layout: Layout) -> Iterator[_Piece]:
    """A shard's records in pieces of about `UNIT_BYTES`."""
    ends = np.cumsum(layout.length + FRAME_BYTES)
    cuts = np.flatnonzero(np.diff(ends // UNIT_BYTES)) + 1
    bounds = [0, *cuts.tolist(), len(ends)]
    yield from (_Piece(shard, layout, slice(a, b)) for a, b in itertools.pairwise(bounds))


def _check_rows(
    path: str, layout: Layout, rows: slice, check: ContentCheck | None
) -> dict[int, Damage]:
    """The damage of some records of a shard, each looked at where the index says it lies."""
    numbers = np.arange(len(layout.offset))[rows]
    # By the index alone: a broken header cannot lead to the wrong place.
    starts, lengths = layout.offset[rows], layout.length[rows]
    ends = starts + lengths + FRAME_BYTES
    if not os.path.exists(path):
        return dict.fromkeys(numbers.tolist(), Damage(DamageKind.SHARD_MISSING))
    if not len(numbers):
        return {}
    # One read for the whole piece, also over a gap: records stand one behind the other.
    first = int(starts[0])
    try:
        with open(path, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), int(ends[-1]) - first, first)
    except OSError as error:  # a sector that cannot be read: which records stand on it?
        if len(numbers) > 1:
            one_by_one = (slice(n, n + 1) for n in numbers.tolist())
            parts = (_check_rows(path, layout, row, check) for row in one_by_one)
            return {row: damage for part in parts for row, damage in part.items()}
        return {int(numbers[0]): Damage(DamageKind.UNREADABLE, error.strerror or str(error))}
    there = ends - first <= len(data)
    # `pread` returned less than was asked for: the file ends before the last records.
    cut_off = Damage(DamageKind.CUT_OFF, str(file_size(path)))
    damaged = dict.fromkeys(numbers[~there].tolist(), cut_off)
    numbers, starts, ends = numbers[there], starts[there] - first, ends[there] - first
    cut = cut_payloads(data, starts, ends)
    payloads = [] if check is None else list(cut)
    header_fits, payload_fits = check_records(data, starts, ends, payloads or cut)
    for i in np.flatnonzero(~(header_fits & payload_fits)):
        damaged[int(numbers[i])] = frame_damage(bool(header_fits[i]), bool(payload_fits[i]))
    good = np.flatnonzero(header_fits & payload_fits)
    if check is not None and len(good):
        for row, reason in check(numbers[good], [payloads[i] for i in good]).items():
            damaged[int(numbers[good[row]])] = Damage(DamageKind.CONTENT, reason)
    return damaged
