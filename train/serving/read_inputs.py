"""Reads what a model is to predict, item by item, and makes it ready as in training."""

import dataclasses
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from records.decoding import cleaning, json_lines
from records.decoding.decode import OOV_ID, PictureError, decode_pictures, split_words
from records.decoding.picture_files import to_stored_file
from records.decoding.table_columns import (
    EXPECTED_NUMBER,
    CellError,
    TableColumns,
    parse_number,
)
from records.sets.schema import IMAGE, TABULAR
from records.system.places import what_stands
from records.system.table_file import listed, number_hint, read_lines, read_rows
from train.folders.model_input import ModelInput

# A picture's file is at most some 100 MB; a larger one would take the memory of all others.
_FILE_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Unusable:
    """An item that cannot be predicted, and why."""

    reason: str


# Words, where a set stores them.
Raw = np.ndarray | bytes | str | tuple[str, ...] | Unusable
Items = Iterator[tuple[str, Raw]]


def read_raw(path: Path, wanted: ModelInput, column: str | None) -> Items:
    """Yields the items of a file, a pipe or a folder as they are.

    Args:
      path: tables: a CSV with a header, JSON lines or Parquet; of a converted set with the columns
        that were converted. Pictures: one, or a folder, looked through with all that is below it.
        Texts: a file of one per line; a table with a header or JSON lines where its name says so
        (*.csv, *.tsv, *.jsonl), or where a column is named; a folder of *.txt files of one text
        each.
      wanted: what the model is fed with.
      column: that of the texts in a table; None: that of a converted set, else "text".

    Yields:
      (name, float32 or float64 [F], the bytes of a picture, or a text). Names are the numbers of
      rows and lines, from 1, or the paths of files below the folder, links followed. What the
      system cannot read as such a file is `Unusable`: nothing below the folder is passed over.

    Raises:
      ValueError: the file is of another kind, lacks a column, or holds what is not a number;
        names file and line.
      OSError: there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"predict: {path} expected a file or a folder, received {what_stands(path)}"
        )
    if column is not None and wanted.modality in (TABULAR, IMAGE):
        reads = "pictures" if wanted.modality == IMAGE else "its table's columns by name"
        raise ValueError(
            f"predict: --column {column} is for texts; the run was trained on {wanted.dataset} "
            f"and reads {reads}. Leave --column out"
        )
    if wanted.modality == IMAGE:
        return ((name, as_stored(data, wanted)) for name, data in _read_files(path))
    if path.is_dir() and (wanted.modality == TABULAR or column is not None):
        raise ValueError(
            f"predict: {path} expected a CSV file, as the run was trained on "
            f"{wanted.dataset}, received a folder"
        )
    if path.is_dir():
        return _text_files(path)
    if wanted.modality == TABULAR:
        return _rows(path, wanted)
    if column is None and path.suffix.lower() not in (".csv", ".tsv", *json_lines.SUFFIXES):
        return ((str(number), line) for number, line in enumerate(read_lines(path, "predict"), 1))
    column = column or (wanted.conversion or {}).get("column", "text")
    rows = read_records(path, (column,), f"the column {column!r} once (--column names another)")
    return ((str(number), row[column]) for number, _, row in rows)


def make_preparation(wanted: ModelInput) -> Callable[[Any], np.ndarray | Unusable]:
    """The function from what `read_raw` yields to the model's input, as in training.

    It gives float32 or float64 [F], uint8 [S, S, C], int32 [up to T], or `Unusable`.

    Raises:
      ValueError: the set does not say how its ids were made of texts.
    """
    if wanted.modality == TABULAR:
        return lambda row: row
    if wanted.modality == IMAGE:
        return lambda encoded: _picture(encoded, wanted)
    encode = _make_text_encoder(wanted)

    def prepare(text: str | tuple[str, ...]) -> np.ndarray | Unusable:
        ids = encode(text)
        return ids if len(ids) else Unusable("no words in it")

    return prepare


def _rows(path: Path, wanted: ModelInput) -> Items:
    if (columns := wanted.table_columns) is not None:
        yield from _converted_rows(path, wanted, columns)
        return
    for number, line, row in read_records(path, names := wanted.feature_names, _each(names)):
        values = [parse_number(row[name]) for name in names]
        if None in values:
            name = names[values.index(None)]
            raise _no_number(path, line, name, row[name])
        yield str(number), np.array(values, wanted.dtype)


def _converted_rows(path: Path, wanted: ModelInput, columns: TableColumns) -> Items:
    total, unseen, first = 0, Counter[str](), dict[str, str]()
    for number, line, row in read_records(path, columns.names, _each(columns.names)):
        total += 1
        for name in columns.find_unseen(row):
            unseen[name] += 1
            first.setdefault(name, row[name].strip())
        try:
            yield str(number), columns.encode(row).astype(wanted.dtype)
        except CellError as error:
            raise _no_number(path, line, error.column, error.text) from None
    for name, count in unseen.items():
        print(
            f"{path}, column {name!r}: {count:,} of {total:,} rows hold a value that too few "
            f"training rows held, or none, such as {first[name]!r:.60}"
        )


def _no_number(path: Path, line: int, name: str, text: str) -> ValueError:
    return ValueError(
        f"predict: {path}, line {line}, column {name!r}: expected {EXPECTED_NUMBER}, received "
        f"{text!r}{number_hint(text)}"
    )


def _each(names: Sized) -> str:
    return f"each of the model's {len(names)} columns once"


def read_records(
    path: Path, needed: tuple[str, ...], expected: str
) -> Iterator[tuple[int, int, dict[str, str]]]:
    """(number of the row from 1, line at which it begins, its fields by column) of a table.

    Raises: as `records.system.table_file.read_rows`, of which `expected` is an argument.
    """
    if path.suffix.lower() in json_lines.SUFFIXES:
        return _json_records(path, needed)
    return read_rows(path, needed, "predict", expected)


def _json_records(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, int, dict[str, str]]]:
    rows = list(json_lines.read_rows(path, "predict"))
    # A row may leave out what it lacks; a name that no row has is a slip.
    missing = [name for name in needed if not any(name in row for _, row in rows)]
    if missing:
        raise ValueError(
            f"predict: {path}: expected objects with {listed(list(needed))}, received none with "
            f"{listed(missing)}"
        )
    for number, (line, row) in enumerate(rows, 1):
        try:
            yield number, line, {name: json_lines.as_cell(row.get(name)) for name in needed}
        except ValueError as error:
            raise ValueError(f"predict: {path}, line {line}: {error}") from None


def _make_text_encoder(wanted: ModelInput) -> Callable[[str | tuple[str, ...]], np.ndarray]:
    """The function from a text, or its words, to ids int32 [up to T], by the rules of the set."""
    language = wanted.language or "en"
    rules: dict[str, Callable[[str], Any]] = {
        "clean": lambda text: cleaning.clean_text(text, language),
        "basic": cleaning.basic_tokens,
        "words": lambda text: [str(w, "utf-8") for w in split_words([text]).flat_values.numpy()],
    }
    if wanted.text_rule is None:
        raise ValueError(
            f"predict: the ids of {wanted.dataset} expected a known rule from text to "
            "ids, received none: only the set's own builder can make them. Store the text itself "
            "in the set and train on that (--feature)"
        )
    split = rules[wanted.text_rule]
    # Padding and out of vocabulary have ids, too, but no text may spell them.
    ids = {word: i for i, word in enumerate(wanted.vocabulary) if i > OOV_ID}
    length = wanted.sequence_length

    def encode(text: str | tuple[str, ...]) -> np.ndarray:
        words = split(text) if isinstance(text, str) else text
        return np.array([ids.get(w, OOV_ID) for w in words[:length]], np.int32)

    return encode


def _text_files(path: Path) -> Items:
    for name, data in _read_files(path):
        if isinstance(data, Unusable):
            yield name, data
        elif not name.lower().endswith(".txt"):
            yield name, Unusable("not a .txt file")
        else:
            try:
                yield name, io.TextIOWrapper(io.BytesIO(data), "utf-8-sig").read()
            except UnicodeDecodeError as error:
                yield name, Unusable(f"no text in UTF-8 ({error})")


def _read_files(path: Path) -> Iterator[tuple[str, bytes | Unusable]]:
    """(path below the folder, bytes) of all files below a folder, or of one file."""
    base = path if path.is_dir() else path.parent
    for file, reason in _files_below(path, ()) if path.is_dir() else [(path, "")]:
        name = shown_path(file.relative_to(base).as_posix())
        yield name, Unusable(reason) if reason else read_file(file)


def shown_path(path: str) -> str:
    """A path that can be printed: in Linux's names, which are bytes, not all is UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _files_below(folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """(file, why it cannot be read or "") of all that lies below a folder, by name, links followed.

    `above` are the real paths of the folders around it: a link to one of them would never end.
    """
    above = (*above, folder.resolve())
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, f"the folder cannot be read: {error.strerror}"
        return
    for entry in entries:
        if entry.is_dir():
            if entry.resolve() in above:
                yield entry, "a link to a folder around it"
            else:
                yield from _files_below(entry, above)
        elif entry.is_file():
            yield entry, ""
        else:
            yield entry, what_stands(entry)


def read_file(file: Path) -> bytes | Unusable:
    """A file's bytes."""
    try:
        if (size := file.stat().st_size) > _FILE_BYTES:
            return Unusable(f"a file of {size:,} bytes, at most {_FILE_BYTES:,} are read")
        return file.read_bytes()
    except OSError as error:
        return Unusable(str(error))


def as_stored(data: bytes | Unusable, wanted: ModelInput) -> bytes | Unusable:
    """A picture's file as the build of a converted set would store it: a JPEG or PNG."""
    if isinstance(data, Unusable):
        return data
    try:
        return to_stored_file(data, (wanted.conversion or {}).get("max_side"))
    except ValueError:
        return data  # what is wrong with it is said where it is decoded


def _picture(encoded: bytes | Unusable, wanted: ModelInput) -> np.ndarray | Unusable:
    if isinstance(encoded, Unusable):
        return encoded
    try:
        size, channels, most = wanted.image_size, wanted.channels, wanted.max_pixels
        return np.array(decode_pictures([encoded], size, channels, max_pixels=most)[0])
    except PictureError as error:
        return Unusable(str(error))


def pad(rows: list[np.ndarray]) -> tf.Tensor:
    """Stacks inputs; texts int32 are filled with 0 on the right to the longest of them."""
    if rows[0].dtype != np.int32:
        return tf.constant(np.stack(rows))
    return tf.ragged.stack(rows).to_tensor()
