"""Work on several processes ends, whatever the process that asked for it does with signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from records.system import processes
from records.system.processes import map_in_order


def test_workers_end_when_they_are_told_to() -> None:
    """A run notes SIGTERM and goes on; a worker that did so, too, would never end."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        found = map_in_order(lambda _: signal.getsignal(signal.SIGTERM), range(5000), 2)
        assert set(found) == {signal.SIG_DFL}
    finally:
        signal.signal(signal.SIGTERM, before)


def test_workers_end_when_they_are_told_to_before_they_are_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The parent waited without end for a worker whose SIGTERM its own handler had swallowed."""
    inherit = processes._inherit

    def told_before(function: Callable[[Any], Any]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        inherit(function)

    monkeypatch.setattr(processes, "_inherit", told_before)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(RuntimeError, match="expected 2 worker processes to stay alive"):
            list(map_in_order(str, range(5000), 2))
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    finally:
        signal.signal(signal.SIGTERM, before)
