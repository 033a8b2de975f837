"""Texts as a set: a column of a table, or a folder of .txt files for each class."""

import functools
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from records.decoding.table_columns import LabelColumns
from records.system.table_file import listed

SUFFIX = ".txt"


def convert_text_column(table: Table, options: Options, column: str) -> Conversion:
    """A table's column of texts; rows without a text are left out.

    Raises:
      ValueError: a flag names no column.
    """
    table.check_columns("--text", (column,))
    rows, how = read_rows(table, options, text=column)
    texts = table.columns[column]
    numbers = [number for number, _ in rows.examples]
    examples = [example for _, example in rows.examples]
    return _conversion(
        examples,
        [texts[number] for number in numbers],
        str,
        dict(rows.dropped),
        [
            f"{table.path}: {len(table.lines):,} texts in column {column!r}, {table.written_as}",
            f"label: {how['label']} ({how['found']})",
            *find_copies(examples, (texts[number].strip() for number in numbers), "texts"),
        ],
        column,
        rows.labels,
    )


def convert_text_files(
    source: Path, files: Sequence[FoundFile], left_out: dict[str, int], options: Options
) -> Conversion:
    """A folder of text files; empty ones are left out.

    Raises:
      ValueError: a file cannot be read, is no text in UTF-8, or has another ending than .txt.
    """
    others = [file.name for file in files if file.path.suffix.lower() != SUFFIX]
    if others and options.on_corrupt != "skip":
        raise ValueError(
            f"convert: {source}: expected files *{SUFFIX}, received {listed(others)}. Move them "
            "away, or leave them out: --on_corrupt skip"
        )
    dropped = Counter(left_out)
    if others:
        dropped[f"not *{SUFFIX}"] = len(others)
    examples, paths, keys = [], [], []
    for file in files:
        if file.path.suffix.lower() != SUFFIX:
            continue
        try:
            text = _read(file.path)
        except (ValueError, OSError) as error:
            if options.on_corrupt != "skip":
                raise ValueError(
                    f"convert: {file.path}: expected text in UTF-8, received something else "
                    f"({error}). Save it in UTF-8, for instance with: iconv -f latin1 (utf-16 "
                    "where byte 0 is 0xff) -t utf-8 FILE; or leave such files out: --on_corrupt "
                    "skip"
                ) from None
            dropped["no text in UTF-8"] += 1
            continue
        if not text.strip():
            dropped["empty"] += 1
            continue
        split = file.split or choose_split(text.strip(), options.test_share)
        examples.append(Example(file.name, str(file.path), file.label, split))
        paths.append(file.path)
        keys.append(hashlib.sha256(text.strip().encode()).digest())
    said = [f"{source}: {len(examples):,} files of text", *find_copies(examples, keys, "texts")]
    return _conversion(examples, paths, _read, dict(dropped), said, None, LabelColumns())


def _read(path: Path) -> str:
    return io.TextIOWrapper(io.BytesIO(read_file(path)), "utf-8-sig").read()


def _make_row(row: Any, read: Callable[[Any], str]) -> dict[str, Any]:
    return {"text": read(row)}


def _conversion(
    examples: list[Example],
    rows: Sequence[Any],
    read: Callable[[Any], str],
    dropped: dict[str, int],
    findings: list[str],
    column: str | None,
    labels: LabelColumns,
) -> Conversion:
    import tensorflow_datasets as tfds

    return Conversion(
        kind="texts",
        input_feature="text",
        id_feature="id",
        features={"text": tfds.features.Text()},
        examples=examples,
        rows=rows,
        make_row=functools.partial(_make_row, read=read),
        dropped=dropped,
        metadata={"conversion": {"kind": "texts", "column": column}} if column else {},
        findings=findings,
        labels=labels,
    )
