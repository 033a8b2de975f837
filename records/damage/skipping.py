"""Marks damaged records, which keep their numbers, so that every batch stays as it is.

The order of examples, the validation cut and the batches depend on how many records there are, and
on their classes and groups, which the index knows without reading them. So a damaged record stays
in the index: another one is read in its place, and its position in a batch has weight 0.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from records.damage.content import ContentChecker
from records.damage.scan import scan_shards
from records.damage.shard_scan import Layout, ShardScan
from records.decoding.indexing import fill_index
from records.sets.fingerprint import Change, Difference, FingerprintMismatch
from records.sets.hints import rebuild_hint, verify_hint
from records.sets.schema import Schema
from records.shards.index import RecordIndex, frame, shard_bytes
from records.shards.index_file import check_group_is_kept, read_stored_index
from records.stores.mirror import fetch_all


def read_marked_index(
    schema: Schema, split: str, differing: Mapping[str, Difference]
) -> RecordIndex:
    """The index of a split, damaged records marked; reads and checks every record.

    Raises:
      ValueError: a shard holds other records than those that were built, or none is usable.
    """
    fetch_all(schema.shards[split])
    stored = read_stored_index(schema, split)
    checker = ContentChecker(schema, split, stored)
    paths, lengths = schema.shards[split], schema.shard_lengths[split]
    scans = scan_shards(paths, lengths, split_layouts(stored, len(paths)), checker)
    # Before anything is marked: whole records of another build must not pass for undamaged ones.
    refuse_other_records(schema, scans, differing)
    usable = np.concatenate([scan.usable for scan in scans])
    damage = [scan.describe(number) for scan in scans for number in sorted(scan.damaged)]
    # An empty split is no damage.
    if len(usable) and not usable.any():
        raise ValueError(
            f"shards: {schema.name}: split {split} expected at least one record that is "
            f"not damaged, received none of {len(usable)}. {verify_hint(schema.directory)} "
            f"{rebuild_hint(schema.directory)}"
        )
    if stored is None:
        check_group_is_kept(schema, split)
    index = stored or _indexed(schema, split, scans, usable)
    # Of a shard out of which bytes were cut, or into which some were put, not as it was stored.
    index = dataclasses.replace(
        index,
        offset=np.concatenate([s.layout.offset for s in scans]),
        shard_bytes=shard_bytes(schema, split),  # the reader looks no further
    )
    return index if usable.all() else _marked(index, usable, tuple(damage))


def split_layouts(index: RecordIndex | None, num_shards: int) -> list[Layout | None]:
    """Where the records of each shard lie, by the index; None without one."""
    if index is None:
        return [None] * num_shards
    # Records stand in shard order in the index.
    cuts = np.searchsorted(index.shard, np.arange(1, len(index.paths)))
    parts = zip(np.split(index.offset, cuts), np.split(index.length, cuts), strict=True)
    return [Layout(offset, length) for offset, length in parts]


def refuse_other_records(
    schema: Schema, scans: Iterable[ShardScan], differing: Mapping[str, Difference]
) -> None:
    """Raises ValueError where records of the set are whole, and not those that were built."""
    for name, difference in differing.items():
        if not difference.is_damage:
            raise FingerprintMismatch(Path(schema.directory) / name, difference)
    most = {p: n for s in schema.shards for p, n in zip(schema.shards[s], schema.shard_lengths[s])}
    for scan in scans:
        found = differing.get(Path(scan.path).name)
        whole, expected = int(scan.usable.sum()), most[scan.path]
        is_other = scan.is_relaid or whole > expected
        if is_other and found is None:
            of = f"the {expected} records that were built", f"{whole} whole ones that are others"
            found = Difference(Change.CONTENT, *of)
        if found is None:
            continue
        is_whole = not scan.damaged and not scan.strange
        if is_other or found.change is Change.SWAPPED or is_whole:
            raise ValueError(
                f"shards: {scan.path}: expected {found.expected}, received {found.received}: "
                "its records are whole, but not those that were built. --on-corrupt skip and "
                "--repair leave out damaged records only. Where shards were exchanged, exchange "
                f"them again. {rebuild_hint(schema.directory)}"
            )


def _indexed(schema: Schema, split: str, scans: list[ShardScan], usable: np.ndarray) -> RecordIndex:
    """An index of what is left, where there is none: damaged records are of class 0."""
    index = frame(schema, split, [(s.layout.offset, s.layout.length) for s in scans])
    fill_index(schema, index, np.flatnonzero(usable))
    index.label[~usable] = 0
    index.is_grey[~usable] = True  # they do not make the pictures of all others coloured
    index.group[~usable] = np.flatnonzero(~usable)  # in a group of their own
    return index


def _marked(index: RecordIndex, usable: np.ndarray, damage: tuple[str, ...]) -> RecordIndex:
    """The index with a usable record, the next one, in the place of each damaged one."""
    good = np.flatnonzero(usable)
    # Behind the last usable record there is no next one: the last one itself stands in.
    after = good[np.minimum(np.searchsorted(good, np.arange(len(usable))), len(good) - 1)]
    stands = np.where(usable, np.arange(len(usable)), after)
    # Only where the bytes lie changes. Class, group and number of ids of the damaged record stay,
    # because the order and the validation cut are made of them.
    read = ("shard", "offset", "length", "input_start", "input_bytes")
    return dataclasses.replace(
        index,
        damaged=~usable,
        damage=damage,
        **{name: getattr(index, name)[stands] for name in read},
    )
