"""JSON lines as the rows of a table: cells are texts, as in a CSV file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from records.system.table_file import read_lines

SUFFIXES = (".jsonl", ".ndjson")


def read_rows(path: Path, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, values by name) of each object; empty lines are none.

    Args:
      part: first words of errors.

    Raises:
      ValueError: a line is no JSON object in UTF-8; names it.
    """
    for number, line in enumerate(read_lines(path, part), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(line.strip()[:60])
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{part}: {path}, line {number}: expected a JSON object in each line, received "
                f"something else ({error})"
            ) from None
        yield number, row


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
