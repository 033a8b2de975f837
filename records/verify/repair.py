"""Writes a clean copy of a damaged set, whose metadata list the records that were left out."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from records.damage.shard_scan import ShardScan
from records.damage.skipping import refuse_other_records
from records.sets.fingerprint import Difference
from records.sets.hints import rebuild_hint
from records.sets.schema import Schema
from records.shards.framing import FRAME_BYTES

_COPY_BYTES = 8 * 2**20
_SHARD_OF = re.compile(r"-\d{5}-of-\d{5}$")


def write_repaired(
    schema: Schema,
    scans: dict[str, list[ShardScan]],
    differing: Mapping[str, Difference],
    data_dir: str,
) -> str:
    """Writes `<data_dir>/<name>/<config>/<version>`, whole or not at all; returns a line about it.

    Records keep their order and their bytes. A shard of which nothing is left is left out, and
    those behind it are renumbered. `damaged` in metadata.json lists what was lost. The damaged set
    stays as it is.

    Raises:
      ValueError: nothing of `train` is left, or there is such a set already; or a shard holds
        whole records that are not its own, or a file that says what shards hold was changed: the
        copy would be sound, and another set.
      OSError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    final = Path(data_dir) / schema.name
    if final.exists():
        raise ValueError(
            f"verify: --repair expected a folder without {schema.name}, received "
            f"{final}, which is there already. Name another folder, or remove that one"
        )
    refuse_other_records(schema, (one for found in scans.values() for one in found), differing)
    if not any(scan.usable.any() for scan in scans.get("train", [])):
        raise ValueError(
            f"verify: {schema.directory}: split train expected usable records, received "
            f"none. {rebuild_hint(schema.directory)}"
        )
    with _unfinished(final) as folder:
        lengths = {split: _copy_shards(found, folder) for split, found in scans.items()}
        _copy_rest(schema, folder)
        lost = {split: _damage(found) for split, found in scans.items()}
        _write_metadata(schema, folder, lengths, lost)
        _write_index_and_fingerprint(folder, schema.input_name)
    kept = sum(n for found in lengths.values() for n, _ in found)
    count = sum(map(len, lost.values()))
    return f"repaired copy: {final}, {kept:,} records; {count:,} damaged ones are left out"


@contextlib.contextmanager
def _unfinished(final: Path) -> Iterator[Path]:
    """A folder beside the final one that takes its name when all is done."""
    final.parent.mkdir(parents=True, exist_ok=True)
    # On the same file system as the final folder: else the rename would be a copy.
    folder = final.with_name(f".repair.{os.getpid()}.{final.name}")
    folder.mkdir()
    try:
        yield folder
        os.rename(folder, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_shards(scans: list[ShardScan], folder: Path) -> list[tuple[int, int]]:
    """Copies a split's usable records; (records, payload bytes) of each shard written."""
    left = [scan for scan in scans if scan.usable.any()]
    written = []
    for number, scan in enumerate(left):
        name = Path(scan.path).name
        if len(left) < len(scans):
            # TFDS reads as many shards as the metadata have lengths, numbered without a gap.
            name = _SHARD_OF.sub(f"-{number:05d}-of-{len(left):05d}", name)
        usable = scan.usable
        offsets, lengths = scan.layout.offset[usable], scan.layout.length[usable]
        # "x": two shards must not get one name.
        with open(scan.path, "rb") as source, open(folder / name, "xb") as target:
            for start, end in _stretches(offsets, offsets + lengths + FRAME_BYTES):
                # In pieces: a stretch may be as large as the shard.
                source.seek(start)
                for at in range(start, end, _COPY_BYTES):
                    target.write(source.read(min(_COPY_BYTES, end - at)))
            # Before the folder gets its name: a crash must not leave a whole set with empty files.
            target.flush()
            os.fsync(target.fileno())
        written.append((len(offsets), int(lengths.sum())))
    return written


def _stretches(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[int, int]]:
    """(start, end) of what stands without a gap."""
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    firsts, lasts = np.append(0, breaks + 1), np.append(breaks, len(starts) - 1)
    yield from zip(starts[firsts].tolist(), ends[lasts].tolist())


def _copy_rest(schema: Schema, folder: Path) -> None:
    """Features, class names, vocabularies: every file that is neither shard nor made from them."""
    made = ("dataset_info.json", "metadata.json", "fingerprint.json")
    for path in Path(schema.directory).iterdir():
        derived = path.name in made or path.name.endswith(".index.npz") or path.name[0] == "."
        if path.is_file() and not derived and not _SHARD_OF.search(path.name):
            shutil.copy2(path, folder / path.name)


def _damage(scans: list[ShardScan]) -> list[dict[str, Any]]:
    return [
        {
            "shard": Path(scan.path).name,
            "record": number,
            "offset": int(scan.layout.offset[number]),
            "damage": str(scan.damaged[number]),
        }
        for scan in scans
        for number in sorted(scan.damaged)
    ]


def _write_metadata(
    schema: Schema,
    folder: Path,
    lengths: dict[str, list[tuple[int, int]]],
    lost: dict[str, list[dict[str, Any]]],
) -> None:
    """dataset_info.json with the counts that are left, metadata.json with the loss."""
    source = Path(schema.directory)
    info = json.loads((source / "dataset_info.json").read_text(encoding="utf-8"))
    splits = []
    for split in info["splits"]:
        written = lengths[split["name"]]
        split["shardLengths"] = [str(count) for count, _ in written]
        split["numBytes"] = str(sum(size for _, size in written))
        splits += [split] if written else []  # TFDS has no split without records
    info["splits"] = splits
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2), encoding="utf-8")
    metadata = dict(schema.metadata) | {"damaged": lost}
    if parts := schema.parts:  # those of splits of which nothing is left go with them
        kept = {split["name"] for split in splits}
        metadata["part_of"] = {k: v for k, v in parts.items() if {k, v} <= kept}
    (folder / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")


def _write_index_and_fingerprint(folder: Path, feature: str) -> None:
    """Reads the copy through: its index is built, and its classes are counted, from its records."""
    from records.decoding.indexing import count_classes, read_index, write_indexes
    from records.sets.fingerprint import write_fingerprint
    from records.sets.schema import read_schema

    # Index first: it reads every record of the copy, and fails where one cannot be read.
    write_indexes(str(folder), feature)
    schema = read_schema(str(folder), feature)
    if "class_counts" in schema.metadata:
        whole = [split for split in schema.shards if split not in schema.parts]
        named = count_classes(schema, [read_index(schema, split) for split in whole])
        metadata = dict(schema.metadata) | {"class_counts": named}
        (folder / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    # Last: whoever finds a fingerprint takes the set for complete.
    write_fingerprint(folder)
