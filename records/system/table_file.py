"""Tables as people have them, CSV files parted by commas or otherwise, and files of lines.

One rule for what is predicted and for what a builder reads.
"""

import csv
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

# A lyric is at most some 100 KB; Python's own limit is 128 KB.
_FIELD_BYTES = 2**27
LISTED = 8  # names in an error
_SEPARATORS = ",;\t|"
# How files of gzip, zip (a spreadsheet of Excel is one), bzip2, xz and zstd begin.
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def read_lines(path: Path, place: str) -> Iterator[str]:
    r"""Yields the lines of a text file, with their ends and without a byte order mark.

    A line ends with \n, so that a stray \r parts no text; in a file without one it ends with \r.
    The file is read once from its start: a pipe will do.

    Raises:
      ValueError: a line is not UTF-8; begins with `place`, names the line.
    """
    with open(path, "rb") as file:
        first = file.readline()
        lines = [first] if first.endswith(b"\n") else first.splitlines(keepends=True)
        for number, line in enumerate(itertools.chain(lines, file), 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                is_packed = number == 1 and line.startswith(_PACKED)
                mend = "Unpack it; save a spreadsheet as CSV" if is_packed else "Save it as UTF-8"
                raise ValueError(
                    f"{place}: {path}, line {number}: expected text in UTF-8, received "
                    f"{'a packed file' if is_packed else f'other bytes ({error})'}. {mend}"
                ) from error


def read_rows(
    path: Path, needed: tuple[str, ...], place: str, expected: str
) -> Iterator[tuple[int, int, dict[str, str]]]:
    """Yields the rows of a table with a header.

    Its columns are parted as `find_separator` says. An empty line is no row and is not counted,
    except where the table has one column: there it is a row whose field is empty.

    Args:
      path: a file, or a pipe.
      needed: the columns to read; white space around a name does not count, nor does the way in
        which Unicode writes it.
      place: first words of errors.
      expected: of the header, for errors.

    Yields:
      (number of the row from 1, line at which it begins, its fields by the names in `needed`).

    Raises:
      ValueError: the file is no table, or lacks a column; names the line.
    """
    lines = read_lines(path, place)
    first = next(lines, "")
    separator, before = _separator(path, first, needed)
    rest = lines if before else itertools.chain([first], lines)
    rows = parse_table(path, rest, before, separator, place)
    _, header = next(rows, (0, []))
    columns = _find_columns(f"{place}: {path}, line {before + 1}", header, needed, expected)
    for number, (line, fields) in enumerate(rows, 1):
        yield number, line, {name: fields[column] for name, column in columns.items()}


def parse_table(
    path: Path, lines: Iterable[str], before: int, separator: str, place: str
) -> Iterator[tuple[int, list[str]]]:
    """Yields (line at which it begins, its fields) of the header, then of each row.

    The first of `lines` is the header; `before` is how many stand above it.

    Raises:
      ValueError: a row is not CSV, or has more or fewer fields than the header.
    """
    header: list[str] | None = None
    for line, found in _parse(path, lines, before, separator, place):
        # An empty line is no row, but where there is one column it is an empty field.
        fields = [""] if not found and header is not None and len(header) == 1 else found
        if header is None:
            header = fields
        elif not fields:
            continue
        elif len(fields) != len(header):
            title = f". Where line {before + 1} is a title, take it away" * (len(header) == 1)
            raise ValueError(
                f"{place}: {path}, line {line}: expected {len(header)} fields as in the header, "
                f"received {len(fields)}{title}"
            )
        yield line, fields


def find_separator(path: Path, needed: Iterable[str], place: str) -> tuple[str, int]:
    """(what parts the columns of a table, how many lines stand before its header).

    A first line such as "sep=;" says it, as spreadsheets write it. Else it is the comma (the tab of
    a file `*.tsv`), unless another one gives every column that is needed, and the comma does not.
    """
    return _separator(path, next(read_lines(path, place), ""), needed)


def plain_name(name: str) -> str:
    """A column's name without white space around it, in one of the ways that Unicode writes it."""
    return unicodedata.normalize("NFC", name).strip()


def number_hint(text: str) -> str:
    """What to add to an error where a number holds a comma, as spreadsheets of Europe write it."""
    return " (write decimals with a point, such as 1.5)" if re.search(r"\d,\d", text) else ""


def _separator(path: Path, first: str, needed: Iterable[str]) -> tuple[str, int]:
    if re.fullmatch(r"sep=.\r?\n?", first):
        return first[4], 1
    wanted = set(map(plain_name, needed))
    tabs_first = path.suffix.lower() == ".tsv"
    separators = sorted(_SEPARATORS, key=lambda one: one != "\t") if tabs_first else _SEPARATORS
    for separator in separators:
        try:
            header = next(csv.reader([first], delimiter=separator), [])
        except csv.Error:
            continue
        if wanted <= set(map(plain_name, header)):
            return separator, 0
    return separators[0], 0


def _parse(
    path: Path, lines: Iterable[str], before: int, separator: str, place: str
) -> Iterator[tuple[int, list[str]]]:
    """(line at which it begins, fields) of each row, the header among them."""
    # Holds for the whole process: Python has no limit for one reader.
    csv.field_size_limit(_FIELD_BYTES)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        begin = before + reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            end = before + reader.line_num
            where = f"line {begin}" if end <= begin else f"lines {begin} to {end}"
            reason = str(error)
            if "new-line character" in reason:
                reason = "a carriage return within a field that is not quoted"
            raise ValueError(
                f"{place}: {path}, {where}: expected a row of a CSV file, received {reason}. Mend "
                "the row: a field with a quote, a separator or a line end stands in quotes, and "
                "its own quotes are doubled"
            ) from error
        if fields is None:
            return
        yield begin, fields


def _find_columns(
    place: str, header: list[str], needed: tuple[str, ...], expected: str
) -> dict[str, int]:
    """The number of each needed column."""
    exact = set(needed) <= set(header)
    names = header if exact else list(map(plain_name, header))
    wanted = needed if exact else tuple(map(plain_name, needed))
    kinds = {
        "missing": [name for name in wanted if name not in names],
        "more than once": [name for name in wanted if names.count(name) > 1],
        "other names": [name for name in names if name not in wanted],
    }
    if kinds["missing"] or kinds["more than once"]:
        said = "; ".join(f"{kind}: {listed(found)}" for kind, found in kinds.items() if found)
        raise ValueError(
            f"{place}: expected a header with {expected}, parted by commas, semicolons, tabs or "
            f"|, received a header with {said or 'nothing in it'}"
        )
    return {name: names.index(found) for name, found in zip(needed, wanted, strict=True)}


def listed(names: Iterable[str]) -> str:
    """Names for an error: the first ones, and how many more."""
    found = list(names)
    more = f" and {len(found) - LISTED:,} more" if len(found) > LISTED else ""
    return ", ".join(map(repr, found[:LISTED])) + more
