"""One process at a time works in a folder; the system ends its lock however the process ends."""

import fcntl
import os
import weakref
from pathlib import Path


class FolderLock:
    """The lock of a folder itself, so that no lock file stays behind."""

    def __init__(self, path: Path, flag: str, *, shared: bool = False, wait: bool = False):
        """Locks it.

        `shared`: others may share it at the same time. `wait`: until it is free.

        Raises:
          ValueError: another process has it; `flag` names another folder.
        """
        handle = os.open(path, os.O_RDONLY)
        # Closing the handle ends the lock, also where `release` is never called.
        self.release = weakref.finalize(self, os.close, handle)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise ValueError(
                f"run folder: another process works in {path} at this moment. Wait until it ends, "
                f"or choose another {flag}"
            ) from None

    def __enter__(self) -> None:
        """It is locked already."""

    def __exit__(self, *_: object) -> None:
        """Releases it."""
        self.release()
