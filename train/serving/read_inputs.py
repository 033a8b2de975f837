"""Reads what a model is to predict, item by item, and makes it ready as in training."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

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
from train.folders.model_input import ModelInput

# A picture's file is at most some 100 MB; a larger one would take the memory of all others.
_PICTURE_BYTES = 2**30
# A lyric is at most some 100 KB; Python's own limit is 128 KB.
_FIELD_BYTES = 2**27


@dataclasses.dataclass(frozen=True)
class Unusable:
    """An item that cannot be predicted, and why."""

    reason: str


_LISTED = 8  # names in an error

Raw = np.ndarray | bytes | str | Unusable
Items = Iterator[tuple[str, Raw]]


def read_raw(path: Path, wanted: ModelInput, column: str | None) -> Items:
    """Yields the items of a file or folder as they are.

    Args:
      path: tables: a CSV with a header, or JSON lines; of a converted set with the columns that
        were converted. Pictures: one, or a folder, looked through with all that is below it. Texts:
        a file of one per line, or a CSV or JSON lines with the column `column`.
      wanted: what the model is fed with.
      column: see above; None: that of a converted set, else "text".

    Yields:
      (name, float32 or float64 [F], the bytes of a picture, or a text). Names are the numbers of
      rows and lines, from 1, or the paths of pictures below the folder, links followed. What the
      system cannot read as a picture's file is `Unusable`: nothing below the folder is passed over.

    Raises:
      ValueError: the file is of another kind, lacks a column, or holds what is not a number;
        names file and line.
      OSError: there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"predict: {path} is not there")
    is_table = path.suffix.lower() in (".csv", ".tsv", *json_lines.SUFFIXES)
    if column is not None and (wanted.modality in (IMAGE, TABULAR) or not is_table):
        raise ValueError(
            f"predict: --column {column} expected with a CSV of texts, received {path} for a run "
            f"on {wanted.dataset} ({wanted.modality}). Leave the flag out"
        )
    if wanted.modality == IMAGE:
        return _pictures(path, wanted)
    if path.is_dir():
        kind = "a CSV file" if wanted.modality == TABULAR else "a text file or a CSV file"
        raise ValueError(
            f"predict: {path} expected {kind}, as the run was trained on "
            f"{wanted.dataset}, received a folder"
        )
    if wanted.modality == TABULAR:
        return _rows(path, wanted)
    column = column or (wanted.conversion or {}).get("column", "text")
    return _column(path, column) if is_table else _lines(path)


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

    def prepare(text: str) -> np.ndarray | Unusable:
        ids = encode(text)
        return ids if len(ids) else Unusable("no words in it")

    return prepare


def _rows(path: Path, wanted: ModelInput) -> Items:
    if (columns := wanted.table_columns) is not None:
        yield from _converted_rows(path, wanted, columns)
        return
    for number, line, row in _records(path, names := wanted.feature_names):
        values = [_number(path, line, name, row[name]) for name in names]
        yield str(number), np.array(values, wanted.dtype)


def _converted_rows(path: Path, wanted: ModelInput, columns: TableColumns) -> Items:
    for number, line, row in _records(path, columns.names):
        try:
            yield str(number), columns.encode(row).astype(wanted.dtype)
        except CellError as error:
            raise _no_number(path, line, error.column, error.text) from None


def _number(path: Path, line: int, name: str, text: str) -> float:
    value = parse_number(text)
    if value is None:
        raise _no_number(path, line, name, text)
    return value


def _no_number(path: Path, line: int, name: str, text: str) -> ValueError:
    return ValueError(
        f"predict: {path}, line {line}, column {name!r}: expected {EXPECTED_NUMBER}, received "
        f"{text!r}"
    )


def _column(path: Path, column: str) -> Iterator[tuple[str, str]]:
    for number, _, row in _records(path, (column,)):
        yield str(number), row[column]


def _records(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, int, dict[str, str]]]:
    """(number of the row from 1, line at which it ends, its fields by column)."""
    if path.suffix.lower() in json_lines.SUFFIXES:
        yield from _json_records(path, needed)
        return
    # Holds for the whole process: Python has no limit for one reader.
    csv.field_size_limit(_FIELD_BYTES)
    with open(path, encoding="utf-8-sig", newline="") as file:
        line = 0
        try:
            separator, before = _separator(file, needed)
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = next(reader, [])
            columns = _find_columns(path, header, needed)
            # An empty line is no row, and is not counted.
            for number, fields in enumerate((r for r in reader if r), 1):
                line = before + reader.line_num
                if len(fields) != len(header):
                    raise ValueError(
                        f"predict: {path}, line {line}: expected "
                        f"{len(header)} fields as in the header, received {len(fields)}"
                    )
                row = {name: fields[column] for name, column in columns.items()}
                yield number, line, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"predict: {path}, near line {line + 1}: expected a CSV file "
                f"in UTF-8, received something else ({error})"
            ) from error


