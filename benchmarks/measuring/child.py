"""Measurements in processes of their own: other devices, another precision, a cold start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]


class ChildError(RuntimeError):
    """A process that measures has failed; the message holds its last line."""


def run_child(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """Runs `python -m module REQUEST` and returns the JSON object that it printed last.

    Raises:
      ChildError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(request)],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        env=_environment(),
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise ChildError(f"{module}: {request}: failed: {' '.join(last) or done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    # Without bytecode files each import of TensorFlow takes 10 s instead of 3.5 s.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


class Child:
    """`python -m module REQUEST` while it runs; a context manager, which ends it."""

    def __init__(
        self,
        module: str,
        request: dict[str, Any],
        variables: Mapping[str, str] | None = None,
    ):
        """Starts it; `variables` of the environment come on top."""
        self._name = module
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=_ROOT,
            env=_environment() | dict(variables or {}),
            start_new_session=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._log.close()

    def lines(self) -> Iterator[str]:
        """What it prints, as it comes, until it ends.

        Raises:
          ChildError: it failed.
        """
        assert self._process.stdout is not None
        # Not from the pipe itself: that would be closed with this generator, between two answers.
        yield from iter(self._process.stdout.readline, "")
        if self._process.wait():
            raise ChildError(f"{self._name}: failed: {self._last_words()}")

    def send(self, command: object) -> None:
        """Writes a line to it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says why it ended
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next JSON object that it prints.

        Raises:
          ChildError: it ended instead.
        """
        for line in self.lines():
            if line.startswith("{"):
                return json.loads(line)
        raise ChildError(f"{self._name}: ended without an answer: {self._last_words()}")

    def _last_words(self) -> str:
        self._log.seek(0)
        last = self._log.read().strip().splitlines()[-1:]
        return " ".join(last) or str(self._process.returncode)


def worker_variables(count: int) -> list[dict[str, str]]:
    """TF_CONFIG of each of `count` worker processes on this host, at ports nobody listens on."""
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
