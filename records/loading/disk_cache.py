"""The `disk` cache level: decoded splits as files beside the shards, mapped into memory.

`<set>/decoded/<split>-<key>.npy` holds the inputs [N, ...] of one split. The key is a hash of
everything that shaped them: content of the shards, feature, shape, dtype, vocabulary, version of
the decoder. So a stale file is never opened, and another picture size is another file. A file
appears under its name only when it is whole and on the disk. Remove the folder to free the space.
"""

import contextlib
import hashlib
import mmap
import os
import secrets
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from records.sets.schema import Schema

FOLDER = "decoded"
# Changes when the file does: what it holds and where. What the pixels depend on is in
# `records.roles.Data.content_key`.
_LAYOUT = 3
_SPARE_BYTES = 2**30  # left free on the disk


def cache_path(schema: Schema, split: str, content_key: str) -> Path:
    """Where a split's decoded inputs lie, whether or not they are there.

    Args:
      content_key: all that shapes the inputs: the shards, and how they are decoded.
    """
    key = hashlib.sha256(f"{_LAYOUT}\n{split}\n{content_key}".encode()).hexdigest()
    return Path(schema.directory) / FOLDER / f"{split}-{key[:16]}.npy"


def open_stored(path: Path, shape: tuple[int, ...], dtype: Any, mapped: bool) -> np.ndarray | None:
    """The stored inputs: mapped into memory, or read whole; None where there are none that fit.

    The mapping is private ("c"): nothing written to the array reaches the file, and TensorFlow
    can share its memory, which it does not with a read-only one.
    """
    try:
        # Mapped first in any case: what a damaged header claims must not become an allocation.
        stored = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception:  # missing, or damaged, for which NumPy has some ten kinds of error
        return None  # it is decoded anew
    # The key should rule this out; a file put there by hand is not trusted.
    if stored.shape != shape or stored.dtype != dtype or not stored.flags.c_contiguous:
        return None
    if not mapped:
        return np.array(stored)
    _read_ahead(stored)
    return stored


def write(
    path: Path, shape: tuple[int, ...], dtype: Any, fill: Callable[[np.ndarray], Any]
) -> np.ndarray:
    """Lets `fill` decode into a new file and maps it, once it is whole, under its name.

    Raises:
      OSError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    # Folders may be shared by hosts and containers, and two threads may write the same file.
    owner = f"{socket.gethostname()}.{secrets.token_hex(4)}.{os.getpid()}"
    temporary = path.with_name(f".{path.name}.{owner}")
    try:
        path.parent.mkdir(exist_ok=True)
        _remove_unfinished(path.parent)  # first, because it makes room
        check_space(path.parent, size)
        out = np.lib.format.open_memmap(temporary, "w+", dtype=dtype, shape=shape)
        # Space is taken now: a write into a mapping of a full disk would kill the process.
        with open(temporary, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(temporary))
        fill(out)
        out.flush()
        del out
        # Two that wrote the same file wrote the same bytes: the later one wins.
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(
                f"input: {path.parent}: expected a folder with room for {size:,} "
                f"bytes that can be written, received: {error.strerror or error}. Choose "
                "--cache memory or --cache none"
            ) from error
        raise
    stored = open_stored(path, shape, dtype, mapped=True)
    assert stored is not None
    return stored


def check_space(folder: Path, size: int) -> None:
    """Raises OSError where `size` bytes would not leave a GiB free in an existing folder."""
    free = shutil.disk_usage(folder).free
    if size + _SPARE_BYTES > free:
        raise OSError(f"{free:,} bytes free, {_SPARE_BYTES:,} of which are left alone")


def has_space(directory: str, size: int) -> bool:
    """Whether a cache of `size` bytes could be written beside the shards."""
    try:
        check_space(Path(directory), size)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


def _remove_unfinished(folder: Path) -> None:
    """Removes what killed processes of this host left unfinished."""
    for file in folder.glob(f".*.npy.{socket.gethostname()}.*"):
        owner = file.name.rsplit(".", 1)[1]
        # A process number may be in use again: then the file stays until the next start.
        if not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
            file.unlink(missing_ok=True)


def _read_ahead(stored: np.ndarray) -> None:
    """Asks the system to read the file ahead, and to map it in large steps."""
    mapping: Any = stored.base  # NumPy's own stubs know arrays only
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        mapping.madvise(mmap.MADV_WILLNEED)
