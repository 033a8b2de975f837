"""Command line: reads and checks every record of prepared sets, and names what is damaged.

    python -m records.verify DATA_DIR
    python -m records.verify DATA_DIR --leakage
    python -m records.verify DATA_DIR --repair DIR

DATA_DIR holds prepared sets, or is one. The exit code is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from records.system.command import run_as_command
from records.system.places import check_local
from records.system.progress import Progress

if TYPE_CHECKING:
    from records.damage.content import ContentChecker
    from records.damage.shard_scan import ShardScan
    from records.sets.fingerprint import Difference
    from records.sets.schema import Schema


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
        return sum(_size(p) for paths in self.schema.shards.values() for p in paths)

    @property
    def is_sound(self) -> bool:
        """Nothing is wrong."""
        return not self.problems and not self.damage


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m records.verify",
        description="Checks every record of prepared sets: framing, both CRCs, content against the "
        "schema, counts, classes, pictures, ids, fingerprint. Names each damaged record.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("data_dir", metavar="DATA_DIR", help="a folder of prepared sets, or one set's own")
    add(
        "--no-content",
        action="store_true",
        help="framing, CRCs, counts and fingerprint only, at the speed of the disk: no parsing, no "
        "decoding of pictures",
    )
    add(
        "--leakage",
        action="store_true",
        help="also count exact and near copies across splits, and list them",
    )
    add(
        "--repair",
        metavar="DIR",
        help="write a copy of each damaged set, without the damaged records, to this data folder",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Verifies, and repairs if asked to; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _verify(options))


def _verify(options: argparse.Namespace) -> int:
    from records.verify.leakage import print_leakage
    from records.verify.repair import write_repaired

    sound = True
    for directory in find_sets(options.data_dir):
        report = verify_set(directory, content=not options.no_content)
        print_report(report)
        sound &= report.is_sound
        if options.leakage:
            print_leakage(report.schema, report.scans)
        if options.repair and not report.is_sound:
            print(f"  {write_repaired(report.schema, report.scans, options.repair)}")
        elif options.repair:
            print("  nothing to repair, nothing was copied")
    return 0 if sound else 1


def find_sets(data_dir: str) -> list[str]:
    """The directories of the prepared sets in a folder, or the folder itself where it is one.

    Raises:
      FileNotFoundError: there is none.
    """
    check_local(data_dir, "DATA_DIR")
    root = Path(data_dir)
    if (root / "dataset_info.json").exists():
        return [str(root)]
    patterns = ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
    found = {p.parent for pattern in patterns for p in root.glob(pattern)}
    unfinished = ("incomplete.", "replaced.", ".")
    sets = sorted(str(p) for p in found if not p.name.startswith(unfinished))
    if not sets:
        raise FileNotFoundError(
            f"verify: {root}: expected prepared sets (folders with dataset_info.json), "
            f"received {'none' if root.is_dir() else 'no such folder'}. Prepare one with: "
            f"tfds build builders/fetal_health --config synthetic --data_dir {root}"
        )
    return sets


def verify_set(directory: str, *, content: bool = True) -> SetReport:
    """Reads and checks every record of a set, on all cores, with progress on a terminal.

    Args:
      directory: the set's.
      content: also of what CRCs cannot tell, see `records.damage.content`.

    Raises:
      ValueError: its metadata cannot be read.
    """
    from records.damage.content import ContentChecker
    from records.damage.scan import scan_shards
    from records.damage.skipping import split_layouts
    from records.sets.fingerprint import differing_shards
    from records.sets.schema import read_schema
    from records.shards.index import read_stored_index

    schema = read_schema(directory)
    start = time.perf_counter()  # not with what was imported until now
    hashing = ThreadPoolExecutor(1).submit(differing_shards, directory, in_full=True)
    # A shard in another's place: its records are looked at for themselves.
    differing = hashing.result() if content else {}
    total = sum(_size(p) for paths in schema.shards.values() for p in paths)
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
        if index is None and _has_index(schema, split):
            problems.append(
                f"{directory}/{split}.index.npz: does not fit the set; remove it: it is built anew"
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
    problems += _repeated_ids(checkers)
    return SetReport(schema, scans, problems, time.perf_counter() - start)


def _has_index(schema: Schema, split: str) -> bool:
    return (Path(schema.directory) / f"{split}.index.npz").exists()


def _add_unlabelled(
    checker: ContentChecker, schema: Schema, split: str, scans: list[ShardScan]
) -> None:
    """Records without a class are damaged, unless the whole split has none."""
    from records.damage.shard_scan import Damage, DamageKind

    numbers = sorted(checker.unlabelled)
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
    from records.sets.fingerprint import Change

    return difference is not None and difference.change is Change.SWAPPED


def _compare_fingerprint(
    directory: str,
    differing: dict[str, Difference],
    scans: dict[str, list[ShardScan]],
) -> list[str]:
    """What is not as the fingerprint says; damaged shards are named already."""
    from records.sets.fingerprint import check_fingerprint, read_fingerprint

    if read_fingerprint(directory) is None:
        return []  # a set of TFDS's own
    damaged = {Path(s.path).name for found in scans.values() for s in found if s.damaged}
    problems = [
        f"{Path(directory) / name}: fingerprint expected {one.expected}, received {one.received}"
        for name, one in differing.items()
        if name not in damaged or _is_swapped(one)
    ]
    try:
        check_fingerprint(directory, skip_damaged=True)
    except ValueError as error:
        problems.append(str(error))
    return problems


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
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    return [
        "the id of {} record {} is also that of {} record {}".format(
            *places[order[i]], *places[order[i + 1]]
        )
        for i in same
    ]


def print_report(report: SetReport) -> None:
    """What was checked, and everything that is wrong."""
    counts = sum(len(s.layout.offset) for scans in report.scans.values() for s in scans)
    shards = sum(map(len, report.scans.values()))
    size, seconds = report.num_bytes / 1e6, report.seconds
    print(
        f"{report.schema.name}: {counts:,} records in {shards} shards, {size:,.1f} MB in "
        f"{seconds:.2f} s ({size / seconds:,.0f} MB/s)"
    )
    for line in report.problems:
        print(f"  wrong: {line}")
    for line in report.damage:
        print(f"  damaged: {line}")
    if report.is_sound:
        print("  sound: nothing is wrong")
    else:
        lost = len(report.damage)
        print(f"  {lost:,} damaged records, {len(report.problems)} other problems")


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


if __name__ == "__main__":
    sys.exit(main())
