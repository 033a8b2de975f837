"""One epoch of pictures in a process of its own: time, and memory beside the idle process.

Started by `benchmarks.input.engine` with a JSON object: directory, image_size, and a budget in
bytes for streaming in blocks; 0 decodes all into memory.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import psutil

from records.system.quiet import import_tensorflow_quietly


def main() -> None:
    """Reads the epoch and prints what it took, as JSON."""
    request = json.loads(sys.argv[1])
    import_tensorflow_quietly()
    from benchmarks.input.readers import open_examples
    from benchmarks.measuring.consume import read_on_host
    from benchmarks.measuring.work import open_work
    from records.loading.cache import choose_shuffle_block
    from records.ordering.order import Order
    from records.pipeline import make_arrays

    work = open_work(request["directory"])
    budget = request["budget"]
    examples, order = open_examples(work, cache="none" if budget else "memory")
    block = None
    if budget:
        encoded, size = int(examples.index.length.sum()), order.global_batch_size
        block = choose_shuffle_block("none", encoded, examples.num_examples, size, budget)
    order = Order(examples.num_examples, order.global_batch_size, shuffle_block=block)
    # Everything is loaded and traced, nothing is read yet.
    read_on_host(examples.loader.load(examples.numbers[:64]), 0)
    idle, start = psutil.Process().memory_info().rss, time.perf_counter()
    for x, y, *_ in make_arrays(examples, order):
        read_on_host(x, y)
    seconds = time.perf_counter() - start
    # Not `ru_maxrss`, which begins with what the parent process held.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    print(
        json.dumps(
            {
                "examples": examples.num_examples,
                "seconds": seconds,
                "idle_bytes": idle,
                "peak_bytes": int(peak) * 1024,
                "shuffle_block": block,
            }
        )
    )


if __name__ == "__main__":
    main()
