"""Reads JSON files, whoever wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


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
