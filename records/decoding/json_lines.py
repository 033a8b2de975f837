"""JSON lines as the rows of a table: cells are texts, as in a CSV file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUFFIXES = (".jsonl", ".ndjson")


def read_rows(path: Path, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, values by name) of each object; empty lines are none.

    Args:
      part: first words of errors.

    Raises:
      ValueError: a line is no JSON object in UTF-8; names it.
    """
    number = 0
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(line.strip()[:60])
                yield number, row
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{part}: {path}, near line {number}: expected a JSON object in each line, in "
                f"UTF-8, received something else ({error})"
            ) from None


def as_cell(value: Any) -> str:
    """A value as a CSV file would hold it; null is empty.

    Raises:
      ValueError: a list, an object, or no Unicode text.
    """
    if isinstance(value, list | dict):
        raise ValueError(
            f"expected a text or a number, received {str(value)[:60]}. Write lists and objects as "
            "values of their own"
        )
    text = "" if value is None else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected Unicode text, received half of a pair: {text[:60]!r}") from None
    return text
