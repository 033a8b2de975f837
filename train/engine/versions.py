"""The packages and the commit behind a result."""

import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "tensorflow-text", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that shape a result, and this project's commit if known."""
    found = {name: metadata.version(name) for name in _PACKAGES}
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            # The project's commit, wherever the command was started.
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        ).stdout.strip()
    except OSError:
        commit = ""
    return found | {"commit": commit or "unknown"}
