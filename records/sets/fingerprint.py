"""The fingerprint of a prepared set: sizes, times and hashes of its shards.

It is written with the shards as `fingerprint.json`. At the start of a run sizes and times are
compared, which reads no data; a shard whose time differs (a copied directory) is hashed. The small
files that describe the shards are always hashed. The value `content` names the data in run folders:
equal content means equal shards, features, classes, groups and splits.
"""

import dataclasses
import enum
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from records.sets.description import hash_description
from records.sets.hints import rebuild_hint, verify_hint
from records.stores.cache import SHARD
from records.stores.mirror import fetch_all, place_of, remote_shards, shard_size
from records.system.json_file import read_json
from records.system.threads import ordered_map
from records.system.writing import write_atomically

FILE_NAME = "fingerprint.json"
ALGORITHM = "sha256"


def write_fingerprint(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Computes the fingerprint of a directory of finished shards and writes it there, atomically.

    Raises:
      ValueError: the directory holds no shards.
    """
    fingerprint = compute_fingerprint(directory)
    text = json.dumps(fingerprint, indent=1) + "\n"
    write_atomically(Path(directory) / FILE_NAME, text.encode())
    return fingerprint


def compute_fingerprint(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads and hashes all shards.

    Returns:
      {"algorithm", "shards": [{"name", "bytes", "mtime_ns", "sha256"}] by name, "described":
      {name: sha256} of the files that describe them, "content"}.

    Raises:
      ValueError: the directory holds no shards.
    """
    folder = Path(directory)
    paths = shard_paths(folder)
    fetch_all(paths)
    # Hashing releases the interpreter's lock, so threads use all cores.
    shards = list(ordered_map(_describe_shard, paths))
    described = hash_description(folder)
    return {
        "algorithm": ALGORITHM,
        "shards": shards,
        "described": described,
        "content": _content(shards, described),
    }


def read_fingerprint(directory: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Reads the stored fingerprint; None where the set has none (not one of our builders').

    Raises:
      ValueError: the file is not a fingerprint.
    """
    path = Path(directory) / FILE_NAME
    try:
        fingerprint = read_json(path)
        kinds = {"name": str, "bytes": int, "mtime_ns": int, "sha256": str}
        fits = [type(s[k]) is kind for s in fingerprint["shards"] for k, kind in kinds.items()]
        # `type`, not `isinstance`: JSON's true is an int to Python.
        fits += [type(one) is str for one in fingerprint["described"].values()]
        complete = bool(fits and all(fits)) and type(fingerprint["content"]) is str
        json.dumps(fingerprint, ensure_ascii=False).encode()  # a lone surrogate is no text
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete or fingerprint.get("algorithm") != ALGORITHM:
        raise ValueError(
            f"shards: {path}: expected a JSON object with algorithm {ALGORITHM}, "
            f"shards and content, received something else. {rebuild_hint(directory)}"
        )
    return fingerprint


class Change(enum.Enum):
    """How a file differs from the one that was built."""

    MISSING = enum.auto()
    ADDED = enum.auto()
    SIZE = enum.auto()
    CONTENT = enum.auto()
    SWAPPED = enum.auto()  # it holds the records of another shard of the set
    UNREADABLE = enum.auto()
    DESCRIPTION = enum.auto()  # it is no shard, but says what the shards hold


@dataclasses.dataclass(frozen=True)
class Difference:
    """A file that is not as it was built."""

    change: Change  # in what it differs
    # expected and received: the same for people.
    expected: str
    received: str

    @property
    def is_readable(self) -> bool:
        """The file is a shard, and its records can be looked at one by one."""
        return self.change in (Change.SIZE, Change.CONTENT, Change.SWAPPED)

    @property
    def is_damage(self) -> bool:
        """A look at each record tells what is lost; else the set is another one than was built."""
        return self.change not in (Change.ADDED, Change.DESCRIPTION)


class FingerprintMismatch(ValueError):
    """A set is not the one that was built: the first file that differs, and how."""

    def __init__(self, path: Path, difference: Difference, detail: str = ""):
        self.path, self.difference = path, difference
        mend = verify_hint(path.parent)
        # Neither --repair nor --on-corrupt skip, of which that tells, would take these.
        if difference.change is Change.SWAPPED:
            mend = "Nothing is lost: rename the files."
        elif not difference.is_damage:
            mend = "Put it back as it was."
        super().__init__(
            f"shards: {place_of(path.parent)}/{path.name}: expected {difference.expected}, "
            f"received {difference.received}.{detail} {mend} {rebuild_hint(path.parent)}"
        )


@dataclasses.dataclass(frozen=True)
class CheckedShards:
    """The shards of a set, compared with its stored fingerprint."""

    directory: Path
    # `content` as it was stored with the shards; None where the set has no fingerprint.
    stored: str | None
    differing: Mapping[str, Difference]  # by name, the shards that are not as they were built

    @functools.cached_property
    def content(self) -> str:
        """Names the data; where nothing is stored, all shards are hashed at the first use."""
        return self.stored or str(compute_fingerprint(self.directory)["content"])


def check_shards(
    directory: str | os.PathLike[str], *, skip_damaged: bool = False, in_full: bool = False
) -> CheckedShards:
    """Compares the shards with the stored fingerprint by size and time.

    A shard whose time differs is hashed. Where no fingerprint is stored, nothing is compared.

    Args:
      skip_damaged: shards may be missing or differ: whoever reads them looks at every record.
      in_full: every shard is hashed.

    Raises:
      FingerprintMismatch: a shard is missing, was added, or has another size or hash; or a file
        that describes them was changed. Names the file, what was expected, what was received and
        the command that mends.
      ValueError: there are no shards, or the stored fingerprint is damaged.
    """
    folder = Path(directory)
    stored = read_fingerprint(folder)
    if stored is None:
        shard_paths(folder)
        return CheckedShards(folder, None, {})
    differing = differing_files(folder, in_full=in_full)
    for name, difference in differing.items():
        if not skip_damaged or not difference.is_damage:
            raise FingerprintMismatch(folder / name, difference)
    return CheckedShards(folder, str(stored["content"]), differing)


def differing_files(
    directory: str | os.PathLike[str], *, in_full: bool = False
) -> dict[str, Difference]:
    """How each shard, or file that describes them, differs from the one built, by its name.

    Empty where no fingerprint is stored. With `in_full` every shard is hashed, else those whose
    time or size differs.
    """
    folder = Path(directory)
    stored = read_fingerprint(folder)
    if stored is None:
        return {}
    expected = {s["name"]: s for s in stored["shards"]}
    received = {p.name: p for p in shard_paths(folder)}
    found = _differing_description(folder, stored)
    if in_full:
        fetch_all(received.values())
    to_hash = []
    for name in sorted(expected.keys() | received.keys()):
        if name not in received:
            found[name] = Difference(Change.MISSING, "the shard", "none")
        elif name not in expected:
            found[name] = Difference(Change.ADDED, "no such shard", "one")
        else:
            path, size = received[name], expected[name]["bytes"]
            if shard_size(path) != size:
                found[name] = Difference(Change.SIZE, f"{size} bytes", f"{shard_size(path)} bytes")
            try:
                is_as_built = path.stat().st_mtime_ns == expected[name]["mtime_ns"]
            except FileNotFoundError:  # still in its store: it is hashed when it comes
                continue
            if in_full or name in found or not is_as_built:
                to_hash.append(name)
    # Shards that were renamed to each other: nothing is lost, and the message says so.
    by_hash = {s["sha256"]: s["name"] for s in stored["shards"]}
    hashes = ordered_map(_try_to_hash, [received[name] for name in to_hash])
    for name, sha256 in zip(to_hash, hashes, strict=True):
        wanted = expected[name]["sha256"]
        if isinstance(sha256, OSError):
            found[name] = Difference(Change.UNREADABLE, "the shard", str(sha256.strerror))
            continue
        other = by_hash.get(sha256)
        if sha256 == wanted:
            continue
        if other not in (None, name):
            found[name] = Difference(Change.SWAPPED, "its own records", f"those of {other}")
        elif name not in found:  # a size that differs says more than a hash
            of = f"sha256 {wanted}", f"sha256 {sha256}"
            found[name] = Difference(Change.CONTENT, *of)
    return found


def _differing_description(folder: Path, stored: dict[str, Any]) -> dict[str, Difference]:
    """How the files that describe the shards differ from those that were built with them."""
    built = "the one built with the shards"
    expected, received = stored["described"], hash_description(folder)
    names = sorted(expected.keys() | received.keys())
    found = {
        name: Difference(
            Change.DESCRIPTION,
            built if name in expected else "no such file",
            ("another one" if name in expected else "one") if name in received else "none",
        )
        for name in names
        if expected.get(name) != received.get(name)
    }
    if _content(stored["shards"], expected) != stored["content"]:
        found[FILE_NAME] = Difference(Change.DESCRIPTION, built, "another one")
    return found


def find_shards(folder: Path) -> list[Path]:
    """The shards of all splits, by name; a link that leads nowhere is none."""
    found = {p for p in folder.glob("*-of-*") if SHARD.fullmatch(p.name) and p.exists()}
    return sorted(found | {folder / name for name in remote_shards(folder)})


def shard_paths(folder: Path) -> list[Path]:
    """As `find_shards`.

    Raises:
      ValueError: there are none.
    """
    paths = find_shards(folder)
    if not paths:
        raise ValueError(
            f"shards: {folder}: expected shards (*-00000-of-*), received "
            f"{'none' if folder.is_dir() else 'no such directory'}. {rebuild_hint(folder)}"
        )
    return paths


def _describe_shard(path: Path) -> dict[str, Any]:
    # The time is for the quick comparison, and no part of `content`: a copy is the same data.
    size, mtime_ns = path.stat().st_size, path.stat().st_mtime_ns
    return {"name": path.name, "bytes": size, "mtime_ns": mtime_ns, "sha256": _hash_file(path)}


def _hash_file(path: Path) -> str:
    digest = hashlib.new(ALGORITHM)
    # In large pieces: each takes Python's lock once, which whoever else checks the set holds long.
    with open(path, "rb") as file:
        while piece := file.read(16 * 2**20):
            digest.update(piece)
    return digest.hexdigest()


def _try_to_hash(path: Path) -> str | OSError:
    try:
        return _hash_file(path)
    except OSError as error:
        return error


def _content(shards: list[dict[str, Any]], described: Mapping[str, str]) -> str:
    """Hash over (name, bytes, sha256) of every shard and over what describes them."""
    lines = [f"{shard['name']} {shard['bytes']} {shard['sha256']}\n" for shard in shards]
    lines += [f"{name} {sha256}\n" for name, sha256 in sorted(described.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
