"""Measurements in processes of their own: other devices, another precision, a cold start."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]


class ChildError(RuntimeError):
    """A process that measures has failed; the message holds its last line."""


class Child:
    """A process that measures, while it runs; a context manager, which ends it.

    It prints a JSON object a line as an answer; other lines are a library's talk.
    """

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str]):
        """Starts it.

        Errors call it `name`.
        """
        self._name = name
        # A file: nobody reads stderr while the process runs, and a full pipe would stop it.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=_ROOT,
            env=environment,
            # So that `_end` reaches its own processes, too. Ctrl-C then comes to us alone, who end
            # it.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._log.close()

    def send(self, command: object) -> None:
        """Writes a line to it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says why it ended
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()

    def answer(self, seconds: float | None = None) -> dict[str, Any]:
        """The next JSON object that it prints.

        Without one in so many seconds it is ended.

        Raises:
          ChildError: it ended instead.
        """
        assert self._process.stdout is not None
        words: list[str] = []

        def give_up() -> None:
            words.append(f"no answer in {seconds:.0f} s")
            self._end()

        timer = threading.Timer(seconds or 0.0, give_up)
        if seconds is not None:
            timer.start()
        try:
            # Not from the pipe itself: that would be closed with a generator over its lines.
            for line in iter(self._process.stdout.readline, ""):
                if line.startswith("{"):
                    return json.loads(line)
        finally:
            timer.cancel()
        raise self._error(*words)

    def wait(self) -> None:
        """Until it ends by itself.

        Raises:
          ChildError: it failed.
        """
        if self._process.wait():
            raise self._error()

    def check_runs(self) -> None:
        """Raises ChildError once it has ended, however it did."""
        if self._process.poll() is not None:
            raise self._error("ended too early")

    def _error(self, *words: str) -> ChildError:
        """With the last line that it wrote to stderr."""
        self._log.seek(0)
        said = [*words, *self._log.read().strip().splitlines()[-1:]]
        return ChildError(f"{self._name}: {', '.join(said) or 'ended, no message'}")

    def _end(self) -> None:
        """Ends the whole session: workers of its own would outlive it and hold the pipe open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def start_child(
    module: str, request: dict[str, Any], variables: Mapping[str, str] | None = None
) -> Child:
    """Starts `python -m module REQUEST`; `variables` of the environment come on top."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | dict(variables or {})
    # Without bytecode files each import of TensorFlow takes 10 s instead of 3.5 s.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return Child(module, [sys.executable, "-m", module, json.dumps(request)], environment)


def run_child(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """Runs `python -m module REQUEST` to its end and returns the JSON object that it printed.

    Raises:
      ChildError: it failed.
    """
    with start_child(module, request) as child:
        found = child.answer()
        child.wait()
    return found


def worker_variables(count: int) -> list[dict[str, str]]:
    """TF_CONFIG of each of `count` worker processes on this host, at ports nobody listens on."""
    # All open at the same time: so the system gives each another port.
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    cluster = {"worker": addresses}
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def take_request() -> dict[str, Any]:
    """In the child: what it was asked for."""
    return json.loads(sys.argv[1])
