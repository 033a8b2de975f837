"""From the cells of a table, texts as a file holds them, to the numbers that a model reads.

What is learned from the training rows (medians, vocabularies) is kept as JSON: in the set's
metadata, and in the folder of a run, whose predictions take the same files as the build.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from records.sets.target import REGRESSION, SINGLE_LABEL, TASKS

TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
# What stands for a missing value, in any letter case.
MISSING = frozenset(
    ("", "?", "na", "n/a", "<na>", "#na", "#n/a", "#n/a n/a", "nan", "-nan", "null", "none")
)
_LARGEST = float(np.finfo(np.float32).max)


class CellError(ValueError):
    """A cell of `column` that holds `text`, and should hold something else."""

    def __init__(self, column: str, text: str, expected: str | None = None):
        """`expected`: what was; default: a number."""
        super().__init__(
            f"column {column!r}: expected {expected or EXPECTED_NUMBER}, received {text!r}"
        )
        self.column, self.text = column, text


EXPECTED_NUMBER = f"a finite number of at most {_LARGEST:.4g} (float32)"


def parse_number(text: str) -> float | None:
    """The finite number that a cell holds, of at most float32's range; None for anything else."""
    try:
        value = float(text) if "_" not in text else math.nan  # Python reads 17_00 as 1700
    except ValueError:
        return None
    # The models compute in float32: beyond its range a number would become another one.
    return value if abs(value) <= _LARGEST else None


@dataclasses.dataclass(frozen=True)
class Number:
    """A column of numbers."""

    name: str
    median: float  # of the training rows; it fills what is missing
    flagged: bool  # one more column says where it was filled: where training rows lack the value


@dataclasses.dataclass(frozen=True)
class Category:
    """A column of texts: one column of 0 and 1 for each value of the vocabulary."""

    name: str
    values: tuple[str, ...]  # the vocabulary, without white space around
    # One more column, for the rare values of the training rows and those they do not hold.
    other: bool
    missing: bool  # one more column, where training rows lack the value


@dataclasses.dataclass(frozen=True)
class TableColumns:
    """How a row becomes a vector."""

    # In the order of the vector; what is in the file besides them is not read.
    columns: tuple[Number | Category, ...]
    missing: tuple[str, ...] = ()  # spellings of a missing value besides `MISSING`

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the file that are read."""
        return tuple(column.name for column in self.columns)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Of the vector's numbers, all different."""
        found: dict[str, None] = {}
        for column in self.columns:
            for name in _feature_names(column):
                while name in found:  # column "a" with a value "b=c", and column "a=b" with "c"
                    name += "'"
                found[name] = None
        return tuple(found)

    def is_missing(self, text: str) -> bool:
        """Whether a cell stands for a missing value."""
        return is_missing(text, self.missing)

    def encode(self, row: Mapping[str, str]) -> np.ndarray:
        """A row's cells by column as float64 [F].

        Raises:
          CellError: a column of numbers holds something else.
        """
        found: list[float] = []
        for column in self.columns:
            text = row[column.name].strip()
            missing = self.is_missing(text)
            if isinstance(column, Number):
                value = column.median if missing else parse_number(text)
                if value is None:
                    raise CellError(column.name, text)
                found += [value, float(missing)] if column.flagged else [value]
            else:
                found += _one_hot(column, text, missing)
        return np.array(found, np.float64)

    def find_unseen(self, row: Mapping[str, str]) -> list[str]:
        """Columns whose cell no training row held, or too few: another value, or none."""
        found = []
        for column in self.columns:
            text = row[column.name].strip()
            if self.is_missing(text):
                seen = column.flagged if isinstance(column, Number) else column.missing
            else:
                seen = isinstance(column, Number) or text in column.values
            if not seen:
                found.append(column.name)
        return found

    def to_json(self) -> dict[str, Any]:
        """As JSON; `from_json` reads it back."""
        return {
            "columns": [
                {"kind": type(column).__name__.lower()} | dataclasses.asdict(column)
                for column in self.columns
            ],
            "missing": list(self.missing),
        }

    @classmethod
    def from_json(cls, found: Any) -> TableColumns:
        """Reads what `to_json` gave.

        Raises:
          ValueError: something else.
        """
        kinds = {"number": Number, "category": Category}
        try:
            columns = []
            for one in found["columns"]:
                fields = dict(one)
                kind = kinds[fields.pop("kind")]
                if kind is Category:
                    fields["values"] = tuple(fields["values"])
                column = kind(**fields)
                _check(column)
                columns.append(column)
            made = cls(tuple(columns), tuple(found["missing"]))
            if not columns or not all(type(text) is str for text in made.missing):
                raise ValueError("no columns, or missing values that are no texts")
            return made
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"columns of a converted table, received {error}") from None


