"""A progress line of long work."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

_SILENT_SECONDS = 2.0  # shorter work shows no line
_BETWEEN_SECONDS = 0.5
_LOG_SECONDS = 30.0  # between the lines of a log
_CLEAR = "\033[K"  # what an earlier, longer line left


class Progress:
    """One line on stderr, written over and over: share done, rate, time left.

    Where stderr is no terminal, a line every 30 s. `with` clears the line at its end.
    """

    def __init__(self, total: int, label: str, unit: str, unit_size: float = 1, later: int = 0):
        """Shows nothing yet.

        Args:
          total: what `add` will count up to.
          label: stands in front.
          unit: of the rate, for people.
          unit_size: how much of the count is one unit.
          later: the count of the same work that follows in the run, whose time is shown too.
        """
        self._total, self._label, self._unit, self._size = max(1, total), label, unit, unit_size
        self._done, self._later = 0, later
        self._start = self._shown = time.monotonic()

    def add(self, count: int, said: str = "") -> None:
        """Counts work that is done; `said` ends the line."""
        self._done += count
        now, is_terminal = time.monotonic(), sys.stderr.isatty()
        between = _BETWEEN_SECONDS if is_terminal else _LOG_SECONDS
        if now - self._start <= _SILENT_SECONDS or now - self._shown <= between:
            return
        self._shown = now
        rate = self._done / (now - self._start)
        left = max(0.0, self._total - self._done) / max(rate, 1e-9)
        share = min(1.0, self._done / self._total)
        speed = rate / self._size
        shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
        line = f"{self._label}: {share:.0%}, {shown} {self._unit}/s, {clock(left)} left"
        if self._later:
            line += f", {clock(left + self._later / max(rate, 1e-9))} of the run"
        line += f", {said}" * bool(said)
        text, end = (f"\r  {line}{_CLEAR}", "") if is_terminal else (f"  {line}", "\n")
        print(text, end=end, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Clears the line."""
        # Only where a line was written.
        if self._shown != self._start and sys.stderr.isatty():
            print(f"\r{_CLEAR}", end="", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Minutes and seconds, as 12:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def show_progress(batches: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """Passes batches on and shows how many of `total` examples they held so far."""
    with Progress(total, label, "examples") as progress:
        for batch in batches:
            yield batch
            progress.add(len(batch))
