"""What a converted set was made from: its source's hash, and the command that makes it again."""

import hashlib
import os
from pathlib import Path
from typing import Any

from records.system.json_file import read_json

KEY = "converted_from"  # of the set's metadata


def make_origin(source: Path, flags: list[str]) -> dict[str, Any]:
    """What is kept in the set's metadata; `flags` are those of `builders.convert`."""
    return {"sha256": hash_source(source), "flags": flags}


def read_origin(directory: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What `make_origin` gave for a set's directory; None of any other set."""
    try:
        found = read_json(Path(directory) / "metadata.json")[KEY]
        flags = found["flags"]
        fits = type(found["sha256"]) is str and all(type(flag) is str for flag in flags)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if fits and type(flags) is list else None


def hash_source(source: Path) -> str:
    """Of a file's bytes, or of the names, sizes and times of all files below a folder."""
    found = hashlib.sha256()
    if source.is_file():
        with open(source, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    for folder, folders, files in os.walk(source, followlinks=True):
        folders.sort()  # the order in which the walk goes on
        for name in sorted(files):
            path = Path(folder, name)
            status = path.stat() if path.exists() else None
            sizes = (status.st_size, status.st_mtime_ns) if status else "no file"
            place = os.fsencode(path.relative_to(source))
            found.update(place + f"\0{sizes}\n".encode())
    return found.hexdigest()
