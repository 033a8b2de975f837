"""Checks every record of a set against the set's own metadata, index and fingerprint."""

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from records.damage.content import ContentChecker
from records.damage.scan import scan_shards
from records.damage.shard_scan import Damage, DamageKind, Layout, ShardScan
from records.damage.skipping import split_layouts
from records.damage.walk import file_size
from records.decoding.modality_base import FindingKind
from records.decoding.pixels import MAX_PIXELS
from records.sets.fingerprint import (
    FILE_NAME,
    Change,
    Difference,
    differing_files,
    find_shards,
)
from records.sets.hints import has_fingerprint_when_built, rebuild_hint
from records.sets.schema import IMAGE, Schema, read_schema
from records.shards.index_file import index_problems, read_stored_index
from records.system.progress import Progress
from records.system.quiet import NativeNotes

_LISTED = 8  # records in a line


@dataclasses.dataclass(frozen=True)
class SetReport:
    """What was found in one set."""

    name: str  # `name/config/version`, or the directory of a set whose metadata cannot be read
    schema: Schema | None  # of the set; None where its metadata cannot be read
    scans: dict[str, list[ShardScan]]  # of every shard, by split; of all under "" without a schema
    problems: list[str]  # what is wrong besides damaged records, one line each
    differing: dict[str, Difference]  # by name, the files that are not as they were built
    seconds: float  # it took
    notes: Sequence[str] = ()  # what is not wrong, and worth a look

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
        return sum(file_size(scan.path) for scans in self.scans.values() for scan in scans)

    @property
    def is_sound(self) -> bool:
        """Nothing is wrong."""
        return not self.problems and not self.damage


def verify_set(
    directory: str,
    *,
    content: bool = True,
    max_pixels: int = MAX_PIXELS,
    feature: str | None = None,
) -> SetReport:
    """Reads and checks every record of a set, on all cores, with progress on a terminal.

    What cannot be read is a problem of the report, and the rest is checked.

    Args:
      directory: the set's.
      content: also of what CRCs cannot tell, see `records.damage.content`.
      max_pixels: larger pictures are told, and not decoded.
      feature: the input feature; None lets the schema choose.
    """
    try:
        schema = read_schema(directory, feature)
        schema.vocabulary()
    except (ValueError, OSError) as error:
        return _verify_framing(directory, str(error))
    start = time.perf_counter()  # without the time of reading metadata, which loads TFDS
    problems: list[str] = []
    # Without content it goes on beside the scan: hashing leaves Python's lock.
    hashing = ThreadPoolExecutor(1).submit(_compare_files, directory, problems)
    # A shard in another's place is walked without the index, which tells of other records.
    differing = hashing.result() if content else {}
    total = sum(file_size(p) for paths in schema.shards.values() for p in paths)
    progress = Progress(total, schema.name, "MB", 1e6)
    scans: dict[str, list[ShardScan]] = {}
    heard = NativeNotes()  # decoders of pictures write to the error stream, and name no file
    checkers: dict[str, ContentChecker] = {}
    for split in schema.shards:
        index = read_stored_index(schema, split, in_full=True)
        paths = schema.shards[split]
        swapped = [i for i, p in enumerate(paths) if _is_swapped(differing.get(Path(p).name))]
        layouts = split_layouts(index, len(paths))
        layouts = [None if i in swapped else one for i, one in enumerate(layouts)]
        checkers[split] = checker = ContentChecker(schema, split, index, swapped, max_pixels, heard)
        # Such a shard need not hold as many records as the one that was built.
        counts = [0 if i in swapped else n for i, n in enumerate(schema.shard_lengths[split])]
        with heard.listen(content and schema.modality == IMAGE):
            found = scan_shards(paths, counts, layouts, checker if content else None, progress.add)
        _add_unlabelled(checker, schema, split, found)
        problems += _compare_counts(schema, split, found) + _moved_records(found, layouts)
        problems += _others(checker, schema, split, FindingKind.UNSUPPORTED, FindingKind.MISREAD)
        if index is None:
            problems += index_problems(schema, split)
        scans[split] = found
    progress.end()
    differing = hashing.result()
    problems += _unnamed_shards(schema)
    problems += _compare_fingerprint(directory, differing, scans)
    # A part repeats the ids of its split on purpose.
    problems += _repeated_ids({s: c for s, c in checkers.items() if s not in schema.parts})
    notes = [schema.names_note] if schema.names_note else []
    notes += [n for s, c in checkers.items() for n in _others(c, schema, s, FindingKind.NOTE)]
    seconds = time.perf_counter() - start
    return SetReport(schema.name, schema, scans, problems, differing, seconds, notes)


