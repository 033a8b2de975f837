"""Shards whose records stand elsewhere than their index says: bytes were cut out or put in.

What is whole decides: a record that a walk finds is the index's own, wherever it stands, where it
has the length, class and group of one. So what was cut out costs itself alone, and what was put in
costs nothing.
"""

import collections
import functools
from collections.abc import Hashable, Sequence

import numpy as np

from records.damage.content import ContentChecker
from records.damage.shard_scan import Damage, DamageKind, Layout, ShardScan
from records.damage.walk import add_content_damage, read_records, walk_shard
from records.shards.framing import FRAME_BYTES


def find_moved(scan: ShardScan, shard: int, checker: ContentChecker | None) -> ShardScan | None:
    """What a walk makes of a shard that does not fit its index; None where the index tells more.

    `scan` looked at each record where the index says it lies. Without a checker records are known
    by their lengths alone.
    """
    walked = walk_shard(scan.path, None)
    whole = np.flatnonzero(walked.usable)
    if len(whole) <= int(scan.usable.sum()):
        return None
    found = Layout(walked.layout.offset[whole], walked.layout.length[whole])
    row_of, strange = _match(*_keys(scan, found, shard, checker))
    if checker is not None:
        checker.begin_again(shard)
    check = None if checker is None else functools.partial(checker.check, shard)
    is_same_place = np.isin(found.offset, scan.layout.offset).all()
    if len(row_of) <= len(strange) and (len(strange) > 1 or not is_same_place):
        damaged = dict(walked.damaged)
        add_content_damage(scan.path, walked.layout, damaged, check)
        return ShardScan(scan.path, walked.layout, damaged, is_relaid=True)
    layout = _place(scan.layout, found, row_of)
    damaged = {
        row: Damage(DamageKind.CUT_OUT) for row in range(len(layout.offset)) if row not in row_of
    }
    add_content_damage(scan.path, layout, damaged, check)
    offsets = tuple(int(found.offset[row]) for row in strange)
    moved = ShardScan(scan.path, layout, damaged, strange=offsets)
    gained = int(moved.usable.sum()) - int(scan.usable.sum())
    return moved if gained > 0 or not scan.damaged else None


def _keys(
    scan: ShardScan, found: Layout, shard: int, checker: ContentChecker | None
) -> tuple[list[Hashable], list[Hashable]]:
    """What tells records apart: of those in the index, and of those that were found."""
    indexed, whole = scan.layout.length.tolist(), found.length.tolist()
    if checker is None:
        return indexed, whole
    of_found = [
        key for payloads in read_records(scan.path, found) for key in checker.keys(payloads)
    ]
    return (
        list(zip(indexed, checker.indexed_keys(shard), strict=True)),
        list(zip(whole, of_found, strict=True)),
    )


def _match(
    indexed: Sequence[Hashable], found: Sequence[Hashable]
) -> tuple[dict[int, int], list[int]]:
    """({number in the index: number among the found ones}, those found that are none of them)."""
    same = min(len(indexed), len(found))
    first = next((i for i in range(same) if indexed[i] != found[i]), same)
    last = next((i for i in range(same - first) if indexed[-1 - i] != found[-1 - i]), same - first)
    row_of = {i: i for i in range(first)}
    row_of |= {len(indexed) - 1 - i: len(found) - 1 - i for i in range(last)}
    # Between what is the same at both ends: equal records in the order in which they stand.
    free: dict[Hashable, collections.deque[int]] = collections.defaultdict(collections.deque)
    for row in range(first, len(found) - last):
        free[found[row]].append(row)
    for number in range(first, len(indexed) - last):
        if free[indexed[number]]:
            row_of[number] = free[indexed[number]].popleft()
    return row_of, sorted(row for rows in free.values() for row in rows)


def _place(layout: Layout, found: Layout, row_of: dict[int, int]) -> Layout:
    """Where the records of the index lie; of one that is gone, where it would begin."""
    offsets, lengths, end = [], [], 0
    for number in range(len(layout.offset)):
        row = row_of.get(number)
        offsets.append(end if row is None else int(found.offset[row]))
        lengths.append(0 if row is None else int(found.length[row]))
        end = offsets[-1] + (0 if row is None else lengths[-1] + FRAME_BYTES)
    return Layout(np.array(offsets, np.int64), np.array(lengths, np.int64))
