"""The fingerprint of a prepared set: sizes, times and hashes of its shards.

It is written with the shards as `fingerprint.json`. At the start of a run sizes and times are
compared, which reads no data; a shard whose time differs (a copied directory) is hashed. The value
`content` names the data in run folders: equal content means equal shards and equal features.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from records.sets.hints import rebuild_hint, verify_hint
from records.system.json_file import read_json

FILE_NAME = "fingerprint.json"
ALGORITHM = "sha256"
_HASHED_BYTES = 16 * 2**20
_SHARD = re.compile(r".+-\d{5}-of-\d{5}$")


def write_fingerprint(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Computes the fingerprint of a directory of finished shards and writes it there, atomically.

    Raises:
      ValueError: the directory holds no shards.
    """
    fingerprint = compute_fingerprint(directory)
    path = Path(directory) / FILE_NAME
    temporary = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    temporary.write_text(json.dumps(fingerprint, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return fingerprint


def compute_fingerprint(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads and hashes all shards.

    Returns:
      {"algorithm", "shards": [{"name", "bytes", "mtime_ns", "sha256"}] by name, "content"}.

    Raises:
      ValueError: the directory holds no shards.
    """
    folder = Path(directory)
    paths = _shard_paths(folder)
    # Hashing releases the interpreter's lock, so threads use all cores.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        hashes = list(pool.map(_hash_file, paths))
    shards: list[dict[str, Any]] = []
    for path, sha256 in zip(paths, hashes, strict=True):
        status = path.stat()
        shards.append(
            {
                "name": path.name,
                "bytes": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "sha256": sha256,
            }
        )
    return {"algorithm": ALGORITHM, "shards": shards, "content": _content(folder, shards)}


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
        complete = bool(fits and all(fits)) and type(fingerprint["content"]) is str
        json.dumps(fingerprint, ensure_ascii=False).encode()  # a lone surrogate is no text
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete or fingerprint.get("algorithm") != ALGORITHM:
        raise ValueError(
            f"shards: {path}: expected a JSON object with algorithm {ALGORITHM}, "
            f"shards and content, received something else. {rebuild_hint(directory)}"
        )
    return fingerprint


def check_fingerprint(
    directory: str | os.PathLike[str], *, skip_damaged: bool = False, in_full: bool = False
) -> str:
    """Compares the shards with the stored fingerprint by size and time; returns `content`.

    A shard whose time differs is hashed. Where no fingerprint is stored, it is computed.

    Args:
      directory: the set's.
      skip_damaged: shards may be missing or differ: whoever reads them looks at every record.
      in_full: every shard is hashed.

    Raises:
      ValueError: a shard is missing, was added, or has another size or hash; or the features were
        changed. Names the file, what was expected, what was received and the command that mends.
    """
    folder = Path(directory)
    stored = read_fingerprint(folder)
    if stored is None:
        return str(compute_fingerprint(folder)["content"])
    differing = differing_shards(folder, in_full=in_full)
    for name, (expected, received) in differing.items():
        if not skip_damaged or expected == "no such shard":
            raise _mismatch(folder, name, expected, received)
    if _content(folder, stored["shards"]) != stored["content"]:
        raise _mismatch(folder, "features.json", "the one built with the shards", "another one")
    return str(stored["content"])


def differing_shards(
    directory: str | os.PathLike[str], *, in_full: bool = False
) -> dict[str, tuple[str, str]]:
    """(expected, received) by the name of each shard that is not as it was when it was built.

    Empty where no fingerprint is stored. With `in_full` every shard is hashed, else those whose
    time differs.
    """
    folder = Path(directory)
    stored = read_fingerprint(folder)
    if stored is None:
        return {}
    expected = {s["name"]: s for s in stored["shards"]}
    received = {p.name: p for p in _shard_paths(folder)}
    found: dict[str, tuple[str, str]] = {}
    to_hash = []
    for name in sorted(expected.keys() | received.keys()):
        if name not in received:
            found[name] = "the shard", "none"
        elif name not in expected:
            found[name] = "no such shard", "one"
        else:
            status, size = received[name].stat(), expected[name]["bytes"]
            if status.st_size != size:
                found[name] = f"{size} bytes", f"{status.st_size} bytes"
            if in_full or name in found or status.st_mtime_ns != expected[name]["mtime_ns"]:
                to_hash.append(name)
    by_hash = {s["sha256"]: s["name"] for s in stored["shards"]}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        hashes = pool.map(_hash_file, [received[name] for name in to_hash])
        for name, sha256 in zip(to_hash, hashes, strict=True):
            wanted, other = expected[name]["sha256"], by_hash.get(sha256)
            if other is not None and other != name and sha256 != wanted:
                found[name] = "its own records", f"those of {other}"
            elif sha256 != wanted:
                found.setdefault(name, (f"sha256 {wanted}", f"sha256 {sha256}"))
    return found


def _shard_paths(folder: Path) -> list[Path]:
    """The shards of all splits, by name."""
    paths = sorted(p for p in folder.glob("*-of-*") if _SHARD.fullmatch(p.name))
    if not paths:
        raise ValueError(
            f"shards: {folder}: expected shards (*-00000-of-*), received "
            f"{'none' if folder.is_dir() else 'no such directory'}. {rebuild_hint(folder)}"
        )
    return paths


def _hash_file(path: Path) -> str:
    digest = hashlib.new(ALGORITHM)
    # In large pieces: each takes Python's lock once, which whoever else checks the set holds long.
    with open(path, "rb") as file:
        while piece := file.read(_HASHED_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _content(folder: Path, shards: list[dict[str, Any]]) -> str:
    """Hash over (name, bytes, sha256) of every shard and over features.json."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(f"{shard['name']} {shard['bytes']} {shard['sha256']}\n".encode())
    features = folder / "features.json"
    digest.update(features.read_bytes() if features.is_file() else b"")
    return digest.hexdigest()


def _mismatch(folder: Path, name: str, expected: str, received: str) -> ValueError:
    """The error for a shard or file that is not as it was; names the first damaged record."""
    where = ""
    if expected.startswith(("sha256", "its own")) or expected.endswith("bytes"):
        from records.damage.scan import (
            walk_shard,
        )  # imports TensorFlow, which most callers need not wait for

        scan = walk_shard(str(folder / name), None)
        first = min(scan.damaged, default=None)
        if first is not None:
            where = (
                f" Its first damaged record is number {first} at byte "
                f"{scan.layout.offset[first]}: {scan.damaged[first]}."
            )
    return ValueError(
        f"shards: {folder / name}: expected {expected}, received {received}.{where} "
        f"{verify_hint(folder)} {rebuild_hint(folder)}"
    )
