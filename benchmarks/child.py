"""Measurements in a process of their own: other devices, another precision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


class ChildError(RuntimeError):
    """A process that measures has failed; the message holds its last line."""


def run_child(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """Runs `python -m module REQUEST` and returns the JSON object that it printed last.

    Raises:
      ChildError: it failed.
    """
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    # Without bytecode files each import of TensorFlow takes 10 s instead of 3.5 s.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(request)],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        env=environment,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise ChildError(f"{module}: {request}: failed: {' '.join(last) or done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def take_request() -> dict[str, Any]:
    """In the child: what it was asked for."""
    return json.loads(sys.argv[1])
