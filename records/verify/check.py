"""Checks every record of a set against the set's own metadata, index and fingerprint."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from records.damage.content import ContentChecker
from records.damage.scan import scan_shards
from records.damage.shard_scan import Damage, DamageKind, ShardScan
from records.damage.skipping import split_layouts
from records.damage.walk import file_size
from records.sets.fingerprint import Change, Difference, differing_files
from records.sets.schema import Schema, read_schema
from records.shards.index import read_stored_index
from records.system.progress import Progress


@dataclasses.dataclass(frozen=True)
class SetReport:
    """What was found in one set.

    Attributes:
      schema: of the set.
      scans: of every shard, by split.
      problems: what is wrong besides damaged records, one line each.
      seconds: it took.
    """

    schema: Schema
    scans: dict[str, list[ShardScan]]
    problems: list[str]
    seconds: float

    @property
    def damage(self) -> list[str]:
        """Shard, record, byte offset and damage of each damaged record."""
        return [
            scan.describe(number)
            for scans in self.scans.values()
            for scan in scans
            for number in sorted(scan.damaged)
        ]

    @property
    def num_bytes(self) -> int:
        """Bytes of the shards there are."""
        return sum(file_size(p) for paths in self.schema.shards.values() for p in paths)

    @property
    def is_sound(self) -> bool:
        """Nothing is wrong."""
        return not self.problems and not self.damage


def verify_set(directory: str, *, content: bool = True) -> SetReport:
    """Reads and checks every record of a set, on all cores, with progress on a terminal.

    Args:
      directory: the set's.
      content: also of what CRCs cannot tell, see `records.damage.content`.

    Raises:
      ValueError: its metadata cannot be read.
    """
    schema = read_schema(directory)
    start = time.perf_counter()  # without the time of reading metadata, which loads TFDS
    # Without content it goes on beside the scan: hashing leaves Python's lock.
    hashing = ThreadPoolExecutor(1).submit(differing_files, directory, in_full=True)
    # A shard in another's place is walked without the index, which tells of other records.
    differing = hashing.result() if content else {}
    total = sum(file_size(p) for paths in schema.shards.values() for p in paths)
    progress = Progress(total, schema.name, "MB", 1e6)
    scans: dict[str, list[ShardScan]] = {}
    checkers: dict[str, ContentChecker] = {}
    problems: list[str] = []
    for split in schema.shards:
        index = read_stored_index(schema, split)
        paths = schema.shards[split]
        swapped = [i for i, p in enumerate(paths) if _is_swapped(differing.get(Path(p).name))]
        layouts = split_layouts(index, len(paths))
        for i in swapped:
            layouts[i] = None
        if index is None and (Path(directory) / f"{split}.index.npz").exists():
            problems.append(
                f"{directory}/{split}.index.npz: does not fit the set. Remove it; the next reader "
                "writes it again"
            )
        checker = checkers[split] = ContentChecker(schema, split, index, swapped)
        check = checker.check if content else None
        lengths = schema.shard_lengths[split]
        found = scan_shards(paths, lengths, layouts, check, progress.add)
        _add_unlabelled(checker, schema, split, found)
        problems += _compare_counts(schema, split, found)
        scans[split] = found
    progress.end()
    problems += _compare_fingerprint(directory, hashing.result(), scans)
    # A part repeats the ids of its split on purpose.
    problems += _repeated_ids({s: c for s, c in checkers.items() if s not in schema.parts})
    return SetReport(schema, scans, problems, time.perf_counter() - start)


def _add_unlabelled(
    checker: ContentChecker, schema: Schema, split: str, scans: list[ShardScan]
) -> None:
    """Records without a class are damaged, unless the whole split has none."""
    numbers = sorted(checker.unlabelled)
    # TFDS gives -1 to every record of a split whose classes were never published.
    if len(numbers) in (0, schema.split_counts[split]):
        return
    firsts = np.cumsum([0, *schema.shard_lengths[split]])
    for number in numbers:
        shard = int(np.searchsorted(firsts, number, side="right")) - 1
        scans[shard].damaged[int(number - firsts[shard])] = Damage(DamageKind.NO_CLASS)


def _compare_counts(schema: Schema, split: str, scans: list[ShardScan]) -> list[str]:
    """What does not agree with the metadata's number of records, shard by shard."""
    problems = []
    for scan, expected in zip(scans, schema.shard_lengths[split], strict=True):
        received = len(scan.layout.offset)
        if received != expected:
            problems.append(
                f"{scan.path}: expected {expected} records by dataset_info.json, received "
                f"{received}"
            )
        elif scan.is_relaid:
            problems.append(f"{scan.path}: holds other records than those of its index")
    return problems


def _is_swapped(difference: Difference | None) -> bool:
    return difference is not None and difference.change is Change.SWAPPED


def _compare_fingerprint(
    directory: str, differing: dict[str, Difference], scans: dict[str, list[ShardScan]]
) -> list[str]:
    """What is not as the fingerprint says; damaged shards are named already."""
    damaged = {Path(s.path).name for found in scans.values() for s in found if s.damaged}
    return [
        f"{Path(directory) / name}: fingerprint expected {one.expected}, received {one.received}"
        for name, one in differing.items()
        if name not in damaged or _is_swapped(one)
    ]


def _repeated_ids(checkers: dict[str, ContentChecker]) -> list[str]:
    """Ids that stand in the set more than once, with both places."""
    parts = [
        (split, numbers, hashes)
        for split, checker in checkers.items()
        for numbers, hashes in checker.ids
    ]
    if not parts:
        return []
    hashes = np.concatenate([h for _, _, h in parts])
    places = [(split, int(n)) for split, numbers, _ in parts for n in numbers]
    # Sorted, equal ids stand side by side; stable, so that the earlier place is named first.
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    return [
        "the id of {} record {} is also that of {} record {}".format(
            *places[order[i]], *places[order[i + 1]]
        )
        for i in same
    ]
