"""Which columns say what is to be predicted: one class, several classes at once, or numbers."""

from collections.abc import Sequence
from typing import Any

from builders.convert.guesses import NAMES_FROM, ROWS_OF_A_NUMBER, guess_label
from builders.convert.source import Options
from builders.convert.table_file import Table
from records.decoding.table_columns import (
    TRUTH,
    CellError,
    LabelColumns,
    lacks_class,
    parse_number,
)
from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL

_SEPARATORS = ";|"  # of the classes in a cell; a comma only with --task multi_label


def find_labels(table: Table, options: Options, others: Sequence[str]) -> tuple[LabelColumns, str]:
    """(the columns of the target and what it is, how they were found); `others` have another use.

    Raises:
      ValueError: no column is it for certain; names them.
    """
    columns, how = options.label, "--label"
    if not columns:
        column, how = guess_label(table, options, others)
        columns = (column,)
    cells = [cell.strip() for name in columns for cell in table.columns[name]]
    present = [cell for cell in cells if not lacks_class(cell, options.missing)]
    task = options.task or _guess_task(columns, present, bool(options.label))
    separator = None
    if task == MULTI_LABEL and len(columns) == 1:
        separator = _list_separator(present, _SEPARATORS + ",") or _SEPARATORS[0]
    said = {MULTI_LABEL: f"several classes at once, parted by {separator!r}", REGRESSION: "numbers"}
    if task != SINGLE_LABEL:
        said[MULTI_LABEL] = said[MULTI_LABEL] if separator else "several classes at once"
        how += f"; {said[task]}" + "; another: --task" * (options.task is None)
    return LabelColumns(task, columns, separator, options.missing), how


def _guess_task(columns: Sequence[str], present: Sequence[str], is_named: bool) -> str:
    if len(columns) > 1:
        are_flags = all(cell.lower() in TRUTH for cell in present)
        return MULTI_LABEL if are_flags else REGRESSION
    different = set(present)
    numbers = [parse_number(cell) for cell in different]
    if len(different) > NAMES_FROM and None not in numbers:
        has_fractions = any(number != int(number) for number in numbers if number is not None)
        # Whole numbers may be names of classes, or of rows: only a column that was named counts.
        if has_fractions or (is_named and len(different) > len(present) / ROWS_OF_A_NUMBER):
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


def read_label(table: Table, labels: LabelColumns, row: int) -> Any:
    """What a row is to predict, as `Example.label`; None where it does not say.

    Raises:
      ValueError: a cell holds no number, or is neither true nor false.
    """
    try:
        return labels.read({name: table.columns[name][row] for name in labels.columns})
    except CellError as error:
        raise ValueError(
            f"convert: {table.place(row)}, {error}. If it stands for a missing value: --missing "
            f"{error.text!r}"
        ) from None
