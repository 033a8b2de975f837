"""How many steps one call runs; the loop asks before each call."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

# One call lasts about this long: its fixed cost stays below 1 %, and progress, checkpoints and
# signals get their turn twice a second.
_CALL_SECONDS = 0.5


class Pace:
    """How many steps the next call should run, from the time the last ones took.

    A feed gives fewer where an epoch ends, or where a chunk has room for no more.
    """

    def __init__(self, fixed: int | None = None) -> None:
        """Begins with single steps: the first call compiles, the second is measured.

        `fixed`: so many steps, whatever they take.
        """
        self.steps, self._fixed = fixed or 1, fixed
        self._calls = 0

    @contextlib.contextmanager
    def timed(self, steps: int) -> Iterator[None]:
        """Times a call of `steps` steps."""
        start = time.perf_counter()
        yield
        self._calls += 1
        if self._calls > 1 and not self._fixed:
            per_step = max((time.perf_counter() - start) / steps, 1e-9)
            fitting = int(_CALL_SECONDS / per_step)
            # At most eight times as many: a first time that is much too short must not make a call
            # of minutes.
            self.steps = max(1, min(fitting, 8 * self.steps))
