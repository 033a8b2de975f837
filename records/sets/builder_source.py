"""Whether the builder of a prepared set was edited since: a hash of its source lies beside it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from records.system.writing import write_atomically

FILE_NAME = "builder.sha256"


def write_source_hash(directory: str | os.PathLike[str], builder: Path) -> None:
    """Keeps in a set's directory by which source, in the folder `builder`, it was built."""
    write_atomically(Path(directory) / FILE_NAME, f"{_hash(builder)}\n".encode())


def source_change(directory: str | os.PathLike[str], builder: Path) -> str:
    """What to do where the set was built by another source than there is, else "".

    `tfds build` alone keeps no hash of a builder of TFDS's own class: then times of files tell.
    """
    file = Path(directory) / FILE_NAME
    try:
        differs = file.read_text(encoding="utf-8").strip() != _hash(builder)
    except (OSError, UnicodeDecodeError):
        built = Path(directory) / "dataset_info.json"
        edited = max((path.stat().st_mtime for path in _modules(builder)), default=0.0)
        differs = built.exists() and edited > built.stat().st_mtime
    if not differs:
        return ""
    return (
        f"the builder in {os.path.relpath(builder)} was edited after {directory} was built, which "
        "is used as it is. Build it anew with --overwrite, or give the builder a new VERSION"
    )


def _hash(builder: Path) -> str:
    """Of the modules in a builder's folder, tests left out."""
    found = hashlib.sha256()
    for path in _modules(builder):
        found.update(f"{path.name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def _modules(builder: Path) -> list[Path]:
    return sorted(path for path in builder.glob("*.py") if not path.name.endswith("_test.py"))
