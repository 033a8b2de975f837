"""How a peer in an environment of its own talks to the benchmark: lines of JSON on its pipes.

The peer is started with one argument, a JSON object that says what to read
(`benchmarks.input.peer_files`). It prints a line when it is ready. For each line it then gets,
`run N` or `check FILE`, it reads N whole epochs, or one, consumes every byte of them, and prints
a line with what it saw; `check` also stores the epoch.

A peer's file imports nothing of this project but this module, `source_files`, which need NumPy
alone, `pillow_picture` and `opencv_picture`.
"""

import importlib.metadata
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]
Epoch = Callable[[], Iterable[Batch]]


def consume(array: np.ndarray) -> int:
    """Reads every byte of an array: a number that depends on all of them."""
    # Words of 8 bytes are summed as fast as memory gives them; single bytes are not.
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(flat) // 8 * 8
    return int(flat[:whole].view(np.int64).sum()) + int(flat[whole:].sum())


def serve(prepare: Callable[[dict[str, Any]], Epoch], read_ahead: int = 0) -> None:
    """Serves epochs until the benchmark closes the pipe.

    Args:
      prepare: takes the request; returns what gives the batches of one epoch: (inputs, labels
        int [b]), inputs uint8 [b, S, S, C], float32 [b, F], or int32 [b, T] or, padded to the
        longest of the batch, [b, t]. Its own time is not counted.
      read_ahead: batches that it may hold ready between two calls, where its epochs are parts of
        one stream: so many are taken before the clock starts.
    """
    request = json.loads(sys.argv[1])
    epoch = prepare(request)
    _say({"versions": _versions(Path(sys.argv[0]))})
    # Ends with the pipe: a peer does not outlive the benchmark.
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "check":
            _store(epoch(), request, argument)
            _say({"stored": argument})
        else:
            _say(_read(epoch, int(argument), read_ahead))


def _read(epoch: Epoch, epochs: int, read_ahead: int) -> dict[str, Any]:
    _drop(epoch, read_ahead)
    examples, first = 0, None
    start = time.perf_counter()
    for _ in range(epochs):
        for inputs, labels in epoch():
            # Of the first epoch alone: for the later ones everything is running.
            first = first or time.perf_counter() - start
            consume(inputs)
            consume(labels)
            examples += len(labels)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "first_batch_seconds": first, "examples": examples}


def _drop(epoch: Epoch, count: int) -> None:
    """Takes `count` batches, of several epochs where one holds fewer."""
    while count > 0:
        taken = sum(1 for _ in itertools.islice(epoch(), count))
        if not taken:
            raise ValueError("an epoch expected at least one batch, received none")
        count -= taken


def _store(batches: Iterable[Batch], request: dict[str, Any], file: str) -> None:
    """Texts are stored padded to T."""
    kept, classes = [], []
    for inputs, labels in batches:
        inputs = np.array(inputs)  # a library may use the batch's memory again
        if request["modality"] == "tokens" and inputs.ndim == 2:
            missing = max(0, request["input_shape"][0] - inputs.shape[1])
            inputs = np.pad(inputs, [(0, 0), (0, missing)])
        kept.append(inputs)
        classes.append(np.array(labels).reshape(-1))
    np.savez(file, inputs=np.concatenate(kept), labels=np.concatenate(classes))


def _versions(script: Path) -> dict[str, str]:
    """The versions of the distributions that the peer's requirements name."""
    file = script.parent / "requirements" / f"{script.stem}.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [re.split(r"[^\w.-]", line)[0] for line in lines if line and line[0] != "#"]
    return {name: importlib.metadata.version(name) for name in names}


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)
