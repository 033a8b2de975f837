"""Finds, checks and groups the pictures of the source folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from records.decoding import pixels
from records.system.places import what_stands
from records.system.threads import ordered_map

FOLDERS = ("Training", "Testing")
LABEL_NAMES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")

_PLACE = "builders/brain_tumor_mri"


@dataclass(frozen=True)
class Picture:
    """A checked picture file.

    Attributes:
      filename: path relative to the source folder, with `/`; unique.
      label: number into LABEL_NAMES.
      height, width, is_grey, pixel_hash: see `records.decoding.pixels.PictureFacts`.
      group: number of its near-copy group, from the group's smallest pixel hash; equal pictures
        are in one group. The same for the same pictures, whatever the config.
    """

    filename: str
    label: int
    height: int
    width: int
    is_grey: bool
    pixel_hash: str
    group: int

    @property
    def is_testing(self) -> bool:
        """Whether the file stands in the folder Testing."""
        return self.filename.startswith("Testing/")


def read_pictures(source: Path) -> list[Picture]:
    """Lists, decodes and groups all pictures, in the order of their names.

    Raises:
      ValueError: the folders are not as expected, or a file is no complete JPEG picture.
    """
    files = list_files(source)
    # Threads, not processes: Pillow and hashing release the interpreter's lock (5.7 s against
    # 4.1 s for 3264 pictures on 2 cores), and forking with TensorFlow loaded can hang.
    found = ordered_map(lambda name: _read_facts(source, name), files)
    shown = {"desc": "Checking pictures", "unit": " files", "total": len(files)}
    facts: list[pixels.PictureFacts] = list(tqdm(found, leave=False, **shown))
    groups = _groups(facts)
    return [
        Picture(
            filename=name,
            label=LABEL_NAMES.index(name.split("/")[1]),
            height=f.height,
            width=f.width,
            is_grey=f.is_grey,
            pixel_hash=f.pixel_hash,
            group=group,
        )
        for name, f, group in zip(files, facts, groups, strict=True)
    ]


def list_files(source: Path) -> list[str]:
    """Paths of all picture files below `source`, relative, with `/`, sorted.

    Raises:
      ValueError: a class folder is missing, unknown or empty, or a file has another suffix.
    """
    files: list[str] = []
    for folder in FOLDERS:
        # Hidden files, such as macOS's .DS_Store, are no part of a set.
        names = sorted(p.name for p in (source / folder).iterdir() if p.name[0] != ".")
        if names != list(LABEL_NAMES):
            raise ValueError(
                f"{_PLACE}: {source / folder}: expected the folders {', '.join(LABEL_NAMES)}, "
                f"received {', '.join(names) or 'an empty folder'}"
            )
        for name in names:
            if not (source / folder / name).is_dir():
                raise ValueError(
                    f"{_PLACE}: {source / folder / name}: expected a folder, received "
                    f"{what_stands(source / folder / name)}"
                )
            found = sorted(p.name for p in (source / folder / name).iterdir() if p.name[0] != ".")
            if not found:
                raise ValueError(
                    f"{_PLACE}: {source / folder / name}: expected .jpg files, received none"
                )
            for file in found:
                path = source / folder / name / file
                _check_name(path, f"{folder}/{name}/{file}")
                if Path(file).suffix.lower() not in (".jpg", ".jpeg") or not path.is_file():
                    raise ValueError(
                        f"{_PLACE}: {path}: expected a .jpg file, received {what_stands(path)} "
                        f"named *{path.suffix}"
                    )
                files.append(f"{folder}/{name}/{file}")
    return files


def _check_name(path: Path, stored: str) -> None:
    """Raises ValueError for a name that is no UTF-8, which no record could hold as text."""
    try:
        stored.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{_PLACE}: expected file names in UTF-8, received {os.fsencode(path)!r}. Rename the "
            "file, for instance with: convmv -f latin1 -t utf8 --notest FILE"
        ) from None


def _read_facts(source: Path, name: str) -> pixels.PictureFacts:
    path = source / name
    try:
        return pixels.read_facts(path.read_bytes(), str(path))
    except ValueError as error:
        raise ValueError(
            f"{_PLACE}: {error}. Download the set again, or remove the file from it"
        ) from None


def _groups(facts: list[pixels.PictureFacts]) -> list[int]:
    """The near-copy group of each picture; computed once per distinct picture."""
    distinct = {f.pixel_hash: f.thumbnail for f in facts}
    hashes = sorted(distinct)  # so that the first of a group is its smallest hash
    first = pixels.group_near_copies(np.stack([distinct[h] for h in hashes]))
    # 60 bits of the hash: a number that fits int64, without a sign.
    number = {h: int(hashes[i][:15], 16) for h, i in zip(hashes, first)}
    return [number[f.pixel_hash] for f in facts]
