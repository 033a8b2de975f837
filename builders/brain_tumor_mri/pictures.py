"""Finds, checks and groups the pictures of the source folders."""

import functools
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from builders.writing import Here, SourcedKey
from records.decoding import pixels
from records.system.places import what_stands
from records.system.threads import ordered_map

FOLDERS = ("Training", "Testing")
LABEL_NAMES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")

_PLACE = "builders/brain_tumor_mri"


@dataclass(frozen=True)
class Picture:
    """A checked picture file."""

    filename: str  # path relative to the source folder, with `/`; unique
    label: int  # number into LABEL_NAMES
    # height, width, is_grey, pixel_hash: see `records.decoding.pixels.PictureFacts`.
    height: int
    width: int
    is_grey: bool
    pixel_hash: str
    # Number of its near-copy group, from the group's smallest pixel hash; equal pictures are in
    # one group. The same for the same pictures, whatever the config.
    group: int
    first: int  # number of the first file with the same pixels, in the order of names

    @property
    def is_testing(self) -> bool:
        """Whether the file stands in the folder Testing."""
        return self.filename.startswith("Testing/")


def read_pictures(source: Path, workers: Any = None) -> list[Picture]:
    """Lists, decodes and groups all pictures, in the order of their names.

    With a `BeamRun` for `workers` its workers decode them and find copies.

    Raises:
      ValueError: the folders are not as expected, or a file is no complete JPEG picture.
    """
    files = list_files(source)
    # Here threads, not processes: Pillow and hashing release the interpreter's lock (5.7 s against
    # 4.1 s for 3264 pictures on 2 cores), and forking with TensorFlow loaded can hang.
    workers = workers or Here(ordered_map)
    found = workers.map(functools.partial(_read_facts, source), files)
    shown = {"desc": "Checking pictures", "unit": " files", "total": len(files)}
    facts: list[pixels.PictureFacts] = list(tqdm(found, leave=False, **shown))
    firsts = workers.first_equal(f.pixel_hash for f in facts)
    groups = _groups(facts, firsts)
    return [
        Picture(
            filename=name,
            label=LABEL_NAMES.index(name.split("/")[1]),
            height=f.height,
            width=f.width,
            is_grey=f.is_grey,
            pixel_hash=f.pixel_hash,
            group=group,
            first=int(first),
        )
        for name, f, group, first in zip(files, facts, groups, firsts, strict=True)
    ]


def make_example(picture: Picture, source: Path) -> tuple[str, dict[str, Any]]:
    """(key, example) of a checked picture below `source`."""
    path = source / picture.filename
    return SourcedKey(picture.filename, str(path)), {
        # The file's own bytes: encoding anew would change pixels. TFDS passes file objects through.
        "image": io.BytesIO(path.read_bytes()),
        "label": picture.label,
        "filename": picture.filename,
        "height": picture.height,
        "width": picture.width,
        "is_grey": picture.is_grey,
        "pixel_hash": picture.pixel_hash,
        "group": picture.group,
    }


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


def _groups(facts: list[pixels.PictureFacts], firsts: Sequence[int]) -> list[int]:
    """The near-copy group of each picture; computed once per distinct picture."""
    # By hash, so that the first of a group is its smallest hash.
    distinct = sorted({*firsts}, key=lambda n: facts[n].pixel_hash)
    roots = pixels.group_near_copies(np.stack([facts[n].thumbnail for n in distinct]))
    # 60 bits of the hash: a number that fits int64, without a sign.
    group = {n: int(facts[distinct[i]].pixel_hash[:15], 16) for n, i in zip(distinct, roots)}
    return [group[n] for n in firsts]
