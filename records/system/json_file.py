"""JSON files: read, whoever wrote them, and written."""

import json
from pathlib import Path
from typing import Any

from records.system.writing import write_atomically


def read_json(file: Path) -> Any:
    """What a JSON file in UTF-8 holds.

    Raises:
      ValueError: it is none, or nested more deeply than Python's parser goes.
      OSError: it cannot be read.
    """
    text = file.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    # Not a ValueError of its own: callers take one for "damaged".
    except RecursionError:
        raise ValueError("values nested too deeply") from None


def write_json(file: Path, content: Any) -> None:
    """Writes a file of that name whole, or leaves the old one; missing folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(content, indent=2) + "\n").encode())
