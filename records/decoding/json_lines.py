"""JSON lines and Parquet as the rows of a table: cells are texts, as in a CSV file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from records.system.table_file import plain_name, read_lines

PARQUET = ".parquet"
SUFFIXES = (".jsonl", ".ndjson", ".json", PARQUET)


def read_rows(path: Path, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, values by name) of each object, or the number of each row of a Parquet file.

    Empty lines are no rows. White space around a name does not count, nor does the way in which
    Unicode writes it.

    Args:
      part: first words of errors.

    Raises:
      ValueError: a line is no JSON object in UTF-8, or has a name twice; names it. The file is no
        Parquet file.
    """
    if path.suffix.lower() == PARQUET:
        yield from enumerate(_parquet_rows(path, part), 1)
        return
    for number, line in enumerate(read_lines(path, part), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
            if not isinstance(row, dict):
                raise ValueError(line.strip()[:60])
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{part}: {path}, line {number}: expected a JSON object in each line, received "
                f"something else ({error}). A list of objects becomes lines by: jq -c '.[]' FILE"
            ) from None
        yield number, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a name that stands twice, or is no Unicode text."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        name.encode()
        if (plain := plain_name(name)) in found:
            raise ValueError(f"the name {plain!r} more than once")
        found[plain] = value
    return found


def _parquet_rows(path: Path, part: str) -> Iterator[dict[str, Any]]:
    import pandas as pd

    try:
        # Whole numbers of a column with gaps stay whole numbers.
        frame = pd.read_parquet(path).convert_dtypes()
    except ImportError as error:
        raise ValueError(
            f"{part}: {path}: Parquet needs the package pyarrow: pip install pyarrow"
        ) from error
    except Exception as error:  # Arrow raises kinds of its own
        raise ValueError(f"{part}: {path}: expected a Parquet file, received {error}") from None
    names = [plain_name(str(name)) for name in frame.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{part}: {path}: expected different names, received {twice} again")
    missing = frame.isna().to_numpy()
    for row, lacks in zip(frame.itertuples(index=False, name=None), missing, strict=True):
        yield {
            name: None if lack else value
            for name, value, lack in zip(names, row, lacks, strict=True)
        }


def as_cell(value: Any) -> str:
    """A value as a CSV file would hold it; null is empty.

    Raises:
      ValueError: a list, an object, bytes, or no Unicode text.
    """
    if hasattr(value, "__len__") and not isinstance(value, str):
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
