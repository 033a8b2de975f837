"""A function over many items on a pool of threads: in order, and a bounded window ahead."""

import collections
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def num_threads() -> int:
    """Threads of a pool: the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int | None = None
) -> Iterator[_Result]:
    """Applies `function` on a pool of threads; yields the results in the order of the items.

    At most `threads + 1` items are under way or waiting, so memory is bounded.
    """
    threads = threads or num_threads()
    is_finalizing = sys.is_finalizing  # when the interpreter goes, so do its modules' names
    pool = ThreadPoolExecutor(threads, thread_name_prefix="records")
    window: collections.deque[Future[_Result]] = collections.deque()
    try:
        for item in items:
            window.append(pool.submit(function, item))
            if len(window) > threads:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        if not is_finalizing():  # the pool's threads have ended by then
            pool.shutdown(wait=True, cancel_futures=True)
