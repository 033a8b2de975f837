"""The copy of a run folder in an object store: whole or absent, whatever happens to its writer.

Objects have the names of the files. The keys of what a run goes on from, checkpoints and settings,
also tell their content: a new one never takes the place of another. `run.json` names every file
with its bytes and SHA-256, and is written last: who reads a run takes nothing that it does not
name. Logs for TensorBoard stand beside it.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from records.stores.address import Address
from records.stores.cache import cache_folder
from records.stores.client import Object, StoreError, delete, list_below, read, write
from records.stores.upload import write_all
from records.system.threads import ordered_map
from records.system.writing import appears_whole
from train.folders.stored_config import FILE_NAME

MANIFEST = "run.json"
CHECKPOINTS = "checkpoints"
_PIECE_BYTES = 8 * 2**20
_AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A file of a run in a store: the end of its key, its bytes, their SHA-256."""

    key: str
    bytes: int
    sha256: str


Manifest = dict[str, StoredFile]


def read_manifest(address: Address) -> Manifest:
    """The files of a run in a store, by name; {} where there is no whole run.

    Raises:
      StoreError: the store refuses, or does not answer.
      ValueError: the object is none that a run writes.
    """
    try:
        stored = read(address / MANIFEST, None)
    except FileNotFoundError:
        return {}
    try:
        return unpack(json.loads(stored)["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"run folder: {address / MANIFEST} expected the list of a run's files, received "
            f"something else ({type(error).__name__}). Name another --run-dir"
        ) from None


def unpack(stored: Mapping[str, Mapping[str, str | int]]) -> Manifest:
    """A manifest from JSON.

    Raises:
      ValueError, TypeError, AttributeError: it is none.
    """
    found = {name: StoredFile(**one) for name, one in stored.items()}  # type: ignore[arg-type]
    for name, one in found.items():
        for path in (PurePosixPath(name), PurePosixPath(one.key)):
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(name)
        if (type(one.bytes), type(one.sha256)) != (int, str):
            raise ValueError(name)
    return found


def pack(manifest: Manifest) -> dict[str, dict[str, str | int]]:
    """A manifest for JSON."""
    return {name: dataclasses.asdict(one) for name, one in sorted(manifest.items())}


def download(address: Address, manifest: Manifest, folder: Path, names: Iterable[str]) -> None:
    """Brings files of a run into a folder; each appears whole, and as it was written.

    Raises:
      StoreError, FileNotFoundError: one cannot be read, or is another one than the list says.
    """

    def bring(name: str) -> None:
        one, digest = manifest[name], hashlib.sha256()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with appears_whole(folder / name) as temporary, open(temporary, "wb") as file:
            for start in range(0, one.bytes, _PIECE_BYTES):
                end = min(start + _PIECE_BYTES, one.bytes)
                data = read(address / one.key, Object(one.bytes, None), start, end)
                file.write(data)
                digest.update(data)
            if digest.hexdigest() != one.sha256:
                raise StoreError(
                    f"store: {address / one.key}: expected SHA-256 {one.sha256[:12]}, received "
                    f"{digest.hexdigest()[:12]}: the run writes it at this moment, or it is "
                    "damaged. Nothing of it was used: try again"
                )

    for _ in ordered_map(bring, names, _AT_ONCE):
        pass


def upload(
    address: Address,
    known: list[Manifest],
    keep: Callable[[list[Manifest]], None],
    files: Mapping[str, tuple[BinaryIO, str]],
    logs: Mapping[str, BinaryIO],
) -> None:
    """Brings a run in a store to what its folder holds now.

    Args:
      known: what may stand there; at the end what does.
      keep: stores `known` on this machine, before one of them may stand there.
      files: all files of the folder, with their SHA-256.
      logs: those of TensorBoard that changed; they belong to no list.

    Raises:
      StoreError: something is not taken; or another process writes to the same place.
    """
    there = read_manifest(address)
    if there not in known:
        raise StoreError(
            f"store: {address}: expected the run as this process left it, received another state: "
            "another process trains there. Let one of them end, and give its command again"
        )

    def put_manifest(manifest: Manifest) -> None:
        known.append(manifest)
        keep(known)  # an answer may be lost: it stands there, or it does not
        write(address / MANIFEST, (json.dumps({"files": pack(manifest)}, indent=1) + "\n").encode())

    write_all(address, logs)
    found = {n: _describe(n, file, sha256) for n, (file, sha256) in files.items()}
    changed = [name for name, one in found.items() if there.get(name) != one]
    if found != there:
        # A list never names an object whose content is not its own, were it for a moment.
        touched = {found[name].key for name in changed}
        still = {name: one for name, one in there.items() if one.key not in touched}
        if still != there:
            put_manifest(still)
        write_all(address, {found[name].key: files[name][0] for name in changed})
        put_manifest(found)
        # Also what a process that was killed has brought before the list.
        old = {one.key for one in there.values()}
        old |= {f"{CHECKPOINTS}/{name}" for name in list_below(address / CHECKPOINTS)}
        left = sorted(old - {one.key for one in found.values()})
        try:
            for key in left:
                delete(address / key)
        except StoreError as error:  # nothing is lost, and the next upload tries again
            print(f"note: old checkpoints stay: {error}", file=sys.stderr, flush=True)
    known[:] = [found]
    keep(known)


def fetch_run(address: Address) -> Path:
    """A folder of this machine with the files of a run in a store, all but its checkpoints.

    Raises:
      FileNotFoundError: there is no whole run.
      StoreError: the store refuses, or does not answer, or the run is written at this moment.
    """
    manifest = read_manifest(address)
    if not manifest:
        raise FileNotFoundError(
            f"run folder: {address} expected a run folder, received none: there is no {MANIFEST}"
        )
    # Of this state alone: who reads an older one is not disturbed.
    folder = local_folder(address, json.dumps(pack(manifest)))
    folder /= address.key.rpartition("/")[2] or address.bucket
    names = [name for name in manifest if PurePosixPath(name).parts[0] != CHECKPOINTS]
    download(address, manifest, folder, (n for n in names if not (folder / n).exists()))
    return folder


def local_folder(address: Address, content: str) -> Path:
    """Where this machine keeps files of a run in a store; `content` tells several apart."""
    digest = hashlib.sha256(f"{address} {content}".encode()).hexdigest()[:16]
    return cache_folder() / "runs" / digest


def _describe(name: str, file: BinaryIO, sha256: str) -> StoredFile:
    path = PurePosixPath(name)
    if path.parts[0] in (CHECKPOINTS, FILE_NAME):
        path = path.with_name(f"{path.stem}-{sha256[:12]}{path.suffix}")
    return StoredFile(str(path), file.seek(0, 2), sha256)