def _verify_framing(directory: str, problem: str) -> SetReport:
    """Checks what can be checked where the metadata of a set cannot be read: frames and CRCs."""
    start, problems = time.perf_counter(), [problem]
    differing = _compare_files(directory, problems)
    paths = [str(path) for path in find_shards(Path(directory))]
    found = scan_shards(paths, [0] * len(paths), [None] * len(paths))
    scans = {"": found}
    problems += _compare_fingerprint(directory, differing, scans)
    return SetReport(directory, None, scans, problems, differing, time.perf_counter() - start)


def _compare_files(directory: str, problems: list[str]) -> dict[str, Difference]:
    """`differing_files` of a set, all hashed; adds to `problems` why it cannot be told."""
    try:
        differing = differing_files(directory, in_full=True)
    except (ValueError, OSError) as error:
        problems.append(str(error))
        return {}
    if not (Path(directory) / FILE_NAME).exists() and has_fingerprint_when_built(directory):
        problems.append(
            f"{directory}/{FILE_NAME}: expected, as it was built with one, received none: what was "
            f"changed can no longer be told. {rebuild_hint(directory)}"
        )
    return differing


def _unnamed_shards(schema: Schema) -> list[str]:
    """Shards of no split: dataset_info.json has lost one, or they are left from elsewhere."""
    named = {Path(path).name for paths in schema.shards.values() for path in paths}
    return [
        f"{path}: expected as a shard of a split in dataset_info.json, which names "
        f"{', '.join(sorted(schema.shards)) or 'none'}"
        for path in find_shards(Path(schema.directory))
        if path.name not in named
    ]


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
        if scan.strange:
            problems.append(
                f"{scan.path}: whole records that were not built with it: {len(scan.strange):,}, "
                f"the first at byte {scan.strange[0]}"
            )
    return problems


def _moved_records(scans: list[ShardScan], layouts: Sequence[Layout | None]) -> list[str]:
    """Shards that hold all their records, at other places than their index says."""
    return [
        f"{scan.path}: holds its records at other places than its index says"
        for scan, layout in zip(scans, layouts, strict=True)
        if layout is not None
        and layout is not scan.layout
        and not (scan.damaged or scan.strange or scan.is_relaid)
    ]


def _others(checker: ContentChecker, schema: Schema, split: str, *kinds: FindingKind) -> list[str]:
    """Records that are not damaged: a line for each reason, with how many and the first ones."""
    lines, total = [], schema.split_counts[split]
    for kind in kinds:
        by_reason: dict[str, list[str]] = {}
        for number, told in sorted(checker.others(kind).items()):
            by_reason.setdefault(told.reason, []).append(f"number {number}{told.name}")
        for reason, named in list(by_reason.items())[:_LISTED]:
            more = f" and {len(named) - _LISTED:,} more" if len(named) > _LISTED else ""
            lines.append(
                f"{len(named):,} of {total:,} {split} records are {kind.value}: {reason}: "
                f"{', '.join(named[:_LISTED])}{more}"
            )
        if rest := list(by_reason.values())[_LISTED:]:
            lines.append(f"{sum(map(len, rest)):,} more {split} records are {kind.value}")
    return [f"{schema.directory}: {line}" for line in lines]


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
    numbers = np.concatenate([n for _, n, _ in parts])
    splits = np.repeat([split for split, _, _ in parts], [len(n) for _, n, _ in parts])
    # Sorted, equal ids stand side by side; stable, so that the earlier place is named first.
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    return [
        f"the id of {splits[one]} record {numbers[one]} is also that of {splits[other]} record "
        f"{numbers[other]}"
        for one, other in zip(order[same], order[same + 1], strict=True)
    ]
