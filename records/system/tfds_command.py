"""The `tfds` command of this environment, as a program, in this process, or in one of its own.

`python -m records.system.tfds_command build ...` is that process: `tfds build ...` without
TensorFlow's start-up notes, whose errors are one line.
"""

import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from records.system.quiet import import_tensorflow_quietly

_ROOT = Path(__file__).resolve().parents[2]
_INTERRUPTED = 130


def tfds_program() -> str:
    """The `tfds` that is installed beside this interpreter."""
    return str(Path(sys.executable).with_name("tfds"))


def run_tfds_here(arguments: Sequence[str]) -> None:
    """Runs `tfds` with these arguments in this process.

    Raises: SystemExit with the exit code, or whatever the builder raises.
    """
    sys.argv = ["tfds", *arguments]
    runpy.run_path(tfds_program(), run_name="__main__")


def run_tfds(arguments: Sequence[str]) -> int:
    """Runs `tfds` with these arguments in a process of its own.

    Returns:
      Its exit code, 130 where it was interrupted; its own message stands on stderr.
    """
    return run_printed(f"python -m records.system.tfds_command {shlex.join(arguments)}")


def run_printed(command: str) -> int:
    """Runs a command as it is printed for a user, "python -m ...", in a process of its own.

    Returns:
      Its exit code, 130 where it was interrupted; its own message stands on stderr.
    """
    # With PYTHONDONTWRITEBYTECODE every import of TensorFlow takes some 10 s.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    # Not installed, the project is found from any working directory.
    paths = [str(_ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # -P: a `records` or `builders` of the working directory is not ours.
    words = [sys.executable, "-P", *shlex.split(command)[1:]]
    return subprocess.run(words, env=environment, stdin=subprocess.DEVNULL).returncode


def main() -> int:
    """Runs `tfds` with the arguments of this process; returns the exit code."""
    try:
        import_tensorflow_quietly()
        run_tfds_here(sys.argv[1:])
    except (ValueError, OSError, RuntimeError) as error:
        print("error:", error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
