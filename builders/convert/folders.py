"""Files in a folder for each class, or in `<split>/<class>`."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from builders.convert.source import named_split
from records.system.places import what_stands
from records.system.table_file import listed, plain_name

# What Windows and macOS leave in folders and archives, beside files that begin with a point.
_LITTER = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
# A larger file would take the memory of all others.
_FILE_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class FoundFile:
    """A file with its class."""

    path: Path
    name: str  # its path below the source, with "/"
    # The folder of its class, without white space around; of a table's rows as `Example.label`.
    label: Any
    split: str | None = None  # that of the folder around, or None
    group: str | None = None  # what must stay in one split, or None


def list_folder(source: Path) -> tuple[list[FoundFile], dict[str, int]]:
    """(files of all classes, sorted by name, {reason: files left out}); hidden files are none.

    Raises:
      ValueError: there are no two class folders, folders of splits and of classes are side by
        side, or a link leads to a folder around it.
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
    if len(folders) == 1 and not named:
        raise ValueError(
            f"convert: {source}: expected folders of two classes or more, received one: "
            f"{folders[0].name!r}. If the classes lie in it, name it: {folders[0]}"
        )
    found: list[FoundFile] = []
    outside = [path for path in _visible(source) if not path.is_dir()] if named else []
    empty = 0
    for base in folders if named else [source]:
        for entry in _visible(base):
            if not entry.is_dir():
                outside.append(entry)
                continue
            files = [
                FoundFile(path, _name(path, source), plain_name(entry.name), splits.get(base.name))
                for path in _files_below(entry, (source.resolve(), base.resolve()))
            ]
            found, empty = found + files, empty + (not files)
    if not found:
        raise ValueError(
            f"convert: {source}: expected files in class folders, received none there; in no "
            f"class folder: {listed(path.relative_to(source).as_posix() for path in outside)}"
        )
    left_out = {"in no class folder": len(outside), "class folders without files": empty}
    return found, {reason: count for reason, count in left_out.items() if count}


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
      OSError: it is not there, is no regular file (a pipe would never end), or is too large.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"expected a file, received {what_stands(path)}")
    if (size := path.stat().st_size) > _FILE_BYTES:
        raise OSError(f"a file of {size:,} bytes, at most {_FILE_BYTES:,} are read")
    return path.read_bytes()


def _visible(folder: Path) -> list[Path]:
    # Hidden files, such as macOS's .DS_Store, are no part of a set.
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in _LITTER
    )


def _files_below(folder: Path, above: tuple[Path, ...]) -> list[Path]:
    """All files below a folder, links followed; `above` are the real paths around it."""
    real = folder.resolve()
    if real in above:
        raise ValueError(
            f"convert: {folder}: expected a folder of files, received a link to a folder around "
            "it, which would never end. Remove the link"
        )
    found: list[Path] = []
    for path in _visible(folder):
        found += _files_below(path, (*above, real)) if path.is_dir() else [path]
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
