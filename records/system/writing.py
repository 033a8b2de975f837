"""Files that appear whole under their final name, or not at all; texts that stay in their cell."""

from __future__ import annotations

import os
import re
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file of that name, which holds the old bytes or all the new ones at any time.

    A link stays, and its target is written. What is no file, such as /dev/null, is written into.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    # In the same folder: a rename is atomic within one file system only.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# What Markdown takes for formatting, a link or a picture; an underscore inside a word is none.
_FORMATS = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")


def escape_cell(text: str) -> str:
    """A text as one cell of a table in Markdown, whatever is in it: it shows as it is."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _FORMATS.sub(r"\\\g<0>", plain)
