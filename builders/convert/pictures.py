"""Pictures as a set: each is decoded as training will decode it, before anything is written."""

import dataclasses
import functools
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builders.convert.folders import FoundFile, read_file
from builders.convert.source import (
    Conversion,
    Example,
    Options,
    choose_split,
    find_copies,
)
from builders.convert.table_file import Table
from builders.convert.tables import read_rows
from builders.writing import Here
from records.decoding.orientation import UPRIGHT, read_orientation
from records.decoding.picture_files import TooLargeError, to_stored_file
from records.decoding.pixels import is_grey_picture
from records.decoding.table_columns import LabelColumns
from records.system.progress import Progress
from records.system.quiet import written_bytes
from records.system.table_file import LISTED, listed
from records.system.threads import ordered_map

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclasses.dataclass(frozen=True)
class _Facts:
    """Of a picture's file."""

    digest: bytes = b""  # of its bytes: copies stay together
    is_grey: bool = False
    is_turned: bool = False
    is_changed: bool = False
    is_too_large: bool = False
    damage: str = ""  # why it cannot be used, or ""
    # It is read, and libjpeg or libpng wrote to the error stream, naming no file.
    is_warned_of: bool = False


def convert_pictures(
    source: Path,
    files: Sequence[FoundFile],
    left_out: dict[str, int],
    options: Options,
    workers: Any = None,
) -> Conversion:
    """Reads and checks all pictures; `left_out` are {reason: files} so far.

    With a `BeamRun` for `workers` its workers read them and find copies.

    Raises:
      ValueError: pictures are too large or damaged; names the first of them.
    """
    workers, facts = workers or Here(ordered_map), []
    with Progress(len(files), "checking", "pictures") as progress:
        read = functools.partial(_read, max_side=options.max_side)
        for one in workers.map(read, (file.path for file in files)):
            facts.append(one)
            progress.add(1)
    _refuse(files, facts, options)
    usable = [(f, one) for f, one in zip(files, facts, strict=True) if not one.damage]
    dropped = Counter(left_out)
    if damaged := len(files) - len(usable):
        dropped["damaged"] = damaged
    examples = [
        Example(
            name=file.name,
            place=str(file.path),
            label=file.label,
            split=file.split or choose_split(file.group or one.digest, options.test_share),
            group=file.group,
        )
        for file, one in usable
    ]
    keys = workers.first_equal(one.digest for _, one in usable)
    return _conversion(source, usable, examples, dict(dropped), options, keys)


def list_pictures(
    table: Table, options: Options, column: str
) -> tuple[list[FoundFile], Any, LabelColumns]:
    """(the files that a table names, {reason: rows left out}, what their labels are).

    Raises:
      ValueError: a file is not there, or named twice; names its row.
    """
    table.check_columns("--path_column", (column,))
    drop = dataclasses.replace(options, drop=(*options.drop, column))
    rows, _ = read_rows(table, drop)
    found = []
    seen: dict[Path, int] = {}
    for row, example in rows.examples:
        name = table.columns[column][row].strip()
        path = table.path.parent / name
        if not path.is_file():
            raise ValueError(
                f"convert: {table.place(row)}, column {column!r}: expected a file below "
                f"{table.path.parent}, received {name!r}, which is none"
            )
        if (first := seen.setdefault(path, row)) != row:
            raise ValueError(
                f"convert: {table.place(row)}, column {column!r}: expected each file once, "
                f"received {name!r}, which line {table.lines[first]} names. Keep one of the rows"
            )
        split = example.split if options.split else None
        found.append(FoundFile(path, name, example.label, split, example.group))
    return found, dict(rows.dropped), rows.labels


def _read(path: Path, max_side: int | None) -> _Facts:
    from records.decoding.decode import PictureError, decode_whole

    before = written_bytes()
    try:
        data = read_file(path)
        stored = to_stored_file(data, max_side)
        pixels = decode_whole(0, stored, 3)
    except TooLargeError as error:
        return _Facts(damage=str(error), is_too_large=True)
    except (PictureError, ValueError, OSError) as error:
        return _Facts(damage=str(error))
    return _Facts(
        digest=hashlib.sha256(data).digest(),
        is_grey=is_grey_picture(pixels),
        is_turned=read_orientation(data) != UPRIGHT,
        is_changed=stored != data,
        is_warned_of=written_bytes() != before,
    )


def _refuse(files: Sequence[FoundFile], facts: Sequence[_Facts], options: Options) -> None:
    """Raises ValueError for pictures that are too large, and damaged ones unless told to skip."""
    pairs = list(zip(files, facts, strict=True))
    large = [f"{file.path}: {one.damage}" for file, one in pairs if one.is_too_large]
    if large:
        raise ValueError(
            f"convert: {len(large):,} pictures are larger than training decodes:\n"
            f"{_first(large)}\nScale large pictures down while they are stored: --max_side 1024"
        )
    damaged = [f"{file.path}: {one.damage}" for file, one in pairs if one.damage]
    if damaged and options.on_corrupt != "skip":
        raise ValueError(
            f"convert: {len(damaged):,} of {len(files):,} files are no pictures that can be "
            f"read:\n{_first(damaged)}\nMend or remove them, or leave them out: --on_corrupt skip"
        )


def _first(lines: Sequence[str]) -> str:
    more = [f"  ... and {len(lines) - LISTED:,} more"] if len(lines) > LISTED else []
    return "\n".join([*(f"  {line}" for line in lines[:LISTED]), *more])


def _make_row(row: tuple[Path, bool], max_side: int | None) -> dict[str, Any]:
    path, is_grey = row
    # TFDS passes file objects through: the bytes are stored as they are.
    return {"image": io.BytesIO(to_stored_file(path.read_bytes(), max_side)), "is_grey": is_grey}


def _conversion(
    source: Path,
    usable: Sequence[tuple[FoundFile, _Facts]],
    examples: list[Example],
    dropped: dict[str, int],
    options: Options,
    keys: Sequence[int],
) -> Conversion:
    import tensorflow_datasets as tfds

    copies = find_copies(examples, keys, "pictures")
    grey, turned = (sum(getattr(one, n) for _, one in usable) for n in ("is_grey", "is_turned"))
    changed = sum(one.is_changed for _, one in usable)
    findings = [f"{source}: {len(usable):,} pictures, {grey:,} of them grey"]
    if changed:
        findings.append(f"{changed:,} are stored anew: scaled down, or of a kind that is not read")
    findings += copies
    if warned := [file.name for file, one in usable if one.is_warned_of]:
        findings.append(f"{len(warned):,} are read, and their decoder warns: {listed(warned)}")
    if turned:
        findings.append(f"{turned:,} are turned upright by their EXIF orientation")
    return Conversion(
        kind="pictures",
        input_feature="image",
        id_feature="filename",
        features={"image": tfds.features.Image(shape=(None, None, 3)), "is_grey": np.bool_},
        examples=examples,
        rows=[(file.path, one.is_grey) for file, one in usable],
        make_row=functools.partial(_make_row, max_side=options.max_side),
        dropped=dropped,
        metadata={"conversion": {"kind": "pictures", "max_side": options.max_side}},
        findings=findings,
    )
