"""Whether the builder of a prepared set was edited since: a hash of its source lies beside it."""

import contextlib
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

    `tfds build` alone keeps no hash of a builder of TFDS's own class: then times of files tell, and
    where they say that nothing was edited, the hash is kept from now on.
    """
    built = Path(directory) / "dataset_info.json"
    try:
        kept = (Path(directory) / FILE_NAME).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        edited = max((path.stat().st_mtime for path in _modules(builder)), default=0.0)
        if not built.exists():
            return ""
        if edited <= built.stat().st_mtime:
            with contextlib.suppress(OSError):  # a folder that cannot be written
                write_source_hash(directory, builder)
            return ""
        said = (
            f"the builder in {os.path.relpath(builder)} has files that are newer than {directory}. "
            "Whether they were edited is not known: tfds build kept no hash of them. The set is "
            "used as it is"
        )
        again = "Where they were, build it"
    else:
        if kept == _hash(builder):
            return ""
        said = (
            f"the builder in {os.path.relpath(builder)} was edited after {directory} was built, "
            "which is used as it is"
        )
        again = "Build it"
    return f"{said}. {again} anew with --overwrite, or give the builder a new VERSION"


def _hash(builder: Path) -> str:
    """Of the modules in a builder's folder, tests left out."""
    found = hashlib.sha256()
    for path in _modules(builder):
        found.update(f"{path.name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def _modules(builder: Path) -> list[Path]:
    return sorted(path for path in builder.glob("*.py") if not path.name.endswith("_test.py"))
