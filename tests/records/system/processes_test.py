"""Work on several processes ends, whatever the process that asked for it does with signals."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
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


def test_the_pool_ends_where_a_worker_was_killed_that_waited_for_work() -> None:
    """It holds the lock of the queue for ever, so that the others are never told to end."""
    found = map_in_order(str, range(3000), 3)
    items = [next(found) for _ in range(3000)]
    time.sleep(0.2)  # the workers are idle: one of them reads from the queue, and holds its lock
    read = {"x86_64": "0", "aarch64": "63"}[platform.machine()]  # the number of the system call
    calls = {w: Path(f"/proc/{w.pid}/syscall") for w in multiprocessing.active_children()}
    (reader,) = (w for w, call in calls.items() if call.read_text().split()[0] == read)
    reader.kill()
    ended = threading.Thread(target=found.close, daemon=True)  # type: ignore[attr-defined]
    ended.start()
    ended.join(20)
    assert not ended.is_alive()
    assert items[-1] == "2999"
