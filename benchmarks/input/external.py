"""Peers in environments of their own: started once, then told to read one epoch after the other.

`make peers` makes one environment per file of `peers/requirements`, in `.peers/<name>`, so that
no peer's pins touch ours or another's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.timing import Sample

PEERS = Path(__file__).resolve().parents[1] / "peers"
ENVIRONMENTS = PEERS.parent.parent / ".peers"
# FFCV compiles and writes its own file first, while the others do the like.
_START_SECONDS = 300.0
_EPOCHS_SECONDS = 120.0


class PeerError(RuntimeError):
    """A peer failed; the message says which, and its last words."""


def is_installed(name: str) -> bool:
    """Whether `make peers` has made its environment."""
    return (ENVIRONMENTS / name / "bin" / "python").exists()


class Peer:
    """A running peer; a context manager, which ends it.

    Attributes:
      name: its file is `peers/<name>.py`.
      versions: of the distributions that its requirements name; {} until it is ready.
    """

    def __init__(self, name: str, request: dict[str, Any]):
        """Starts an installed peer, which prepares itself; `wait` until it is ready."""
        self.name = name
        self.versions: dict[str, str] = {}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [
                str(ENVIRONMENTS / name / "bin" / "python"),
                str(PEERS / f"{name}.py"),
                json.dumps(request),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            start_new_session=True,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._log.close()

    def wait(self) -> None:
        """Until it is ready.

        Raises:
          PeerError: it ended before, or was not ready in time; so do the methods below.
        """
        self.versions = self._answer(_START_SECONDS)["versions"]

    def run(self, epochs: int = 1) -> Sample:
        """Reads whole epochs, one after the other."""
        return Sample(**self._ask(f"run {epochs}"))

    def deliver(self) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, labels) of one epoch, to be compared with ours."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "epoch.npz"
            self._ask(f"check {file}")
            with np.load(file, allow_pickle=False) as stored:
                return stored["inputs"], stored["labels"]

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: the answer tells why
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        return self._answer(_EPOCHS_SECONDS)

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next line of JSON; other lines are a library's talk."""
        assert self._process.stdout is not None
        words: list[str] = []

        def give_up() -> None:
            words.append(f"no answer in {seconds:.0f} s")
            self._end()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        finally:
            timer.cancel()
        self._log.seek(0)
        words += self._log.read().strip().splitlines()[-1:]
        raise PeerError(f"benchmarks/peers/{self.name}: {', '.join(words) or 'ended, no message'}")

    def _end(self) -> None:
        """Ends the whole session: a peer's own workers would outlive it and hold the pipe open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
