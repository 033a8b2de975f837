"""Which columns say what is to be predicted: one class, several classes at once, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builders.convert.guesses import NAMES_FROM, guess_label
from builders.convert.source import Labels, Options
from builders.convert.table_file import Table
from records.decoding.table_columns import EXPECTED_NUMBER, is_missing, parse_number
from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL

_SEPARATORS = ";|"  # of the classes in a cell; a comma only with --task multi_label
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


def find_labels(table: Table, options: Options, others: Sequence[str]) -> tuple[Labels, str]:
    """(the columns of the target and what it is, how they were found).

    Args:
      others: columns that have another use.

    Raises:
      ValueError: no column is it for certain; names them.
    """
    columns, how = options.label, "--label"
    if not columns:
        column, how = guess_label(table, options, others)
        columns = (column,)
    present = [c.strip() for n in columns for c in table.columns[n] if not _lacks(c, options)]
    task = options.task or _guess_task(columns, present, bool(options.label))
    separator = None
    if task == MULTI_LABEL and len(columns) == 1:
        separator = _list_separator(present, _SEPARATORS + ",") or _SEPARATORS[0]
    said = {MULTI_LABEL: f"several classes at once, parted by {separator!r}", REGRESSION: "numbers"}
    if task != SINGLE_LABEL:
        said[MULTI_LABEL] = said[MULTI_LABEL] if separator else "several classes at once"
        how += f"; {said[task]}" + "; another: --task" * (options.task is None)
    return Labels(task, columns, separator), how


def _lacks(cell: str, options: Options) -> bool:
    # "None" may well be a class.
    return is_missing(cell, options.missing) and cell.strip().lower() != "none"


def _guess_task(columns: Sequence[str], present: Sequence[str], is_named: bool) -> str:
    if len(columns) > 1:
        are_flags = all(cell.lower() in _TRUTH for cell in present)
        return MULTI_LABEL if are_flags else REGRESSION
    different = set(present)
    numbers = [parse_number(cell) for cell in different]
    if len(different) > NAMES_FROM and None not in numbers:
        has_fractions = any(number != int(number) for number in numbers if number is not None)
        # Whole numbers may be names of classes, or of rows: only a column that was named counts.
        if has_fractions or (is_named and len(different) > len(present) / 2):
            return REGRESSION
    return MULTI_LABEL if _list_separator(present, _SEPARATORS) else SINGLE_LABEL


def _list_separator(cells: Sequence[str], separators: str) -> str | None:
    """What parts lists in cells, whose parts come again in other cells."""
    different = set(cells)
    for one in separators:
        parts = {part.strip() for cell in different for part in cell.split(one)}
        lists = sum(one in cell for cell in different)
        if lists > 1 and len(parts) <= len(different):
            return one
    return None


def read_label(table: Table, labels: Labels, row: int, options: Options) -> Any:
    """What a row is to predict, as `Example.label`; None where it does not say.

    Raises:
      ValueError: a cell holds no number, or is neither true nor false.
    """
    cells = [table.columns[name][row].strip() for name in labels.columns]
    if labels.task == SINGLE_LABEL:
        return None if _lacks(cells[0], options) else cells[0]
    if labels.separator is not None:
        if cells[0] and _lacks(cells[0], options):
            return None
        parts = (part.strip() for part in cells[0].split(labels.separator))
        return tuple(dict.fromkeys(part for part in parts if part))
    found = [_TRUTH.get(cell.lower()) for cell in cells]
    expected, missing = "one of 0, 1, true, false, yes, no", [cell == "?" for cell in cells]
    if labels.task == REGRESSION:
        missing = [is_missing(cell, options.missing) for cell in cells]
        found, expected = [parse_number(cell) for cell in cells], EXPECTED_NUMBER  # type: ignore[misc]
    if any(missing):
        return None
    for name, cell, value in zip(labels.columns, cells, found, strict=True):
        if value is None:
            raise ValueError(
                f"convert: {table.place(row)}, column {name!r}: expected {expected}, received "
                f"{cell!r}. If it stands for a missing value: --missing {cell!r}"
            )
    if labels.task == REGRESSION:
        return tuple(found)
    return tuple(name for name, there in zip(labels.columns, found, strict=True) if there)
