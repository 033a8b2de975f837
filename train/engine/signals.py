"""SIGINT and SIGTERM while a run trains: noted, and asked for between two calls."""

from __future__ import annotations

import signal
from types import FrameType


class Signals:
    """A context in which the first signal is only noted; a second one ends at once.

    So the running call finishes and a checkpoint is written where all variables belong together.
    """

    def __init__(self) -> None:
        """Changes nothing before the context begins."""
        self._came = False
        self._previous: dict[int, signal._HANDLER] = {}

    def came(self) -> bool:
        """A signal was noted."""
        return self._came

    def __enter__(self) -> Signals:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread: the caller's own handling stands
            pass
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came:  # the user insists, or the call hangs
            raise KeyboardInterrupt
        self._came = True
