"""One run of the benchmarks, part after part; what a part found is kept if a later one fails.

Until the run is over its file is `FILE.partial`, written anew after every part, so that an hour
that is cut short is not lost and nothing unfinished lies under the final name.
"""

import contextlib
import importlib
import io
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.measuring.child import ChildError
from benchmarks.measuring.comparison import Comparison
from benchmarks.measuring.result_file import FORMAT
from benchmarks.measuring.work import Effort, Work, view
from records.system.json_file import write_json

# Errors that explain themselves in one sentence; others are printed with their traceback.
_EXPECTED = (ValueError, OSError, ChildError)


_LOG_SECONDS = 10.0


class Session:
    """What was measured so far, and the file that holds it."""

    def __init__(self, output: Path, header: dict[str, Any], pairs: int):
        """Starts the clock.

        `pairs`: how many of a part and a set there are; `header`: what the file says of the run.
        """
        self.output, self.partial = output, output.with_name(f"{output.name}.partial")
        self.comparisons: list[Comparison] = []
        self.parts: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self._header, self._pairs = header, pairs
        self._started = time.perf_counter()
        self._shown = 0, 0.0  # part and seconds of the last line of a log

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._started

    def measure(self, part: str, function: tuple[str, str], work: Work, effort: Effort) -> None:
        """Runs one part for one set and writes the file; an error of it is noted, not raised."""
        unit = {"part": part, "dataset": work.schema.name}
        started, before = self.seconds, len(effort.skipped)
        self.progress(work.schema.name, part)
        found: list[Comparison] = []
        try:
            measure = getattr(importlib.import_module(function[0]), function[1])
            # A run prints notes while it is set up; they would break the progress line.
            with view(work) as fresh, contextlib.redirect_stdout(io.StringIO()):
                found = measure(fresh, effort, lambda text: self.progress(work.schema.name, text))
            # Ratios are worked out now: where that fails, it is this part's error.
            [comparison.to_dict() for comparison in found]
            self.comparisons += found
        except Exception as error:  # whatever it is, the other parts are worth having
            if not isinstance(error, _EXPECTED):
                traceback.print_exc()
            self.failures.append(unit | {"error": f"{type(error).__name__}: {error}"})
        self.skipped += [unit | {"what": text} for text in effort.skipped[before:]]
        self.parts.append(unit | {"seconds": self.seconds - started, "comparisons": len(found)})
        # After every part, also a failed one: what was found so far is on the disk.
        write_json(self.partial, self.content(complete=False))

    def finish(self) -> dict[str, Any]:
        """Gives the file its final name; returns what it holds."""
        content = self.content(complete=True)
        write_json(self.output, content)
        self.partial.unlink(missing_ok=True)
        return content

    def content(self, complete: bool) -> dict[str, Any]:
        """The JSON object of the file."""
        return {
            "format": FORMAT,
            "complete": complete,
            **self._header,
            "seconds": self.seconds,
            "parts": self.parts,
            "failures": self.failures,
            "skipped": self.skipped,
            "comparisons": [c.to_dict() for c in self.comparisons],
        }

    def progress(self, name: str, text: str) -> None:
        """Shows what runs now: a line that is rewritten on a terminal, else a new one at times."""
        number = min(len(self.parts) + 1, self._pairs)
        line = f"[{self.seconds:4.0f} s, {number} of {self._pairs}] {name}: {text}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            return
        # In a log one line per part, and one now and then of a long part: not one per repetition.
        part, seconds = self._shown
        if number != part or self.seconds - seconds > _LOG_SECONDS:
            print(line, file=sys.stderr, flush=True)
            self._shown = number, self.seconds

    def end_progress(self) -> None:
        """Clears the line on a terminal."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
