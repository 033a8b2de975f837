"""Peers in environments of their own: started once, then told to read one epoch after the other.

`make peers` makes one environment per file of `peers/requirements`, in `.peers/<name>`, so that
no peer's pins touch ours or another's. A peer without its environment is named as skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Sample

_PEERS = Path(__file__).resolve().parent / "peers"
ENVIRONMENTS = _PEERS.parent.parent / ".peers"
_START_SECONDS = 300  # FFCV compiles and writes its own file first


class PeerError(RuntimeError):
    """A peer that is not installed, or failed; the message says which and how to mend it."""


class Peer:
    """A running peer; a context manager, which ends it."""

    def __init__(self, name: str, request: dict[str, Any]):
        """Starts `peers/<name>.py` and waits until it is ready.

        Raises:
          PeerError: it is not installed, or does not start.
        """
        self.name = name
        python = ENVIRONMENTS / name / "bin" / "python"
        if not python.exists():
            raise PeerError(f"{name}: not installed (make peers)")
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [str(python), str(_PEERS / f"{name}.py"), json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            start_new_session=True,
        )
        try:
            self._answer()
        except PeerError:
            self.__exit__()
            raise

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        # The whole session: a peer's own workers would outlive it and hold the pipe open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._log.close()

    def run(self) -> Sample:
        """Reads one epoch."""
        found = self._ask("run")
        examples = sum(found["label_counts"])
        return Sample(examples, found["seconds"], found["first_batch_seconds"])

    def deliver(self) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, labels) of one epoch, to be compared with ours."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "epoch.npz"
            self._ask(f"check {file}")
            with np.load(file, allow_pickle=False) as stored:
                return stored["inputs"], stored["labels"]

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """The next line of JSON; other lines are a library's talk."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._log.seek(0)
        last = self._log.read().strip().splitlines()[-1:]
        raise PeerError(f"{self.name}: failed: {' '.join(last) or 'no message'}")
