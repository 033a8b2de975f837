"""Reads `.npz` files that may be damaged, or made to do harm.

`numpy.load` believes what a member's header claims, and makes an array of that size before it has
read a byte of it; a compressed member may grow a thousandfold. `numpy.savez`, which wrote all of
ours, compresses nothing: so a member is as large as the bytes it takes in the file, and every claim
can be compared with the file's size first. Nothing is unpickled, and nothing is written to the
disk, whatever the members are called.
"""

from __future__ import annotations

import math
import os
import zipfile
from typing import Any

import numpy as np

_SUFFIX = ".npy"


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file that `numpy.savez` wrote, by name, whole and with matching sums.

    Raises:
      ValueError: the file is damaged, compressed, or claims more than it holds.
      OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_sizes(members, os.path.getsize(path))
            return {m.filename.removesuffix(_SUFFIX): _read(archive, m) for m in members}
    except OSError:
        raise
    except Exception as error:  # NumPy and zipfile raise some ten kinds for damaged bytes
        raise ValueError(
            f"file: {os.fspath(path)}: expected arrays as numpy.savez writes them, received "
            f"{error or type(error).__name__}"
        ) from None


def _check_sizes(members: list[zipfile.ZipInfo], file_bytes: int) -> None:
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"a compressed member, {member.filename!r}")
    claimed = sum(member.file_size for member in members)
    if claimed > file_bytes:  # members may lie on top of each other
        raise ValueError(f"members of {claimed:,} bytes in a file of {file_bytes:,}")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        shape, dtype = _read_header(file)
        size = math.prod(shape) * dtype.itemsize
        left = member.file_size - file.tell()
        # Before `read_array`, which allocates what the header claims.
        if min(shape, default=0) < 0 or size != left:
            raise ValueError(f"{left:,} bytes for {member.filename!r}, which claims {size:,}")
        file.seek(0)
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # at its end the sum is compared
    return array


def _read_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # what 3.0 adds are names of fields beyond Latin-1
        raise ValueError(f"arrays of format {version}")
    if dtype.hasobject:
        raise ValueError("Python objects, which only a pickle could hold")
    return shape, dtype
