"""What a build does to the data directory around TFDS's own work: locks, checks, cleans, restores.

TFDS writes a set to `incomplete.XXXXXX_<version>` beside its final place and renames it when it is
complete. Three things are missing there and stand here: a killed build's leftovers are removed, a
replaced set comes back when its successor fails, and two builds of one set keep apart.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from records.stores.address import Address
from records.stores.cache import cache_folder

_ASIDE_PREFIX = "replaced."
# What a full disk, a used-up quota and a limit on file sizes say. TFDS passes on the text alone.
_FULL = tuple(os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_held: set[Path] = set()  # directories whose lock this process holds


class GuardedPath(type(epath.Path("/"))):  # type: ignore[misc]
    """Path of a prepared set whose `rmtree` sets the directory aside instead of deleting it.

    `tfds build --overwrite` calls `rmtree` on a builder's path before the builder sees the rest of
    the request. With the files set aside, a build that is then refused or fails can put them back.
    """

    def rmtree(self, missing_ok: bool = False) -> None:
        """Renames the directory to its place aside.

        Raises:
          FileNotFoundError: there is no such directory, and `missing_ok` is False.
          RuntimeError: another build of this set is running, whose result this may be.
        """
        path = Path(self)
        if self.is_dir():
            # `flock` is per open file: taking it again in this process would refuse itself.
            held = path.parent in _held
            with contextlib.nullcontext() if held else lock(path.parent, "build"):
                set_aside(path)
        elif not missing_ok:
            raise FileNotFoundError(os.fspath(self))


def local_copy(address: Address) -> Path:
    """The data folder in which the sets of a store's data folder are built."""
    return cache_folder() / "builds" / address.scheme / address.bucket / address.key


def aside_path(final: Path) -> Path:
    """Where the set of the directory `final` lies while its successor is built."""
    return final.with_name(_ASIDE_PREFIX + final.name)


def set_aside(final: Path) -> None:
    """Renames a prepared set to its place aside; an older one there is deleted."""
    aside = aside_path(final)
    if aside.exists():
        shutil.rmtree(aside)
    final.rename(aside)


def restore_aside(final: Path) -> bool:
    """Puts a set that was set aside back if no other has taken its place; says whether it did."""
    aside = aside_path(final)
    if not aside.is_dir() or final.exists():
        return False
    # A rename within one folder: whole or not at all.
    aside.rename(final)
    return True


def drop_aside(final: Path) -> None:
    """Deletes the set aside, once its successor is in place."""
    # Without a successor the set aside is the only copy.
    if final.is_dir():
        shutil.rmtree(aside_path(final), ignore_errors=True)


def remove_leftovers(final: Path) -> int:
    """Deletes what killed builds of the same set left; returns how many directories.

    Only call it under `lock`: the directories of a running build look the same.
    """
    pattern = re.compile(rf"incomplete\.[A-Z0-9]+_{re.escape(final.name)}")
    leftovers = [p for p in final.parent.iterdir() if pattern.fullmatch(p.name)]
    for path in leftovers:
        shutil.rmtree(path)
    return len(leftovers)


def check_writable(directory: Path, place: str) -> None:
    """Creates the directory and a file in it, to fail before any work is done.

    Raises:
      OSError: it cannot be created or written; names the directory and the reason.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Asked by writing: permissions say nothing of a disk that is mounted read-only.
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(
            f"{place}: expected a data directory that can be written, received {directory}: "
            f"{error.strerror or error}. Choose another one with --data_dir"
        ) from None


@contextlib.contextmanager
def lock(directory: Path, place: str) -> Iterator[None]:
    """Holds the exclusive lock of `directory`; the system releases it however the process ends.

    The directory itself is locked, so that no lock file stays behind.

    Raises:
      RuntimeError: another process holds it.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"{place}: another build writes to {directory} at this moment. "
                "Wait until it ends, then run this command again"
            ) from None
        # TFDS may call `GuardedPath.rmtree` within the block, which must not wait for this lock.
        _held.add(directory)
        yield
    finally:
        _held.discard(directory)
        os.close(handle)


@contextlib.contextmanager
def full_disk_explained(directories: list[str], place: str) -> Iterator[None]:
    """Turns what libraries raise on a full disk into one error that says what to do.

    Raises:
      OSError: a disk of the directories was full; other errors of the block are left as they are.
    """
    try:
        yield
    except Exception as error:
        reason = next((text for text in _FULL if text in str(error)), None)
        if reason is None:
            raise
        free = [f"{d} ({shutil.disk_usage(d).free:,} bytes free)" for d in directories]
        raise OSError(
            f"{place}: expected room for the set in {' and '.join(free)}, received: {reason}. "
            "Nothing of this build is left, and a set that stood there before is kept. Make room, "
            "or choose another disk with --data_dir (for temporary files: TMPDIR)"
        ) from error
