"""The local cache of shards: fetched whole, checked, bounded, shared by the processes of a host.

A shard appears under its name only when it is whole and as it was built. The first process that
wants it holds a lock on its unfinished file while the others wait. Who reads a shard holds a shared
lock on it (`hold`); what nobody holds is removed, the least recently used first, where room is
needed. The kernel drops the locks of a process that ends in any way.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from records.stores.address import Address
from records.stores.client import Object, StoreError, read

FOLDER_VARIABLE, BYTES_VARIABLE = "RECORDS_LOCAL_CACHE", "RECORDS_LOCAL_CACHE_BYTES"
# As TFDS names its files, whatever their format: name-split.format-00000-of-00008.
SHARD = re.compile(r".+-\d{5}-of-\d{5}$")
_UNFINISHED = ".part"
_PIECE_BYTES = 8 * 2**20  # of one request


def cache_folder() -> Path:
    """Where shards are kept: `--local-cache`, else a folder of the user's cache."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "records-to-models"


def most_bytes() -> int:
    """Bytes of shards that are kept: `--local-cache-bytes`, else half of the disk's free room.

    Raises:
      ValueError: the variable of the environment holds no number.
    """
    named = os.environ.get(BYTES_VARIABLE)
    if named is None:
        used = sum(size for _, size, _ in _kept())
        return (used + shutil.disk_usage(_existing(cache_folder())).free) // 2
    try:
        return int(float(named))
    except (ValueError, OverflowError):
        raise ValueError(
            f"store: ${BYTES_VARIABLE} expected a number of bytes, received {named!r}"
        ) from None


def fetch(path: Path, address: Address, expected: Object, known: dict[str, Any] | None) -> bool:
    """Brings a shard whole to `path` in the cache, unless it is there; False: there is no room.

    `expected` is the object as it was listed, `known` its line of the set's fingerprint.

    Raises:
      StoreError: it cannot be read, or is not the shard that was built.
      FileNotFoundError: it is gone.
    """
    part = path.with_name(path.name + _UNFINISHED)
    with _locked(part) as file:
        if path.exists():  # who held the lock before has brought it
            part.unlink(missing_ok=True)
            return True
        if not _make_room(file, expected.size):
            part.unlink(missing_ok=True)
            return False
        digest = hashlib.sha256()
        for start in range(0, expected.size, _PIECE_BYTES):
            data = read(address, expected, start, min(start + _PIECE_BYTES, expected.size))
            file.write(data)
            digest.update(data)
        file.flush()
        if known and (digest.hexdigest(), expected.size) != (known["sha256"], known["bytes"]):
            part.unlink(missing_ok=True)
            raise StoreError(
                f"store: {address}: expected the shard that was built ({known['bytes']:,} bytes, "
                f"SHA-256 {known['sha256'][:12]}), received {expected.size:,} bytes of "
                f"{digest.hexdigest()[:12]}: it is damaged or of another build. Copy the set there "
                "again; train.run --on-corrupt skip does not take it"
            )
        if known:  # so that the quick comparison need not hash it
            os.utime(part, ns=(time.time_ns(), known["mtime_ns"]))
        fcntl.flock(file, fcntl.LOCK_SH)
        os.replace(part, path)
    return True


def hold(file: BinaryIO) -> None:
    """Keeps an open shard of the cache from being removed until the file is closed."""
    with contextlib.suppress(OSError):  # it is being removed: the open file stays readable
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with contextlib.suppress(OSError):
        # The system itself notes times of access once a day only.
        os.utime(file.fileno(), ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """The unfinished file of a shard, empty, locked against all others."""
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(part, file):
                file.truncate(0)
                yield file
                return
        # It was finished or given up meanwhile, and so is another file by now.


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


def _make_room(file: BinaryIO, size: int) -> bool:
    """Takes `size` bytes for an unfinished file; False where others are in use or the disk full."""
    folder = cache_folder()
    with open(folder / ".lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = sorted(_kept())
        excess = sum(size for _, size, _ in kept) + size - most_bytes()
        for _, other, path in kept:
            if excess <= 0:
                break
            excess -= other if _remove_unused(path) else 0
        if excess > 0:
            return False
        try:
            if size:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            return False
    return True


def _remove_unused(path: str) -> bool:
    """Removes a file of the cache that no process holds; whether it did."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    except OSError:
        return False
    return True


def _kept() -> list[tuple[float, int, str]]:
    """(time of last use, bytes, path) of all shards in the cache, unfinished ones too."""
    found = []
    for folder, _, names in os.walk(cache_folder()):
        for name in names:
            if SHARD.fullmatch(name.removesuffix(_UNFINISHED)):
                with contextlib.suppress(OSError):  # another process removed it
                    status = os.stat(path := os.path.join(folder, name))
                    found.append((status.st_atime, status.st_size, path))
    return found


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
