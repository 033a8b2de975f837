"""Reads `.npz` files that may be damaged, or made to do harm.

`numpy.load` believes what a member's header claims, and makes an array of that size before it has
read a byte of it; a compressed member may grow a thousandfold. `numpy.savez`, which wrote all of
ours, compresses nothing: so a member is as large as the bytes it takes in the file, and every claim
can be compared with the file's size first. Nothing is unpickled, and nothing is written to the
disk, whatever the members are called.

So large ones need not be read either: their arrays are mapped (`map_arrays`), and the processes of
a host share them. Their sums are compared once: the time of a file whose sums fit names them.
"""

import contextlib
import io
import math
import mmap
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from records.system.writing import appears_whole

_SUFFIX = ".npy"
_ALIGNMENT = 64  # bytes at which an array begins: a line of the cache, and TensorFlow's own
_LOCAL_HEADER = 30  # bytes in front of a member's name, and behind it what `_padding` fills
_ZIP64_EXTRA = 20  # bytes: a tag, its length, and the two sizes of 8 bytes each
_MOST_HEADER = 2**16  # bytes of an array's header


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file that `numpy.savez` wrote, by name, whole and with matching sums.

    Raises:
      ValueError: the file is damaged, compressed, or claims more than it holds.
      OSError: it cannot be read.
    """
    with _opened(path) as (archive, _):
        return {m.filename.removesuffix(_SUFFIX): _read(archive, m) for m in archive.infolist()}


def map_arrays(path: str | os.PathLike[str], *, in_full: bool = False) -> dict[str, np.ndarray]:
    """The same arrays, of one dimension at most, mapped into memory and read-only.

    The sums are compared where the file's time does not name them (a copy, or one that was
    changed), or with `in_full`. That reads the file once, and marks it where it may.

    Raises:
      ValueError, OSError: as `read_arrays`.
    """
    with _opened(path) as (archive, file):
        members = archive.infolist()
        marked = os.fstat(file.fileno()).st_mtime_ns % 10**9 == _microseconds(members) * 1000
        if in_full or not marked:
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"{damaged!r} with another sum than it was written with")
            with contextlib.suppress(OSError):  # another's file, or a disk that is read-only
                _mark(file.fileno(), members)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return {m.filename.removesuffix(_SUFFIX): _view(data, m) for m in members}


def release(array: Any) -> None:
    """Takes the pages of a mapped file out of this process's memory; the system's cache keeps them.

    Args:
      array: one that `map_arrays` gave; of any other nothing happens.
    """
    mapping: Any = array
    while isinstance(mapping, np.ndarray):
        mapping = mapping.base
    mapping = getattr(mapping, "obj", None)  # NumPy refers to a mapping by a view of its memory
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a file for both, whole or not at all: as `numpy.savez`, and each array aligned.

    Equal arrays give equal bytes. No array is held a second time.
    """
    with appears_whole(path) as temporary, open(temporary, "w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                member = zipfile.ZipInfo(name + _SUFFIX)
                member.extra = _padding(file.tell(), member.filename)
                with archive.open(member, "w", force_zip64=True) as out:
                    np.lib.format.write_array(out, np.asanyarray(array), allow_pickle=False)
        file.flush()
        _mark(file.fileno(), archive.infolist())


def _padding(at: int, name: str) -> bytes:
    """An extra field, which readers pass over, so that the member's data begin aligned."""
    start = at + _LOCAL_HEADER + len(name) + _ZIP64_EXTRA + 4
    fill = -start % _ALIGNMENT
    # A tag that no known extra field has.
    return struct.pack("<HH", 0xFFFF, fill) + bytes(fill)


def _mark(file: int, members: Sequence[zipfile.ZipInfo]) -> None:
    """Lets the microseconds of the file's time name the sums of its members.

    Whoever writes into the file, or copies it, gives it another time. As with shards, whose size
    and time are compared at a start.
    """
    now = int(time.time()) * 10**9 + _microseconds(members) * 1000
    os.utime(file, ns=(now, now))


def _microseconds(members: Sequence[zipfile.ZipInfo]) -> int:
    named = [(m.filename, m.header_offset, m.file_size, m.CRC) for m in members]
    return zlib.crc32(repr(named).encode()) % 10**6


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[zipfile.ZipFile, Any]]:
    """(archive of plausible members, its file); damage in the block becomes a ValueError."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            _check_sizes(archive.infolist(), os.fstat(file.fileno()).st_size)
            yield archive, file
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
        shape, order, dtype = _read_header(file)
        size = math.prod(shape) * dtype.itemsize
        left = member.file_size - file.tell()
        # Before what the header claims is allocated.
        if min(shape, default=0) < 0 or size != left:
            raise ValueError(f"{left:,} bytes for {member.filename!r}, which claims {size:,}")
        data = bytearray(file.read())  # at its end the sum is compared
    return np.frombuffer(data, dtype, math.prod(shape)).reshape(shape, order=order)


def _view(data: mmap.mmap, member: zipfile.ZipInfo) -> np.ndarray:
    at = member.header_offset
    name, extra = struct.unpack("<HH", data[at + _LOCAL_HEADER - 4 : at + _LOCAL_HEADER])
    at += _LOCAL_HEADER + name + extra
    header = io.BytesIO(data[at : at + min(_MOST_HEADER, member.file_size)])
    shape, _, dtype = _read_header(header)
    size, left = math.prod(shape) * dtype.itemsize, member.file_size - header.tell()
    if len(shape) > 1 or min(shape, default=0) < 0 or size != left:
        raise ValueError(f"{left:,} bytes for {member.filename!r} of shape {shape}")
    return np.frombuffer(data, dtype, math.prod(shape), at + header.tell()).reshape(shape)


def _read_header(file: Any) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype]:
    """(shape, order in memory, dtype)."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # what 3.0 adds are names of fields beyond Latin-1
        raise ValueError(f"arrays of format {version}")
    if dtype.hasobject:
        raise ValueError("Python objects, which only a pickle could hold")
    return shape, "F" if is_fortran else "C", dtype
