"""Reads and checks the cardiotocography table, and splits its rows."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.writing import SourcedKey
from records.system.table_file import find_separator, number_hint, plain_name

FILE_NAME = "fetal_health.csv"
FEATURE_NAMES = (
    "baseline value",
    "accelerations",
    "fetal_movement",
    "uterine_contractions",
    "light_decelerations",
    "severe_decelerations",
    "prolongued_decelerations",
    "abnormal_short_term_variability",
    "mean_value_of_short_term_variability",
    "percentage_of_time_with_abnormal_long_term_variability",
    "mean_value_of_long_term_variability",
    "histogram_width",
    "histogram_min",
    "histogram_max",
    "histogram_number_of_peaks",
    "histogram_number_of_zeroes",
    "histogram_mode",
    "histogram_mean",
    "histogram_median",
    "histogram_variance",
    "histogram_tendency",
)
LABEL_COLUMN = "fetal_health"
LABEL_NAMES = ("normal", "suspect", "pathological")
TEST_SHARE = 0.2

_PLACE = "builders/fetal_health"


@dataclass(frozen=True)
class Table:
    """The rows of the file, in file order."""

    # float32 [N, 21], columns in the order of FEATURE_NAMES, in the file's units.
    features: np.ndarray
    labels: np.ndarray  # int64 [N], 0 to 2, numbers into LABEL_NAMES
    is_test: np.ndarray  # bool [N], rows of the test split
    path: Path
    lines: np.ndarray  # int64 [N], line of each row in the file

    def row(self, number: int) -> tuple[int, int, np.ndarray, int]:
        """Of a row: its number in the file, from 1, its line, features and label."""
        line, label = int(self.lines[number]), int(self.labels[number])
        return number + 1, line, self.features[number], label


def make_example(row: tuple[int, int, np.ndarray, int], path: Path) -> tuple[str, dict[str, Any]]:
    """(key, example) of a `Table.row`; the id is its number."""
    number, line, features, label = row
    # Padded, so that ids sort as rows do.
    name = f"row-{number:06d}"
    return SourcedKey(name, f"{path}, line {line}"), {
        "features": features,
        "label": label,
        "id": name,
    }


def read_table(path: Path) -> Table:
    """Reads the file and checks every value.

    Raises:
      ValueError: a column is missing or unexpected, a value is no finite number, a label is not
        1, 2 or 3, or there are no rows. Names file, line, column, expected and received.
    """
    text = _read_text_columns(path)
    _check_columns(path, list(text.columns))
    values = np.empty((len(text), len(FEATURE_NAMES)), np.float32)
    for i, name in enumerate(FEATURE_NAMES):
        values[:, i] = _numbers(path, text[name])
    labels = _numbers(path, text[LABEL_COLUMN])
    wrong = ~np.isin(labels, np.arange(1, len(LABEL_NAMES) + 1))
    if wrong.any():
        expected = "1 (normal), 2 (suspect) or 3 (pathological)"
        raise _value_error(path, text[LABEL_COLUMN], wrong, expected)
    labels = labels.astype(np.int64) - 1
    is_test = split_rows(values, labels)
    if is_test.all() or not is_test.any():
        raise ValueError(
            f"{_PLACE}: {path}: expected enough distinct rows for a train and a test split, "
            f"received {len(labels)}"
        )
    return Table(values, labels, is_test, path, text.index.to_numpy(np.int64))


def split_rows(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Chooses the test split, bool [N]: stratified, by content, equal rows on one side.

    Per class, distinct rows are taken in the order of a hash of their values until a fifth of the
    class's rows (rounded) is reached; so the choice depends neither on file order nor on a random
    generator. `features` are float32 [N, F], `labels` int64 [N].
    """
    groups: dict[bytes, list[int]] = {}
    for row, values in enumerate(np.ascontiguousarray(features, "<f4")):
        groups.setdefault(hashlib.sha256(values.tobytes()).digest(), []).append(row)
    wanted = np.round(TEST_SHARE * np.bincount(labels)).astype(int)
    is_test = np.zeros(len(labels), bool)
    for _, rows in sorted(groups.items()):
        # Equal rows of two classes count for the class of the first.
        label = labels[rows[0]]
        # Whole groups only: equal rows on both sides would be leakage.
        if len(rows) <= wanted[label]:
            is_test[rows] = True
            wanted[label] -= len(rows)
    return is_test


def _read_text_columns(path: Path) -> pd.DataFrame:
    """The file's columns as text; the frame's index holds line numbers."""
    separator, before = find_separator(path, (*FEATURE_NAMES, LABEL_COLUMN), _PLACE)
    try:
        # Text first: a column that pandas has already converted cannot show what stood there.
        text = pd.read_csv(
            path,
            sep=separator,
            skiprows=before,
            encoding="utf-8-sig",
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        )
    except pd.errors.EmptyDataError:
        raise ValueError(
            f"{_PLACE}: {path}, line 1: expected a header of {len(FEATURE_NAMES) + 1} columns, "
            "received an empty file"
        ) from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{_PLACE}: {path}: expected a CSV file (UTF-8), received one that cannot be read: "
            f"{str(error).strip()}"
        ) from None
    if not isinstance(text.index, pd.RangeIndex):
        raise ValueError(
            f"{_PLACE}: {path}, line {before + 2}: expected {len(text.columns)} values as in the "
            "header, received more"
        )
    text.columns = text.columns.map(plain_name)
    text.index = text.index + before + 2  # the header is the line before
    filled = text.fillna("")
    text = filled[(filled != "").any(axis=1)]  # blank lines, such as one at the end
    if text.empty:
        raise ValueError(
            f"{_PLACE}: {path}, line {before + 2}: expected rows of numbers, received none"
        )
    return text


def _check_columns(path: Path, columns: list[str]) -> None:
    expected = [*FEATURE_NAMES, LABEL_COLUMN]
    missing = [name for name in expected if name not in columns]
    unexpected = [name for name in columns if name not in expected]
    unexpected += [name for name in expected if columns.count(name) > 1]
    if missing or unexpected:
        raise ValueError(
            f"{_PLACE}: {path}, line 1: columns expected {expected}, received {columns}; "
            f"missing: {missing or 'none'}, unexpected: {unexpected or 'none'}"
        )


def _numbers(path: Path, column: pd.Series) -> np.ndarray:
    """A text column as float64 [N]."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    # As float32, in which it is stored: 1e39 is finite before, and infinite then.
    wrong = ~np.isfinite(numbers.astype(np.float32))
    if wrong.any():
        raise _value_error(path, column, wrong, "a finite number")
    return numbers


def _value_error(path: Path, column: pd.Series, wrong: np.ndarray, expected: str) -> ValueError:
    first = int(np.flatnonzero(wrong)[0])
    more = f" ({wrong.sum() - 1} more in this column)" if wrong.sum() > 1 else ""
    return ValueError(
        f"{_PLACE}: {path}, line {column.index[first]}, column '{column.name}': expected "
        f"{expected}, received {column.iloc[first]!r}{number_hint(column.iloc[first])}{more}"
    )
