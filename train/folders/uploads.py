"""A run folder in an object store: a folder on this machine, uploaded on a thread beside training.

The store's copy is the run; the folder is ahead of it by what was not uploaded yet. A folder whose
last upload or download is not what the store holds (another machine went on, or the run was
removed) is replaced by the store's.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from records.stores.address import Address
from records.stores.client import list_below
from records.system.json_file import read_json
from records.system.writing import write_atomically
from train.folders.lock import FolderLock
from train.folders.run_copy import (
    MANIFEST,
    Manifest,
    download,
    local_folder,
    pack,
    read_manifest,
    unpack,
    upload,
)
from train.folders.stored_config import FILE_NAME

_LOGS = "tensorboard"


class Uploads:
    """The folder of a run in a store, and what brings its files there."""

    def __init__(self, address: Address):
        """Takes up what the store holds.

        Raises:
          StoreError: the store refuses, or does not answer.
          ValueError: another process of this machine works in the run; or what stands there is no
            run.
        """
        self._address = address
        own = local_folder(address, str(address))
        own.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(own, "--run-dir")
        self.folder = own / (address.key.rpartition("/")[2] or address.bucket)
        self._state = own / "uploaded.json"
        self.failure: Exception | None = None  # of the last upload
        self._files: dict[str, BinaryIO] | None = None  # to be uploaded next
        self._hashes: dict[tuple[int, ...], str] = {}
        self._sent_logs: dict[str, tuple[int, ...]] = {}
        self._ends = False
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._known = self._take_up()

    def _take_up(self) -> list[Manifest]:
        """What may stand in the store from now on."""
        there, known = read_manifest(self._address), self._read_known()
        if there in known:
            return [there]
        if not there:
            self._check_empty()
        if self.folder.exists():
            print(
                f"note: {self._address} is not what was uploaded from {self.folder} last: the run "
                "went on elsewhere, or was removed. That folder is replaced"
            )
        self._keep([])  # whatever ends this now, it is begun again
        shutil.rmtree(self.folder, ignore_errors=True)
        download(self._address, there, self.folder, there)
        self._keep([there])
        return [there]

    def _check_empty(self) -> None:
        """Raises ValueError where something else than a run stands in the store."""
        # A run that was killed before its first list has left no more than these.
        own = (f"{Path(FILE_NAME).stem}-", f"{_LOGS}/")
        if other := [name for name in list_below(self._address) if not name.startswith(own)]:
            raise ValueError(
                f"run folder: {self._address} expected a run ({MANIFEST}) or nothing, received "
                f"other objects, such as {other[0]}. Choose another --run-dir, or remove them"
            )

    def _read_known(self) -> list[Manifest]:
        """What the store may hold, while this folder goes on from it."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            return [unpack(one) for one in read_json(self._state)]
        return []

    def _keep(self, known: list[Manifest]) -> None:
        write_atomically(self._state, json.dumps([pack(one) for one in known]).encode())

    def send(self) -> None:
        """Uploads what the folder holds now, beside the caller.

        What waits for an upload that is under way gives way to it.
        """
        files = self._open_all()
        with self._guard:
            _close(self._files)
            self._files = files
            if self._thread is None:
                # The interpreter does not wait for it: `finish` does.
                self._thread = threading.Thread(target=self._work, name="run-upload", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Until no upload is under way."""
        while (thread := self._thread) is not None:
            thread.join()

    def finish(self) -> None:
        """Uploads what the folder holds, and waits for it.

        Raises:
          OSError: it could not be uploaded; says where it is.
        """
        self._ends = True
        self.send()
        self.wait()
        self._ends = False
        if self.failure is not None:
            raise OSError(
                f"run folder: {self._address} expected the last state of the run, which could not "
                f"be uploaded: {self.failure}. It is whole in {self.folder}: the same command on "
                "this machine uploads it"
            ) from self.failure

    def release(self) -> None:
        """Lets other processes have the run."""
        self._lock.release()

    def _open_all(self) -> dict[str, BinaryIO]:
        """The files of the folder, open: they stay what they are, whatever takes their names."""
        found: dict[str, BinaryIO] = {}
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name[0] != "."]
            for name in names:
                path = Path(folder, name)
                if name[0] != "." and not path.is_symlink():
                    with contextlib.suppress(FileNotFoundError):
                        found[path.relative_to(self.folder).as_posix()] = open(path, "rb")  # noqa: SIM115
        return found

    def _work(self) -> None:
        while True:
            with self._guard:
                files, self._files = self._files, None
                if files is None:
                    self._thread = None
                    return
            try:
                self._upload(files)
                self.failure = None
            except Exception as error:
                self.failure = error
                if not self._ends:
                    print(
                        f"warning: {self._address}: not uploaded: {error}. Training goes on in "
                        f"{self.folder}, and the next checkpoint tries again",
                        file=sys.stderr,
                        flush=True,
                    )
            finally:
                _close(files)

    def _upload(self, files: dict[str, BinaryIO]) -> None:
        logs = {n: f for n, f in files.items() if n.startswith(f"{_LOGS}/")}
        changed = {n: f for n, f in logs.items() if self._sent_logs.get(n) != _identity(f)}
        sent = {name: _identity(file) for name, file in logs.items()}
        hashed = {n: (f, self._hash(f)) for n, f in files.items() if n not in logs}
        upload(self._address, self._known, self._keep, hashed, changed)
        self._sent_logs = sent

    def _hash(self, file: BinaryIO) -> str:
        identity = _identity(file)
        if identity not in self._hashes:
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            self._hashes[identity] = digest.hexdigest()
        return self._hashes[identity]


def _identity(file: BinaryIO) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def _close(files: dict[str, BinaryIO] | None) -> None:
    for file in (files or {}).values():
        file.close()
