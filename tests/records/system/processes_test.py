"""Work on several processes ends, whatever the process that asked for it does with signals."""

from __future__ import annotations

import signal

from records.system.processes import map_in_order


def test_workers_end_when_they_are_told_to() -> None:
    """A run notes SIGTERM and goes on; a worker that did so, too, would never end."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        found = map_in_order(lambda _: signal.getsignal(signal.SIGTERM), range(5000), 2)
        assert set(found) == {signal.SIG_DFL}
    finally:
        signal.signal(signal.SIGTERM, before)
