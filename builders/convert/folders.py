"""Files in a folder for each class, or in `<split>/<class>`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from builders.convert.source import listed, named_split


@dataclasses.dataclass(frozen=True)
class FoundFile:
    """A file with its class.

    Attributes:
      path: of the file.
      name: its path below the source, with "/".
      label: the folder of its class.
      split: that of the folder around, or None.
      group: what must stay in one split, or None.
    """

    path: Path
    name: str
    label: str
    split: str | None = None
    group: str | None = None


def list_folder(source: Path) -> tuple[list[FoundFile], dict[str, int]]:
    """(files of all classes, sorted by name, {reason: files left out}); hidden files are none.

    Raises:
      ValueError: there is no class folder, or folders of splits and of classes are side by side.
    """
    folders = [path for path in _visible(source) if path.is_dir()]
    splits = {path.name: named_split(path.name) for path in folders}
    named = [name for name, split in splits.items() if split]
    if not folders:
        raise ValueError(
            f"convert: {source}: expected a folder for each class, received "
            f"{listed(path.name for path in _visible(source)) or 'nothing'}. Put the files in "
            f"folders of their classes, or name a table: {source}/FILE.csv"
        )
    if named and len(named) < len(folders):
        others = [name for name in splits if name not in named]
        raise ValueError(
            f"convert: {source}: expected folders of splits or of classes, received both: "
            f"{listed(named)} and {listed(others)}. Move one kind away"
        )
    found: list[FoundFile] = []
    outside = 0
    for base in folders if named else [source]:
        for entry in _visible(base):
            if not entry.is_dir():
                outside += 1
                continue
            found += [
                FoundFile(path, _name(path, source), entry.name, splits.get(base.name))
                for path in _files_below(entry)
            ]
    outside += sum(not path.is_dir() for path in _visible(source)) if named else 0
    return found, {"in no class folder": outside} if outside else {}


def _visible(folder: Path) -> list[Path]:
    # Hidden files, such as macOS's .DS_Store, are no part of a set.
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in _visible(folder):
        found += _files_below(path) if path.is_dir() else [path]
    return found


def _name(path: Path, source: Path) -> str:
    name = path.relative_to(source).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"convert: expected file names in UTF-8, received {os.fsencode(path)!r}. Rename the "
            "file, for instance with: convmv -f latin1 -t utf8 --notest FILE"
        ) from None
    return name
