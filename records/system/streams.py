"""Standard output and error of a command: what cannot be printed never ends its work."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

_NAMES = {1: "stdout", 2: "stderr"}


class _Steady:
    """A text stream whose writes do not fail: after an error what is written goes nowhere."""

    def __init__(self, stream: Any, descriptor: int):
        self._stream, self._descriptor = stream, descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """The number of characters, written or not."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Writes what is held."""
        self._try(self._stream.flush)

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)
            self._stream.flush()  # what it still holds would fail again
            # A reader that goes away (`| head`) has seen what it wanted.
            if not isinstance(error, BrokenPipeError):
                name, other = _NAMES[self._descriptor], _NAMES[3 - self._descriptor]
                print(
                    f"{name} expected a place to print to, received: {error.strerror}. No more is "
                    "printed there; the work goes on",
                    file=getattr(sys, other),
                    flush=True,
                )


@contextlib.contextmanager
def steady_streams() -> Iterator[None]:
    """Within it printing raises no error, to a closed or full place as little as in ASCII."""
    _open_closed_descriptors()
    kept = sys.stdout, sys.stderr
    for descriptor, name in _NAMES.items():
        # Lives as long as the process.
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper) and _has(stream, descriptor):
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, _Steady(stream, descriptor))
        else:  # one that a test or a notebook has put there
            setattr(sys, name, stream)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = kept


def _has(stream: io.TextIOWrapper, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except OSError:  # of a stream in memory
        return False


def _open_closed_descriptors() -> None:
    """Gives `2>&-` and the like somewhere to write: else the next file would be number 2."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
