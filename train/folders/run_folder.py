"""The run folder: one configuration, its history, metrics, figures, model and checkpoints."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from records.stores.address import is_address, parse_output
from records.system.places import check_local, check_utf8
from records.system.writing import check_output, write_atomically
from train.folders.lock import FolderLock
from train.folders.run_copy import CHECKPOINTS
from train.folders.stored_config import (
    FILE_NAME,
    METRICS,
    MODEL,
    WEIGHTS,
    missing_files,
    read_config,
    read_metrics,
)
from train.folders.uploads import Uploads

if TYPE_CHECKING:
    import keras

# How many replicas there are: results agree within rounding, so a run may go on with others.
_REPLICAS = ("strategy", "cpu_devices")
HISTORY = "history.csv"
_HINT = "Choose another --run-dir, or remove that folder"


class RunFolder:
    """Reads and writes a run folder; every file appears whole under its final name.

    One process at a time holds it; the system releases it however that process ends. Of several
    workers this is the chief; the others only read.

    Attributes:
      path: on this machine.
      place: for people and commands: the path, or the address of the store that it is uploaded to.
    """

    def __init__(
        self,
        path: str,
        settings: dict[str, Any],
        fingerprint: str,
        *,
        directories: Sequence[str] = (),
        is_chief: bool = True,
    ):
        """Opens or makes the folder; nothing is written before `claim`.

        Args:
          settings: what the run is known by, `Settings.to_dict`.
          directories: where the data lie, a place for each set; stored for `train.evaluate`, and
            names no run.
          is_chief: only the chief writes.

        Raises:
          ValueError: it belongs to a run with other settings or other data, says which differ; or
            to a run of another version; or it cannot be made; or another process trains in it; or
            it is no UTF-8.
          StoreError: its store refuses, or does not answer.
        """
        self._uploads: Uploads | None = None
        if is_address(path):
            self._uploads = Uploads(address := parse_output(path, "--run-dir"))
            path, self.place = os.fspath(self._uploads.folder), str(address)
        else:
            check_local(path, "--run-dir", is_output=True)
            self.place = path
        check_utf8(path, "--run-dir")
        self.path = Path(path)
        self._is_chief = is_chief
        self._known = settings | {"data_fingerprint": fingerprint}
        self.directories = [d if is_address(d) else os.path.abspath(d) for d in directories]
        # A finished run is shown from a disk that is mounted read-only, too.
        if missing_files(self.path):
            check_output(self.path, "run folder", "--run-dir", is_folder=True)
        self._resolved = self._read_resolved()
        if is_chief:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path, "--run-dir")
            self._resolved = self._read_resolved()  # another process may have claimed it since

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Uploads what is not yet, and lets other processes have the folder.

        Raises:
          OSError: the last state of the run could not be uploaded.
        """
        try:
            # A second Ctrl-C waits for nothing; `Interrupted` is another class.
            if self._uploads and (self.path / FILE_NAME).exists() and kind is not KeyboardInterrupt:
                self._uploads.finish()
        except OSError as error:
            if kind is None or issubclass(kind, KeyboardInterrupt):
                raise
            print(f"warning: {error}", file=sys.stderr)  # what ended the run is told after it
        finally:
            if self._uploads:
                self._uploads.release()
            if self._is_chief:
                self._lock.release()

    def claim(self) -> None:
        """Writes `config.json`: from now on the folder belongs to this run's settings.

        Raises:
          OSError: it cannot be written, here or in the run's store: better told before training.
        """
        if self._is_chief:
            # Of one set a text, as of older versions.
            place = self.directories if len(self.directories) > 1 else (*self.directories, None)[0]
            found = self._known | {"resolved": self._resolved, "data_directory": place}
            self.write_text(FILE_NAME, json.dumps(found, indent=2, sort_keys=True) + "\n")
            if self._uploads:
                self._uploads.finish()

    def upload(self) -> None:
        """Uploads what the folder holds, beside the caller; nothing where it is not in a store."""
        if self._uploads:
            self._uploads.send()

    @property
    def is_stored(self) -> bool:
        """Whether it is uploaded to a store."""
        return self._uploads is not None

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / CHECKPOINTS

    def keep_resolved(self, resolved: dict[str, Any]) -> dict[str, Any]:
        """Adds what hardware decided, unless an earlier start has; returns all of it."""
        # The right side wins: what an earlier start has chosen stays.
        self._resolved = resolved | self._resolved
        return dict(self._resolved)

    def finished_metrics(self) -> dict[str, Any] | None:
        """The metrics of a finished run, or None.

        Raises:
          ValueError: they are not what a run writes.
        """
        missing = missing_files(self.path)
        if not missing:
            return read_metrics(self.path)
        if METRICS not in missing and self._is_chief:
            print(f"{self.place} lacks {' and '.join(missing)}: the run goes on and writes it anew")
        return None

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file atomically."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file atomically."""
        write_atomically(self.path / name, data)

    def write_model(self, model: keras.Model) -> None:
        """Writes `model.keras` atomically; `model.weights.h5` where Keras cannot write a class."""
        try:
            self._write_with(model.save, MODEL)
        except (NotImplementedError, TypeError, ValueError):  # a subclass without `get_config`
            self._write_with(model.save_weights, WEIGHTS)

    def _write_with(self, save: Callable[[Path], None], name: str) -> None:
        # Keras takes the format from the end of the name.
        temporary = self.path / f".{name}"
        try:
            save(temporary)
            temporary.replace(self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def last_files(self) -> Iterator[None]:
        """While a trained run's last files are written: says how it goes on where one cannot be."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"run folder: {self.place} expected room for the last files of the run (model, "
                f"figures, metrics), received: {error.strerror or error}. Nothing of the training "
                "is lost: make room, and the same command writes them"
            ) from error

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Writes `history.csv`, one row per epoch."""
        text = io.StringIO()
        # A run may go on with --on-corrupt skip: its later rows have one more column.
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(names))
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(HISTORY, text.getvalue())

    def history_sha256(self) -> str:
        """Of `history.csv`; "" where there is none."""
        file = self.path / HISTORY
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""

    def _read_resolved(self) -> dict[str, Any]:
        """What an earlier start decided; {} where there was none.

        Raises:
          ValueError: the folder is none of this run's.
        """
        if not self.path.exists():
            return {}
        if not (self.path / FILE_NAME).exists():
            if self.path.is_dir() and not any(self.path.iterdir()):
                return {}
            raise ValueError(
                f"run folder: {self.place} expected a run folder or a new name, received "
                f"something that holds no {FILE_NAME}. {_HINT}"
            )
        found = read_config(self.path, _HINT)
        stored = found.asked.to_dict() | {"data_fingerprint": found.fingerprint}
        differing = [name for name in sorted(stored) if stored[name] != self._known.get(name)]
        if "data_fingerprint" not in differing:
            # The same data, by another name or path.
            differing = [name for name in differing if name != "dataset"]
        if missing_files(self.path):
            # An unfinished run goes on with other replicas: it sees the same examples.
            differing = [name for name in differing if name not in _REPLICAS]
        if differing:
            lines = "; ".join(f"{n}: {stored[n]!r}, now {self._known.get(n)!r}" for n in differing)
            raise ValueError(
                f"run folder: {self.place} belongs to a run with other settings ({lines}). {_HINT}"
            )
        return found.resolved
