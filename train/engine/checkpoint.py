"""Checkpoints: everything a run needs to go on bitwise where it was, in one atomic file.

A checkpoint is a NumPy `.npz` (its members carry CRCs, so damage is found) of every variable
and of one JSON string with counters, history and the state of early stopping.
"""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from records.system.npz import read_arrays


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


def write_checkpoint(
    folder: Path, step: int, arrays: dict[str, list[np.ndarray]], state: Any, keep: int = 2
) -> None:
    """Writes `step-<step>.npz` atomically, then drops all but the newest `keep`.

    However this ends, the older checkpoints are as they were until the new one is whole and on
    the disk.

    Raises:
      OSError: the folder cannot be written, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # By group and place, not by Keras's names, which are not unique in a model.
    named = {f"{k}/{i}": a for k, group in arrays.items() for i, a in enumerate(group)}
    buffer = io.BytesIO()
    named["state"] = np.array(json.dumps(state))
    # Into memory first: zipfile seeks while it writes, and the file is then written in one go.
    np.savez(buffer, **named)  # type: ignore[arg-type]
    final = folder / f"step-{step:010d}.npz"
    temporary = folder / ".unfinished"  # one name: what a killed process left is overwritten
    try:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            # Data before name: after a crash of the machine a renamed file could else be empty.
            os.fsync(file.fileno())
        os.replace(temporary, final)
        _sync_folder(folder)
    finally:
        temporary.unlink(missing_ok=True)
    # A checkpoint of a later step is one that was damaged: the run came from an earlier one.
    older = sorted(p for p in _checkpoints(folder) if p.name < final.name)
    kept = {final, *older[max(0, len(older) - (keep - 1)) :]}
    for path in set(_checkpoints(folder)) - kept:
        path.unlink()


def _sync_folder(folder: Path) -> None:
    """The new name survives a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.npz"))


def read_checkpoint(folder: Path) -> tuple[dict[str, list[np.ndarray]], Any] | None:
    """The newest readable checkpoint's (arrays, state), or None where there is none.

    A damaged newest one is named, and the one before it is used.
    """
    paths = _checkpoints(folder)
    # Step numbers are padded with zeros: the order of the names is that of the steps.
    for number, path in reversed(list(enumerate(paths))):
        try:
            return _read(path)
        except Exception as error:  # NumPy and zipfile raise some ten kinds for damaged bytes
            following = f"going on from {paths[number - 1].name}" if number else "beginning anew"
            reason = f"{type(error).__name__}: {error}"
            print(f"checkpoint {path} is damaged ({reason}); {following}", flush=True)
    return None


def _read(path: Path) -> tuple[dict[str, list[np.ndarray]], Any]:
    stored = read_arrays(path)
    arrays: dict[str, dict[int, np.ndarray]] = {}
    state = json.loads(str(stored.pop("state")))
    for name, array in stored.items():
        group, _, number = name.partition("/")
        arrays.setdefault(group, {})[int(number)] = array
    return {k: [g[i] for i in range(len(g))] for k, g in arrays.items()}, state
