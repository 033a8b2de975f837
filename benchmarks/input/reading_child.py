"""One generated set read in a process of its own: start, rate, and memory.

Started by `growth` and `engine` with a JSON object: `directory`; `smallest`, the directory of a
small set of the same kind; `global_batch_size`; `shuffle_block`, or null; `cache`; `seconds` to
read for, or null for one epoch; `raw`: pictures are not decoded, their bytes are copied.
"""

import dataclasses
import gc
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.measuring.child import take_request
from records.system.quiet import import_tensorflow_quietly


def main() -> None:
    """Reads, and prints what it took, as JSON: examples after the first batch, seconds, memory."""
    request = take_request()
    import_tensorflow_quietly()
    from benchmarks.measuring.consume import read_on_host

    # Imports and traces everything, on the small set.
    read_on_host(*next(_open(request | {"directory": request["smallest"]}))[:2])
    # What tracing left behind is not memory of the set that is measured.
    gc.collect()
    idle, start = psutil.Process().memory_info().rss, time.perf_counter()
    batches = _open(request)
    x, y, *_ = next(batches)
    read_on_host(x, y)
    first, examples = time.perf_counter() - start, 0
    steady, limit = time.perf_counter(), request["seconds"]
    for x, y, *_ in batches:
        examples += len(y)
        read_on_host(x, y)
        if limit is not None and time.perf_counter() - steady >= limit:
            break
    seconds = time.perf_counter() - steady
    # Not `ru_maxrss`, which begins with what the parent process held.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    found = {"examples": examples, "seconds": seconds, "seconds_to_first_batch": first}
    print(json.dumps(found | {"peak_bytes": int(peak) * 1024 - idle}))


def _open(request: dict[str, Any]) -> Iterator[tuple[np.ndarray, ...]]:
    """From the directory to the batches of one epoch, or of endless ones."""
    from records import InputConfig, open_data
    from records.loading.load import Loader
    from records.ordering.order import Order
    from records.pipeline import make_arrays

    data = open_data(request["directory"], config=InputConfig(cache=request["cache"]))
    examples = data.examples("train")
    numbers = np.arange(examples.index.num_records)
    examples = dataclasses.replace(examples, numbers=numbers)
    if request["raw"]:
        loader = Loader(data.schema, examples.index, _copy)
        examples = dataclasses.replace(examples, loader=loader)
    size, block = request["global_batch_size"], request["shuffle_block"]
    order = Order(len(numbers), size, shuffle_block=block)
    return make_arrays(examples, order, epochs=1 if request["seconds"] is None else 2**31)


def _copy(rows: list[memoryview]) -> np.ndarray:
    """The bytes of pictures of one size, uint8 [n, bytes]."""
    return np.stack([np.frombuffer(row, np.uint8) for row in rows])


if __name__ == "__main__":
    main()
