"""Arrays whose memory TensorFlow uses as it is, batches whose memory is used again, what is free.

A fresh array of some megabytes costs its page faults (0.3 ms and more for 64 pictures), as much
as filling it. A batch that nobody holds any more gives its memory to the next one instead.
"""

import collections
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tensorflow as tf

# Bytes; TensorFlow uses an array's memory as it is only where it begins at such a multiple.
ALIGNMENT = 64
# Smaller arrays come from memory that the C library keeps at hand anyway.
_RECYCLED_BYTES = 2**17
# Batches under way: some on the pool, some that the consumer holds. Of few sizes: inputs, row
# numbers and weights, of training, of validation, and what was before.
_MOST_FREE, _MOST_SIZES = 8, 8

# By the version of Linux's control groups: where they lie, and their files of limit, usage and
# statistics. Of the usage the file cache that nobody reads is given back when memory is asked for.
_ROOTS = (
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)

_free: dict[int, collections.deque[np.ndarray]] = collections.defaultdict(
    lambda: collections.deque(maxlen=_MOST_FREE)
)


def empty_inputs(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array whose memory TensorFlow can share."""
    return _aligned(_allocate(_size(shape, dtype)), shape, dtype)


def recycled_inputs(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The same, in memory of an earlier such array that nobody holds any more, where there is one.

    An array counts as held as long as it, a view of it or a tensor that shares it exists.
    """
    size = _size(shape, dtype)
    if size < _RECYCLED_BYTES:
        return empty_inputs(shape, dtype)
    if size not in _free and len(_free) >= _MOST_SIZES:
        _free.clear()
    free = _free[size]
    try:
        room = free.pop()
    except IndexError:
        room = _allocate(size)
    # NumPy lets every view of `owner` refer to it, and not to `room` behind it, because that is
    # no array to `owner`: it goes when the last view goes.
    owner = np.frombuffer(room.data, np.uint8)
    weakref.finalize(owner, free.append, room).atexit = False
    return _aligned(owner, shape, dtype)


def share(array: np.ndarray) -> tf.Tensor:
    """A tensor in host memory, on the array's own memory where TensorFlow can use that.

    A copy would double the memory of a cache, and read a mapped file whole.
    """
    usable = array.flags.c_contiguous and array.flags.writeable
    with tf.device("/cpu:0"):
        if usable and array.ctypes.data % ALIGNMENT == 0:
            return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
        return tf.convert_to_tensor(array)


def _size(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _allocate(size: int) -> np.ndarray:
    return np.empty(size + ALIGNMENT, np.uint8)


def _aligned(room: np.ndarray, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + _size(shape, dtype)].view(dtype).reshape(shape)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that are free: of the host, or of the control group that limits this process.

    `root` is the folder in which `sys` and `proc` lie.
    """
    free = int(psutil.virtual_memory().available)
    for top, limit, usage, unread in _ROOTS:
        for folder in _groups(root, root / top):
            try:
                # "max" where nothing limits.
                most = int((folder / limit).read_text())
                used = int((folder / usage).read_text())
                lines = (folder / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):
                continue
            cached = sum(int(line.split()[1]) for line in lines if line.split()[0] == unread)
            free = min(free, max(0, most - used + cached))
    return free


def _groups(root: Path, top: Path) -> list[Path]:
    """The folders of this process's own group and those around it; inside a container `top`."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [top]
    found = [top]
    for line in lines:
        # `0::/a/b` of version 2, `4:memory:/a/b` of version 1.
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):
            own = top / path.strip("/")
            found += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return found


def show_bytes(count: float) -> str:
    """`12.3 GiB`."""
    return f"{count / 2**30:,.1f} GiB"