@dataclasses.dataclass(frozen=True)
class LabelColumns:
    """What the rows of a file are to predict, and where they say it."""

    task: str = SINGLE_LABEL  # one of `records.sets.target.TASKS`
    columns: tuple[str, ...] = ()  # of the file that say it; () of folders
    separator: str | None = None  # parts the classes in a cell; None where none does
    missing: tuple[str, ...] = ()  # spellings of a missing value besides `MISSING`

    def read(self, row: Mapping[str, str]) -> str | tuple[str, ...] | tuple[float, ...] | None:
        """A class, the names of several, or numbers by column; None of a row that does not say.

        Raises:
          CellError: a cell holds no number, or is neither true nor false.
        """
        cells = {name: row[name].strip() for name in self.columns}
        first = cells[self.columns[0]]
        if self.task == SINGLE_LABEL:
            return None if lacks_class(first, self.missing) else first
        if self.separator is not None:
            if first and lacks_class(first, self.missing):
                return None
            parts = (part.strip() for part in first.split(self.separator))
            return tuple(dict.fromkeys(part for part in parts if part))
        if self.task == REGRESSION:
            if any(is_missing(cell, self.missing) for cell in cells.values()):
                return None
            numbers = {name: parse_number(cell) for name, cell in cells.items()}
            self._check(cells, numbers, EXPECTED_NUMBER)
            return tuple(number for number in numbers.values() if number is not None)
        if "?" in cells.values():
            return None
        found = {name: TRUTH.get(cell.lower()) for name, cell in cells.items()}
        self._check(cells, found, "one of 0, 1, true, false, yes, no")
        return tuple(name for name, there in found.items() if there)

    @staticmethod
    def _check(cells: Mapping[str, str], found: Mapping[str, Any], expected: str) -> None:
        for name, value in found.items():
            if value is None:
                raise CellError(name, cells[name], expected)

    @classmethod
    def from_json(cls, found: Any) -> LabelColumns:
        """Reads what `dataclasses.asdict` gave.

        Raises:
          ValueError: something else.
        """
        try:
            made = cls(**found)
            made = dataclasses.replace(made, columns=(*made.columns,), missing=(*made.missing,))
            texts = (made.task, *made.columns, *made.missing, made.separator or " ")
            if not all(type(text) is str for text in texts) or made.task not in TASKS:
                raise ValueError(f"{found!r:.100}")
            return made
        except (TypeError, ValueError) as error:
            raise ValueError(f"label columns expected, received {error}") from None


def lacks_class(text: str, spellings: tuple[str, ...]) -> bool:
    """Whether a cell names no class; "None" may well be one."""
    return is_missing(text, spellings) and text.strip().lower() != "none"


def is_missing(text: str, spellings: tuple[str, ...] = ()) -> bool:
    """Whether a cell stands for a missing value, by `MISSING` or one of `spellings`."""
    text = text.strip()
    return text.lower() in MISSING or text in spellings


def _feature_names(column: Number | Category) -> list[str]:
    name = column.name
    if isinstance(column, Number):
        return [name, f"{name} is missing"] if column.flagged else [name]
    own = [f"{name}={value}" for value in column.values]
    own += [f"{name}: other"] if column.other else []
    return own + ([f"{name} is missing"] if column.missing else [])


def _one_hot(column: Category, text: str, missing: bool) -> list[float]:
    found = [0.0] * (len(column.values) + column.other + column.missing)
    if missing and column.missing:
        found[-1] = 1.0
    elif not missing and text in column.values:
        found[column.values.index(text)] = 1.0
    elif column.other:
        found[len(column.values)] = 1.0
    return found


def _check(column: Number | Category) -> None:
    """Raises ValueError for values that no build writes."""
    texts = [column.name, *(column.values if isinstance(column, Category) else ())]
    flags = (column.flagged,) if isinstance(column, Number) else (column.other, column.missing)
    if not all(type(text) is str for text in texts) or not all(type(f) is bool for f in flags):
        raise ValueError(f"a column {column!r:.100}")
    median = column.median if isinstance(column, Number) else 0.0
    if type(median) not in (int, float) or not abs(median) <= _LARGEST:
        raise ValueError(f"a median {median!r:.100}")
