"""How a peer in an environment of its own talks to the benchmark: lines of JSON on its pipes.

The peer is started with one argument, a JSON object that says what to read. It prints a line
when it is ready. For each line it then gets, `run` or `check FILE`, it reads one whole epoch,
consumes every byte of it, and prints a line with what it saw; `check` also stores the epoch.

A peer's file imports nothing of this project but this module, which needs NumPy alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]


def consume(array: np.ndarray) -> int:
    """Reads every byte of an array: a number that depends on all of them."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(flat) // 8 * 8
    return int(flat[:whole].view(np.int64).sum()) + int(flat[whole:].sum())


def serve(prepare: Callable[[dict[str, Any]], Callable[[], Iterable[Batch]]]) -> None:
    """Serves epochs until the benchmark closes the pipe.

    Args:
      prepare: takes the request; returns what gives the batches (inputs uint8 [b, S, S, C],
        labels int [b]) of one epoch. Its own time is not counted.
    """
    epoch = prepare(json.loads(sys.argv[1]))
    _say({"ready": True})
    for line in sys.stdin:
        command, _, file = line.strip().partition(" ")
        kept: list[Batch] = []
        labels: list[int] = []
        start = time.perf_counter()
        first = 0.0
        for inputs, classes in epoch():
            first = first or time.perf_counter() - start
            consume(inputs)
            labels += np.asarray(classes).reshape(-1).tolist()
            if command == "check":
                kept.append((np.array(inputs), np.array(classes).reshape(-1)))
        seconds = time.perf_counter() - start
        if command == "check":
            inputs, classes = (np.concatenate(column) for column in zip(*kept))
            np.savez(file, inputs=inputs, labels=classes)
        counts = np.bincount(np.array(labels, np.int64)).tolist()
        _say({"seconds": seconds, "first_batch_seconds": first, "label_counts": counts})


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)
