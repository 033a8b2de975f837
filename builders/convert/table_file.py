"""Reads a table, whatever it was written as, into columns of texts."""

import csv
import dataclasses
import itertools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from records.decoding import json_lines
from records.decoding.table_columns import parse_number
from records.system.table_file import listed, parse_table, plain_name, read_lines

_TAB, _CANDIDATES = "\t", ",;\t|"
_DELIMITED = (".csv", ".tsv", ".tab", ".txt", ".data")
SUFFIXES = (*_DELIMITED, *json_lines.SUFFIXES)
_LOOKED_AT = 50  # rows that say what parts the columns


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as it stands in its file."""

    path: Path
    # {name: cells}, texts; what is missing is "". White space around names is taken away.
    columns: dict[str, list[str]]
    lines: list[int]  # line of each row in the file
    written_as: str  # what it is, for people

    def place(self, row: int) -> str:
        """Where a row stands."""
        return f"{self.path}, line {self.lines[row]}"

    def check_columns(self, flag: str, names: tuple[str | None, ...]) -> None:
        """Raises ValueError for a name that is no column."""
        for name in names:
            if name is not None and name not in self.columns:
                raise ValueError(
                    f"convert: {self.path}: {flag} expected one of its columns "
                    f"{listed(self.columns)}, received {name!r}"
                )


def read_table(path: Path, separator: str | None = None, drop: Sequence[str] = ()) -> Table:
    """Reads CSV, TSV and the like in UTF-8, JSON lines, or Parquet.

    Args:
      separator: what parts the columns; default: the one that gives every row as many.
      drop: columns of which nothing is read: in JSON lines they may hold lists and objects.

    Raises:
      ValueError: the file is none of these, or its rows do not fit its header; names the line.
      OSError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in json_lines.SUFFIXES:
        return _read_objects(path, drop)
    if suffix not in _DELIMITED and separator is None:
        raise ValueError(
            f"convert: {path}: expected one of {', '.join(SUFFIXES)}, received "
            f"{suffix or 'no ending'}. Save a spreadsheet as CSV; unpack a packed file; of another "
            "text file say what parts its columns: --separator ';'"
        )
    return _read_delimited(path, separator or (_TAB if suffix in (".tsv", ".tab") else None))


def _read_delimited(path: Path, separator: str | None) -> Table:
    separator, before = _find_separator(path, separator)
    lines = itertools.islice(read_lines(path, "convert"), before, None)
    found = parse_table(path, lines, before, separator, "convert")
    header = [plain_name(name) for name in next(found, (0, []))[1]]
    _check_header(path, before + 1, header)
    rows = list(found)
    named = _without_nameless(path, before + 1, header, rows)
    used = {name: i for i, name in enumerate(named) if name is not None}
    columns = {name: [row[i] for _, row in rows] for name, i in used.items()}
    shown = "tabs" if separator == _TAB else repr(separator)
    return _checked(Table(path, columns, [line for line, _ in rows], f"columns parted by {shown}"))


def _find_separator(path: Path, separator: str | None) -> tuple[str, int]:
    """(what parts the columns, lines before the header)."""
    lines = read_lines(path, "convert")
    first = next(lines, "")
    if found := re.fullmatch(r"sep=(.)\r?\n?", first):  # as spreadsheets write it
        return separator or found[1], 1
    if separator is not None:
        return separator, 0
    sample = [first, *itertools.islice(lines, _LOOKED_AT)]
    fitting = [one for one in _CANDIDATES if _fits(sample, one)]
    if "," in fitting or not fitting:
        return ",", 0
    if len(fitting) > 1:
        raise ValueError(
            f"convert: {path}: its columns could be parted by any of {listed(fitting)}. Say by "
            f"which: --separator {'tab' if fitting[0] == _TAB else fitting[0]!r}"
        )
    return fitting[0], 0


def _fits(sample: list[str], separator: str) -> bool:
    """Whether it gives every row as many columns as the header has, two or more."""
    try:
        rows = [row for row in csv.reader(sample, delimiter=separator) if row]
    except csv.Error:
        return False
    # The last line may be the beginning of a longer one.
    counts = {len(row) for row in rows[: max(2, len(rows) - 1)]}
    return len(counts) == 1 and counts.pop() > 1


def _without_nameless(
    path: Path, line: int, header: list[str], rows: list[tuple[int, list[str]]]
) -> list[str | None]:
    """The header, None in place of nameless columns without a value: spreadsheets add such.

    Raises:
      ValueError: several columns with values have no name.
    """
    nameless = [i for i, name in enumerate(header) if not name]
    if len(nameless) < 2:
        return list(header)
    filled = [i for i in nameless if any(row[i].strip() for _, row in rows)]
    if len(filled) > 1:
        raise ValueError(
            f"convert: {path}, line {line}: expected a name for each column, received none for "
            f"the columns {', '.join(str(i + 1) for i in filled)}. Name them, and take lines such "
            "as a title away above the header"
        )
    return [name if name or i in filled else None for i, name in enumerate(header)]


def _check_header(path: Path, line: int, header: list[str]) -> None:
    numbers = [name for name in header if parse_number(name) is not None]
    if (len(numbers) > len(header) / 4 and len(header) > 1) or not any(header):
        raise ValueError(
            f"convert: {path}, line {line}: expected a header, a name for each column, received "
            f"{listed(header) or 'an empty line'}. Write a line of names above the rows; where it "
            "is the header, give it names that are no numbers, such as y2019"
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ValueError(
            f"convert: {path}, line {line}: expected different names, received "
            f"{listed(twice)} more than once"
        )


def _read_objects(path: Path, drop: Sequence[str]) -> Table:
    rows = list(json_lines.read_rows(path, "convert"))
    columns: dict[str, list[str]] = {name: [] for _, row in rows for name in row}
    for line, row in rows:
        for name, cells in columns.items():
            try:
                cells.append("" if name in drop else json_lines.as_cell(row.get(name)))
            except ValueError as error:
                raise ValueError(
                    f"convert: {path}, line {line}, {name!r}: {error}, or leave the column out: "
                    f"--drop {shlex.quote(name)}"
                ) from None
    written_as = "Parquet" if path.suffix.lower() == json_lines.PARQUET else "JSON lines"
    return _checked(Table(path, columns, [line for line, _ in rows], written_as))


def _checked(table: Table) -> Table:
    if not table.lines:
        raise ValueError(f"convert: {table.path}: expected rows, received none")
    return table
