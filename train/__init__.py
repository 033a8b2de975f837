"""Training: flags to a run folder. `python -m train.run --help` explains the flags.

The modules here are the commands. They import all rooms of `train`, `models` and `records`. Begin
with `run`; its test is tests/train/run_test.py, and each command's test has its name.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any


def _check_not_hidden() -> None:
    """Names a file of the user's folder that Python would take for one of our packages.

    `python -m` looks into the current folder first.
    """
    ours = Path(__file__).resolve().parents[1]
    for name in ("records", "models"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found is None or found.parent.parent == ours:
            continue
        message = (
            f"place: {found} hides the package {name!r} of this project. Rename it, start from "
            "another folder, or write records-to-models or python -P -m for python -m: they do "
            "not look into the folder that you are in"
        )
        # While `python -m` imports the package, no module has the command's name yet.
        if sys.argv[0] == "-m":
            sys.exit(f"error: {message}")
        raise ImportError(message)


_check_not_hidden()


def __getattr__(name: str) -> Any:
    """`train.fit`; not before it is asked for, because it imports TensorFlow."""
    if name == "fit":
        from train.keras_fit import fit

        return fit
    raise AttributeError(f"module 'train' has no attribute {name!r}")
