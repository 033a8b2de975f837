"""A table as a set of vectors: what is learned from it is learned from the split train alone."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builders.convert.guesses import Guess, Holds, check_classes, guess_column
from builders.convert.labels import find_labels, read_label
from builders.convert.source import (
    SPLITS,
    Conversion,
    Example,
    Options,
    choose_split,
    named_split,
)
from builders.convert.table_file import Table
from records.decoding.table_columns import (
    Category,
    CellError,
    LabelColumns,
    Number,
    TableColumns,
    is_missing,
    parse_number,
)
from records.sets.target import REGRESSION, SINGLE_LABEL
from records.system.table_file import listed

# A value of fewer training rows is "other": so few teach nothing, and once scaled they count as
# much as all others together.
_RARE, _RARE_SHARE = 5, 0.001
_MOST_VALUES = 100  # of a category
_SHOWN = 60  # columns
# Above it float32 leaves gaps between whole numbers.
_EXACT = 2**24


def convert_table(table: Table, options: Options) -> Conversion:
    """Understands a table.

    Raises:
      ValueError: a flag names no column, or columns that nothing can be made of; names them all.
    """
    rows, how = read_rows(table, options)
    used = [options.group, options.split, *options.drop]
    names = [name for name in table.columns if name not in (*used, *rows.labels.columns)]
    guesses = {name: guess_column(table, name, options) for name in names}
    refused = [guess.refusal for guess in guesses.values() if guess.refusal]
    if refused:
        raise ValueError("convert: " + "\n".join(refused))
    train = [n for n, example in rows.examples if example.split == "train"]
    taken = {name: guess for name, guess in guesses.items() if not guess.reason}
    columns = _fit(table, taken, train, options)
    numbers = [number for number, _ in rows.examples]
    matrix = _encode(table, columns, numbers)
    dtype = _dtype(matrix, columns)
    return _conversion(table, rows, how, guesses, columns, matrix.astype(dtype))


class Rows:
    """The rows that say what is predicted, and the reasons why others were left out."""

    def __init__(self, labels: LabelColumns) -> None:
        self.labels = labels
        self.examples: list[tuple[int, Example]] = []
        self.dropped: Counter[str] = Counter()


def read_rows(
    table: Table, options: Options, text: str | None = None
) -> tuple[Rows, dict[str, str]]:
    """(the rows by their number in the file, how label and splits were found).

    Args:
      text: the column of texts, where the set is one of texts: equal texts are in one split, and
        rows without one are left out.

    Raises:
      ValueError: a flag names no column, or a cell names no split.
    """
    for flag, names in (
        ("--label", options.label),
        ("--group", (options.group,)),
        ("--split", (options.split,)),
        ("--drop", options.drop),
        ("--numeric", options.numeric),
        ("--categorical", options.categorical),
    ):
        table.check_columns(flag, names)
    _check_splits(table, options)
    others = [n for n in (options.group, options.split, text, *options.drop) if n is not None]
    labels, found = find_labels(table, options, others)
    rows, label = Rows(labels), ", ".join(labels.columns)
    # Not by what was guessed: a guess that a new row turns would move other rows.
    keys = [
        n for n in sorted(table.columns) if n not in (*labels.columns, options.split, *options.drop)
    ]
    for row in range(len(table.lines)):
        target = read_label(table, labels, row)
        if target is None:
            what = "number" if labels.task == REGRESSION else "class"
            rows.dropped[f"no {what} in {label!r}"] += 1
            continue
        if text is not None and not table.columns[text][row].strip():
            rows.dropped[f"no text in {text!r}"] += 1
            continue
        used = [text] if text else keys
        rows.examples.append((row, _example(table, options, row, target, used)))
    if not rows.examples:
        raise ValueError(
            f"convert: {table.path}: expected rows with a class in column {label!r}, received "
            f"{dict(rows.dropped)}. Name another column with --label"
        )
    if labels.task == SINGLE_LABEL:
        check_classes(table, label, [example.label for _, example in rows.examples])
    return rows, {"label": label, "found": found}


def _check_splits(table: Table, options: Options) -> None:
    """Raises ValueError where a column names splits, and no flag says what it is for."""
    used = (*options.label, options.split, *options.drop, *options.categorical)
    for name, cells in table.columns.items():
        found = {named_split(cell) for cell in {*cells}} if name not in used else set()
        if "train" in found and len(found) > 1 and None not in found:
            flag = shlex.quote(name)
            raise ValueError(
                f"convert: {table.path}, column {name!r}: expected an input, received names of "
                f"splits. Take them (--split {flag}), leave the column out (--drop {flag}), or "
                f"train on it (--categorical {flag})"
            )


def _example(table: Table, options: Options, row: int, label: Any, keys: Sequence[Any]) -> Example:
    cells = table.columns
    # A row without a group is one of its own.
    group = (cells[options.group][row].strip() or None) if options.group else None
    if options.split:
        split = named_split(cells[options.split][row])
        if split is None:
            raise ValueError(
                f"convert: {table.place(row)}, column {options.split!r}: expected one of "
                f"{', '.join(SPLITS)}, received {cells[options.split][row]!r}"
            )
    else:
        key = json.dumps([group] if group else [cells[name][row].strip() for name in keys])
        split = choose_split(key, options.test_share)
    # Padded, so that ids sort as rows do.
    return Example(f"row-{row + 1:06d}", table.place(row), label, split, group)


def _fit(
    table: Table, guesses: Mapping[str, Guess], train: list[int], options: Options
) -> TableColumns:
    columns: list[Number | Category] = []
    for name, guess in guesses.items():
        cells = [table.columns[name][row].strip() for row in train]
        present = [cell for cell in cells if not is_missing(cell, options.missing)]
        lacks = len(present) < len(cells)
        if guess.holds is Holds.NUMBERS:
            values = [value for cell in present if (value := parse_number(cell)) is not None]
            columns.append(Number(name, float(np.median(values)) if values else 0.0, lacks))
            continue
        counts = Counter(present)
        fewest = max(_RARE, _RARE_SHARE * len(train))
        # By count, then by name: the same from the same rows in any order.
        ranked = sorted(counts, key=lambda value: (-counts[value], value))
        kept = [value for value in ranked if counts[value] >= fewest][:_MOST_VALUES]
        if kept or lacks or name in options.categorical:
            columns.append(Category(name, tuple(sorted(kept)), len(kept) < len(counts), lacks))
    if not columns:
        raise ValueError(
            f"convert: {table.path}: expected columns of numbers or categories, received none of "
            f"{listed(table.columns)} (of a category, a value in {_RARE} training rows). Name one "
            "with --numeric or --categorical; a column of texts with --text"
        )
    return TableColumns(tuple(columns), options.missing)


def _encode(table: Table, columns: TableColumns, rows: Sequence[int]) -> np.ndarray:
    found = np.empty((len(rows), len(columns.feature_names)), np.float64)
    for at, row in enumerate(rows):
        try:
            found[at] = columns.encode({name: table.columns[name][row] for name in columns.names})
        except CellError as error:
            raise ValueError(f"convert: {table.place(row)}, {error}") from None
    return found


def _dtype(matrix: np.ndarray, columns: TableColumns) -> type:
    """float64 where float32 would round whole numbers, or all that tells values apart."""
    rounded = matrix.astype(np.float32).astype(np.float64)
    whole = (matrix == np.round(matrix)).all(0) & (np.abs(matrix).max(0) > _EXACT)
    coarse = np.abs(rounded - matrix).max(0) > 1e-3 * matrix.std(0)
    lost = (rounded != matrix).any(0)
    return np.float64 if (lost & (whole | coarse)).any() else np.float32


def _conversion(
    table: Table,
    rows: Rows,
    how: dict[str, str],
    guesses: dict[str, Guess],
    columns: TableColumns,
    matrix: np.ndarray,
) -> Conversion:
    import tensorflow_datasets as tfds

    width = matrix.shape[1]
    # TFDS writes float64 as float32 unless it stores the bytes.
    stored = (
        tfds.features.Tensor(shape=(width,), dtype=np.float32)
        if matrix.dtype == np.float32
        else tfds.features.Tensor(shape=(width,), dtype=np.float64, encoding="bytes")
    )
    return Conversion(
        kind="table",
        input_feature="features",
        id_feature="id",
        features={"features": stored},
        examples=[example for _, example in rows.examples],
        rows=list(matrix),  # views, one a row
        make_row=_make_row,
        dropped=dict(rows.dropped),
        metadata={
            "feature_names": list(columns.feature_names),
            "conversion": {"kind": "table", **columns.to_json()},
        },
        findings=[
            f"{table.path}: a table of {len(table.lines):,} rows, {table.written_as}",
            f"label: {how['label']} ({how['found']})",
            *_describe(guesses, columns),
            f"each row becomes {width:,} numbers",
        ],
        labels=rows.labels,
    )


def _make_row(row: np.ndarray) -> dict[str, Any]:
    return {"features": row}


def _describe(guesses: dict[str, Guess], columns: TableColumns) -> list[str]:
    fitted = {column.name: column for column in columns.columns}
    width = min(40, max(map(len, guesses)))
    lines = []
    for name, guess in guesses.items():
        column = fitted.get(name)
        if column is None:
            said = f"left out: {guess.reason or f'no value is in {_RARE} training rows'}"
        elif isinstance(column, Number):
            missing = ", some missing" if column.flagged else ""
            said = f"number, median {column.median:g}{missing}{guess.note}"
        else:
            other = ", rare ones in 'other'" if column.other else ""
            missing = ", some missing" if column.missing else ""
            said = f"category of {len(column.values)}{other}{missing}"
        lines.append(f"  {name or '(no name)':<{width}}  {said}")
    more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return ["columns", *lines[:_SHOWN], *more]
