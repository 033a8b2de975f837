"""Genres out of a column of cells: split as the column writes them, one spelling for each."""

import ast
from collections import Counter
from collections.abc import Iterable, Sequence

# A column is split at the first of these that any of its cells holds: where ";" parts genres, a
# comma or a slash belongs to a name ("Folk, World").
SEPARATORS = (";", "|", ",", "/")
# What tables write where there is no genre.
_NOTHING = {"", "nan", "none", "null", "na", "n/a", "-", "[]"}


def split_column(cells: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Splits the cells of a column into genres.

    A cell such as "['rock', 'pop']" is read as a Python list.

    Returns:
      The genres of each cell, as they are spelled there, and sentences that say what was done.
    """
    plain = [cell for cell in cells if _as_list(cell) is None and not _is_nothing(cell)]
    separator = next((one for one in SEPARATORS if any(one in cell for cell in plain)), None)
    found, said = [], []
    for cell in cells:
        parts = _as_list(cell)
        if parts is None:
            parts = cell.split(separator) if separator and not _is_nothing(cell) else [cell]
        found.append([" ".join(part.split()) for part in parts if not _is_nothing(part)])
    if separator:
        said.append(f"split at {separator!r}")
    lists = len(cells) - len(plain) - sum(map(_is_nothing, cells))
    if lists:
        said.append(f"{lists} cells read as lists")
    if empty := sum(not genres for genres in found):
        said.append(f"{empty} of {len(cells)} rows without a genre")
    return found, said


def choose_spellings(names: Iterable[str]) -> dict[str, str]:
    """{name: the spelling that stands for it}: the most frequent one of those that differ by case.

    Ties go to the first by alphabet, so that the order of rows decides nothing.
    """
    counts = Counter(names)
    chosen: dict[str, str] = {}
    for name in sorted(counts, key=lambda one: (-counts[one], one)):
        chosen.setdefault(name.casefold(), name)
    return {name: chosen[name.casefold()] for name in counts}


def _as_list(cell: str) -> list[str] | None:
    """The items of a cell that is written as a Python list, else None."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    try:
        items = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell[1:-1].split(",")  # [rock, pop]
    return [str(item) for item in items]


def _is_nothing(cell: str) -> bool:
    return cell.strip().casefold() in _NOTHING
