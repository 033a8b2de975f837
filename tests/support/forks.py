"""Processes of their own that start in 20 ms: forked from one that has imported TensorFlow.

An import of TensorFlow takes 4 to 8 s of a processor, and the tests start some hundred processes,
mostly for another number of devices. They are as separate as those of `subprocess`: own devices,
own environment, own exit code. What differs: their hash seed is the parent's, and an interpreter
that began long ago ends with `os._exit`. So a process that is itself what a test is about (killed,
interrupted, its start and its end) comes from `tests.support.runs.start`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
_CONTEXT: Any = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.preloaded"])


class Forked:
    """A running process with the parts of `subprocess.Popen` that tests use; both outputs are text.

    Attributes:
      returncode: None until it has been waited for; -9 after SIGKILL.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        """Starts `-m MODULE ...`, `-c SOURCE ...` or `SCRIPT ...` in `folder`."""
        self.args = list(arguments)
        self.returncode: int | None = None
        self._output = tempfile.TemporaryDirectory()
        self._files = [Path(self._output.name, name) for name in ("out", "err")]
        for file in self._files:
            file.touch()
        settings = (self.args, environment, str(folder), [str(f) for f in self._files])
        self._process = _CONTEXT.Process(target=_run, args=settings)
        self._process.start()
        self.pid = self._process.pid

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end; what it wrote to both streams."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.returncode = self._process.exitcode
        out, err = (file.read_text(errors="replace") for file in self._files)
        return out, err

    def printed(self) -> str:
        """What it has written so far to its output."""
        return self._files[0].read_text(errors="replace")

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """As `os.kill`."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it where it still runs."""
        self._process.kill()


def fork(
    *arguments: Any, variables: dict[str, str] | None = None, folder: Path = REPOSITORY
) -> Forked:
    """Starts `python ARGUMENTS`, as `subprocess` would with this process's environment."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return Forked(list(map(str, arguments)), environment | (variables or {}), folder)


def _run(arguments: list[str], environment: dict[str, str], folder: str, files: list[str]) -> None:
    """In the new process: what the interpreter would do with its command line."""
    import tests.support.preloaded  # noqa: F401 - done already; a failure there was not told

    for number, file in enumerate(files, 1):
        handle = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        _interpret(*arguments)
    finally:  # multiprocessing ends with os._exit, which leaves these out
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


def _interpret(first: str, *others: str) -> None:
    if first == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = list(others)
        sys.modules.pop(others[0], None)  # loaded already, it would be run with a warning
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *others[1:]]
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(others[0], "<string>", "exec"), main.__dict__)
    else:
        sys.path.insert(0, str(Path(first).parent))
        sys.argv = [first, *others]
        runpy.run_path(first, run_name="__main__")
