"""A set in a store as a local folder: metadata and indexes are there, shards come when needed.

The folder's path holds the address, and a hash of what the store listed (names, sizes, tags): a set
that was replaced is another folder, so nothing of two sets is mixed. Everything that reads a set
reads this folder. Only `OpenFiles` and the readers of whole shards ask here first.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from records.stores import cache
from records.stores.address import Address
from records.stores.cache import SHARD
from records.stores.client import Object, list_folder, read
from records.system.json_file import read_json
from records.system.threads import ordered_map
from records.system.writing import write_atomically

INFO = "dataset_info.json"
_FILE = ".store.json"
_SMALL = (".json", ".txt", ".index.npz")
_AT_ONCE = 16  # small files
SHARDS_AT_ONCE = 4
_held: dict[str, Any] = {}  # shards that were fetched for a command that reads them all


def list_sets(root: Address, depth: int = 3) -> dict[str, dict[str, Object]]:
    """The sets below an address, `depth` folders deep: {path below it: objects}; "" is itself.

    Raises:
      StoreError: the store refuses, or does not answer.
    """
    if root.scheme in ("http", "https"):
        objects = _list_web(root)
        return {"": objects} if objects else {}
    folders, objects = list_folder(root)
    if INFO in objects:
        return {"": objects}
    if not depth:
        return {}
    unfinished = ("incomplete.", "replaced.", ".")
    inner = [name for name in folders if not name.startswith(unfinished)]
    found: dict[str, dict[str, Object]] = {}
    below = ordered_map(lambda name: list_sets(root / name, depth - 1), inner, _AT_ONCE)
    for name, sets in zip(inner, below, strict=True):
        found |= {f"{name}/{path}".rstrip("/"): one for path, one in sets.items()}
    return found


def _list_web(root: Address) -> dict[str, Object]:
    """The objects of a set behind https, which cannot be listed: its fingerprint names them."""
    try:
        info, stored = read(root / INFO, None), read(root / "fingerprint.json", None)
    except FileNotFoundError:
        return {}
    try:
        splits = [s["name"] for s in json.loads(info)["splits"]]
        fingerprint = json.loads(stored)
        # The fingerprint, hashed, stands for the tags that are not known.
        tag = hashlib.sha256(stored).hexdigest()[:16]
        shards = {s["name"]: Object(s["bytes"], None) for s in fingerprint["shards"]}
        described = {*fingerprint["described"], INFO, "fingerprint.json", "metadata.json"}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"store: {root}: expected metadata of a prepared set") from None
    small = {name: Object(-1, tag) for name in described}
    return shards | small | {f"{s}.index.npz": Object(-1, tag) for s in splits}


def mirror(address: Address, objects: Mapping[str, Object]) -> str:
    """The local folder of a set in a store; what is not a shard is fetched.

    Raises:
      StoreError, FileNotFoundError: an object cannot be read.
    """
    files = {name: one for name, one in sorted(objects.items()) if _is_wanted(name)}
    listed = {name: [one.size, one.tag] for name, one in files.items()}
    told = json.dumps({"url": str(address), "files": listed}, indent=1)
    identity = hashlib.sha256(told.encode()).hexdigest()[:16]
    folder = cache.cache_folder() / identity / address.scheme / address.bucket / address.key
    if (folder / _FILE).is_file():
        return str(folder)  # written last
    folder.mkdir(parents=True, exist_ok=True)
    small = [name for name in files if not SHARD.fullmatch(name)]

    def bring(name: str) -> None:
        expected = files[name] if files[name].size >= 0 else None
        with contextlib.nullcontext() if expected else contextlib.suppress(FileNotFoundError):
            write_atomically(folder / name, read(address / name, expected))

    for _ in ordered_map(bring, small, _AT_ONCE):
        pass
    write_atomically(folder / _FILE, told.encode())
    return str(folder)


def _is_wanted(name: str) -> bool:
    return SHARD.fullmatch(name) is not None or (name.endswith(_SMALL) and name[:1] != ".")


@functools.lru_cache(maxsize=256)
def _manifest(folder: str) -> tuple[Address, dict[str, Object], dict[str, Any]] | None:
    """(address, objects, lines of the fingerprint by shard) of a mirror; None of another folder."""
    if not os.path.isfile(os.path.join(folder, _FILE)):
        return None
    from records.stores.address import parse_address

    stored = read_json(Path(folder) / _FILE)
    objects = {name: Object(size, tag) for name, (size, tag) in stored["files"].items()}
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        shards = read_json(Path(folder) / "fingerprint.json")["shards"]
        known = {s["name"]: s for s in shards if {"sha256", "bytes", "mtime_ns"} <= s.keys()}
    return parse_address(stored["url"], "mirror"), objects, known


def address_of(folder: str | os.PathLike[str]) -> str | None:
    """The address of which a folder is the mirror; None of any other folder."""
    found = _manifest(os.fspath(folder))
    return None if found is None else str(found[0])


def place_of(folder: str | os.PathLike[str]) -> str:
    """Where a set lies: its address, or the folder itself."""
    return address_of(folder) or os.fspath(folder)


def remote_shards(folder: str | os.PathLike[str]) -> list[str]:
    """The names of the shards of a mirror, whether or not they are here; [] of another folder."""
    found = _manifest(os.fspath(folder))
    return [] if found is None else [name for name in found[1] if SHARD.fullmatch(name)]


def shard_size(path: str | os.PathLike[str]) -> int:
    """Bytes of a shard, here or in its store; 0 for one that is missing."""
    try:
        return os.stat(path).st_size
    except OSError:
        found = _object(path)
        return 0 if found is None else found[1].size


def _object(path: str | os.PathLike[str]) -> tuple[Address, Object, Any] | None:
    folder, name = os.path.split(os.fspath(path))
    found = _manifest(folder)
    if found is None or name not in found[1]:
        return None
    return found[0] / name, found[1][name], found[2].get(name)


def object_of(path: str | os.PathLike[str]) -> tuple[Address, Object] | None:
    """The object of a mirror's shard; None of any other file."""
    found = _object(path)
    return None if found is None else found[:2]


def fetch(path: str | os.PathLike[str]) -> bool:
    """Brings a shard of a mirror whole; False where it is none, or where there is no room.

    Raises:
      StoreError, FileNotFoundError: as `cache.fetch`.
    """
    found = _object(path)
    return found is not None and cache.fetch(Path(path), *found)


def fits(paths: Iterable[str]) -> bool:
    """Whether the cache may hold all these shards together."""
    return sum(shard_size(path) for path in paths) <= cache.most_bytes()


def fetch_all(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Brings shards whole, and keeps them until this process ends; of no mirror: does nothing.

    Raises:
      ValueError: the cache has no room for all of them.
      StoreError, FileNotFoundError: as `cache.fetch`.
    """
    named = [os.fspath(path) for path in paths]
    wanted = [path for path in named if path not in _held and object_of(path) is not None]

    def bring(path: str) -> None:
        if not os.path.exists(path) and not fetch(path):
            size = sum(shard_size(one) for one in wanted)
            raise ValueError(
                f"store: {place_of(os.path.dirname(path))}: expected room for {size:,} bytes of "
                f"shards in {cache.cache_folder()}, received {cache.most_bytes():,}: this reads "
                "all of them. Raise --local-cache-bytes, or name a larger disk with --local-cache"
            )
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - held until the process ends
        cache.hold(file)
        _held[path] = file

    for _ in ordered_map(bring, wanted, SHARDS_AT_ONCE):
        pass


def let_go() -> None:
    """Lets the cache remove what `fetch_all` has kept."""
    while _held:
        _held.popitem()[1].close()