def _json_records(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, int, dict[str, str]]]:
    rows = list(json_lines.read_rows(path, "predict"))
    # A row may leave out what it lacks; a name that no row has is a slip.
    missing = [name for name in needed if not any(name in row for _, row in rows)]
    if missing:
        raise ValueError(
            f"predict: {path}: expected objects with {_listed(list(needed))}, received none with "
            f"{_listed(missing)}"
        )
    for number, (line, row) in enumerate(rows, 1):
        try:
            yield number, line, {name: json_lines.as_cell(row.get(name)) for name in needed}
        except ValueError as error:
            raise ValueError(f"predict: {path}, line {line}: {error}") from None


def _separator(file: TextIO, needed: tuple[str, ...]) -> tuple[str, int]:
    """(what parts the columns, lines before the header); the file stands at its header then.

    A first line such as "sep=;" says it, as spreadsheets write it. Else it is the comma, unless
    another one gives every column that is needed, and the comma does not.
    """
    start = file.tell()
    first = file.readline()
    if re.fullmatch(r"sep=.\r?\n?", first):
        return first[4], 1
    file.seek(start)
    for separator in ",;\t|":
        header = next(csv.reader([first], delimiter=separator), [])
        if set(_stripped(needed)) <= set(_stripped(header)):
            return separator, 0
    return ",", 0


def _stripped(names: Iterable[str]) -> list[str]:
    return [name.strip() for name in names]


def _find_columns(path: Path, header: list[str], needed: tuple[str, ...]) -> dict[str, int]:
    """The number of each needed column; white space around a name does not count."""
    names = header if set(needed) <= set(header) else _stripped(header)
    wanted = needed if set(needed) <= set(header) else tuple(_stripped(needed))
    kinds = {
        "missing": [name for name in wanted if name not in names],
        "more than once": [name for name in wanted if names.count(name) > 1],
        "other names": [name for name in names if name not in wanted],
    }
    if kinds["missing"] or kinds["more than once"]:
        said = "; ".join(f"{kind}: {_listed(found)}" for kind, found in kinds.items() if found)
        raise ValueError(
            f"predict: {path}, line 1: expected a header with each of the model's {len(wanted)} "
            f"columns once, parted by commas, received a header with {said}"
        )
    return {name: names.index(found) for name, found in zip(needed, wanted, strict=True)}


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_LISTED]))
    return shown + (f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else "")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with open(path, encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                yield str(number), line
        except UnicodeDecodeError as error:
            raise ValueError(
                f"predict: {path} expected text in UTF-8, received something else ({error})"
            ) from error


def _make_text_encoder(wanted: ModelInput) -> Callable[[str], np.ndarray]:
    """The function from a text to its ids, int32 [up to T], by the rules of the set."""
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
    return lambda text: np.array([ids.get(w, OOV_ID) for w in split(text)[:length]], np.int32)


def _pictures(path: Path, wanted: ModelInput) -> Items:
    base = path if path.is_dir() else path.parent
    for file, reason in _files_below(path, ()) if path.is_dir() else [(path, "")]:
        # Linux's names are bytes: what is no UTF-8 in them could be neither printed nor written.
        name = os.fsencode(file.relative_to(base).as_posix()).decode(errors="backslashreplace")
        yield name, Unusable(reason) if reason else _read_file(file, wanted)


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
            yield entry, "a link to nothing" if entry.is_symlink() else "not a file"


def _read_file(file: Path, wanted: ModelInput) -> bytes | Unusable:
    try:
        if (size := file.stat().st_size) > _PICTURE_BYTES:
            return Unusable(f"a file of {size:,} bytes, at most {_PICTURE_BYTES:,} are read")
        data = file.read_bytes()
    except OSError as error:
        return Unusable(str(error))
    if wanted.conversion is None:
        return data
    try:  # as the set's pictures were stored
        return to_stored_file(data, wanted.conversion["max_side"])
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
