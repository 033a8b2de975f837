"""Checkpoints: everything a run needs to go on bitwise where it was, in one atomic file.

A checkpoint is a NumPy `.npz` (its members carry CRCs, so damage is found) of every variable
and of one JSON string with counters, history and the state of early stopping.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_KEEP = 2


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


def local_values(variables: list[Any]) -> list[np.ndarray]:
    """The arrays of variables; of a variable with a value per replica, all local ones stacked."""
    return [np.stack([p.numpy() for p in _parts(v)]) for v in variables]


def assign_values(variables: list[Any], arrays: list[np.ndarray]) -> None:
    """Puts the arrays of `local_values` back.

    Raises:
      CheckpointError: they are not as many as the variables, or of other shapes.
    """
    if len(arrays) != len(variables):
        raise CheckpointError(f"expected {len(variables)} variables, received {len(arrays)}")
    for variable, stacked in zip(variables, arrays, strict=True):
        parts = _parts(variable)
        if stacked.shape[1:] != tuple(parts[0].shape):
            raise CheckpointError(
                f"variable {parts[0].name} expected shape {tuple(parts[0].shape)}, received "
                f"{stacked.shape[1:]}"
            )
        for i, part in enumerate(parts):
            part.assign(stacked[min(i, len(stacked) - 1)])


def _parts(variable: Any) -> list[Any]:
    variable = getattr(variable, "value", variable) if hasattr(variable, "_value") else variable
    return list(getattr(variable, "values", None) or [variable])


def write_checkpoint(
    folder: Path, step: int, arrays: dict[str, list[np.ndarray]], state: Any
) -> None:
    """Writes `step-<step>.npz` atomically and drops all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"{k}/{i}": a for k, group in arrays.items() for i, a in enumerate(group)}
    buffer = io.BytesIO()
    named["state"] = np.array(json.dumps(state))
    np.savez(buffer, **named)  # type: ignore[arg-type]
    final = folder / f"step-{step:010d}.npz"
    temporary = folder / f".{final.name}.tmp"
    with open(temporary, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, final)
    for old in sorted(folder.glob("step-*.npz"))[:-_KEEP]:
        old.unlink()


def read_checkpoint(folder: Path) -> tuple[dict[str, list[np.ndarray]], Any] | None:
    """The newest readable checkpoint's (arrays, state), or None where there is none.

    A damaged newest one is named, and the one before it is used.
    """
    for path in sorted(folder.glob("step-*.npz"), reverse=True):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            print(f"checkpoint {path} is damaged ({error}); trying the one before it")
    return None


def _read(path: Path) -> tuple[dict[str, list[np.ndarray]], Any]:
    arrays: dict[str, dict[int, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as stored:
        state = json.loads(str(stored["state"]))
        for name in stored.files:
            group, _, number = name.partition("/")
            if number:
                arrays.setdefault(group, {})[int(number)] = stored[name]
    return {k: [g[i] for i in range(len(g))] for k, g in arrays.items()}, state
