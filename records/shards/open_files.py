"""Shards that are kept open: of all readers of the process together no more than a bound.

A set may have more shards than a process may open files, and a run has a reader for each split.
"""

import collections
import errno
import itertools
import resource
import threading
import weakref
from typing import Any

from records.stores import cache, mirror

# By reader and path, the least recently used first. A file that is dropped while a thread reads
# from it stays open until that thread lets it go: nothing is closed by hand.
_files: collections.OrderedDict[tuple[int, str], Any] = collections.OrderedDict()
# Reentrant: the garbage collector may drop a reader while this thread holds the lock.
_lock = threading.RLock()
_readers = itertools.count()
_TOO_MANY = (errno.EMFILE, errno.ENFILE)
_SHARE = 4  # of the files that the process may open; the others are TensorFlow's and the logs'


class OpenFiles:
    """The files of one reader; any thread may use it."""

    def __init__(self) -> None:
        """Opens nothing."""
        self._reader = next(_readers)
        weakref.finalize(self, _drop, self._reader)

    def get(self, path: str) -> Any:
        """The open file: hold it while you read from its `fileno`.

        None for a shard of a store that is not in the local cache.

        Raises:
          OSError: it cannot be opened.
        """
        key = self._reader, path
        with _lock:
            file = _files.pop(key, None) or _open_with_room(path)
            if file is None:
                return None
            _files[key] = file
            while len(_files) > _most():
                _files.popitem(last=False)
            return file


def _most() -> int:
    """Files that are kept open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(soft, 4096) // _SHARE)


def _drop(reader: int) -> None:
    with _lock:
        for key in [key for key in _files if key[0] == reader]:
            _files.pop(key, None)


def _open_with_room(path: str) -> Any:
    """Others' files and sockets may leave less than our share: then ours make room."""
    while True:
        try:
            return _open(path)
        except OSError as error:
            if not _files or getattr(error.__cause__, "errno", None) not in _TOO_MANY:
                raise
            for _ in range(len(_files) // 2 + 1):
                _files.popitem(last=False)


def _open(path: str) -> Any:
    is_stored = mirror.object_of(path) is not None
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - the caller's
        if is_stored:
            cache.hold(file)
        return file
    except OSError as error:
        if is_stored and error.errno == errno.ENOENT:
            return None
        mend = "Where a disk went away, bring it back; training goes on from its last checkpoint"
        if error.errno in _TOO_MANY:
            mend = "Let the process open more files: ulimit -n 4096"
        raise OSError(
            f"shards: {path}: expected the shard, received: {error.strerror or error}. {mend}"
        ) from error
