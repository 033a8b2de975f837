"""Peers in environments of their own: started once, then told to read one epoch after the other.

`make peers` makes one environment per file of `peers/requirements`, in `.peers/<name>`, so that
no peer's pins touch ours or another's.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.child import Child
from benchmarks.measuring.timing import Sample

PEERS = Path(__file__).resolve().parents[1] / "peers"
ENVIRONMENTS = PEERS.parent.parent / ".peers"
# FFCV compiles and writes its own file first, and all peers prepare at once.
_START_SECONDS = 300.0
_EPOCHS_SECONDS = 120.0  # of one answer: the slowest epoch that was measured took 4.3 s


def is_installed(name: str) -> bool:
    """Whether `make peers` has made its environment."""
    return (ENVIRONMENTS / name / "bin" / "python").exists()


class Peer(Child):
    """A running peer. Its methods raise ChildError where it ended, or does not answer in time."""

    def __init__(self, name: str, request: dict[str, Any]):
        """Starts the installed peer `peers/<name>.py`, which prepares itself."""
        # Of the distributions that its requirements name.
        self.versions: dict[str, str] = {}
        python, file = ENVIRONMENTS / name / "bin" / "python", PEERS / f"{name}.py"
        # With it a peer would find our packages before those that its requirements pin.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [str(python), str(file), json.dumps(request)]
        super().__init__(f"benchmarks/peers/{name}", command, environment)

    def wait_until_ready(self) -> None:
        """Until it has prepared itself."""
        self.versions = self.answer(_START_SECONDS)["versions"]

    def run(self, epochs: int = 1) -> Sample:
        """Reads whole epochs, one after the other."""
        self.send(f"run {epochs}")
        return Sample(**self.answer(_EPOCHS_SECONDS))

    def deliver(self) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, labels) of one epoch, to be compared with ours."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "epoch.npz"
            self.send(f"check {file}")
            self.answer(_EPOCHS_SECONDS)
            # What another environment wrote is data, never code.
            with np.load(file, allow_pickle=False) as stored:
                return stored["inputs"], stored["labels"]
