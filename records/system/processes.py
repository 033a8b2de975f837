"""A function over many items on several processes: in order, and a bounded window ahead."""

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

# One task: large enough that sending it (about 1 ms) is small beside the work (some 50 ms).
_CHUNK = 512
# Tasks waiting per worker. More would only hold more items in memory.
_WINDOW_PER_PROCESS = 3

# In a worker: what it applies. Inherited at the fork, never sent.
_function: Callable[[Any], Any] | None = None


def map_in_order(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    num_processes: int | None = None,
    prepare: Callable[[], Any] = lambda: None,
) -> Iterator[Any]:
    """Yields `function(item)` in order, from a pool where that pays, else from this process.

    Args:
      function: of one item; workers inherit it with all that it refers to, so that only items and
        results are sent.
      items: read only a bounded window ahead.
      num_processes: worker processes; default one per core that this process may use.
      prepare: called before a pool starts: what it imports or builds, workers need not.

    Raises:
      ValueError: `num_processes` is below 1.
      RuntimeError: a worker process was killed.
    """
    if num_processes is not None and num_processes < 1:
        raise ValueError(f"cleaning: num_processes expected 1 or more, received {num_processes}")
    count = num_processes or len(os.sched_getaffinity(0))
    chunks = _chunks(items)
    head = list(itertools.islice(chunks, 2))
    chunks = itertools.chain(head, chunks)
    # Daemonic processes may not have children. A single chunk is done before a pool has started.
    if count == 1 or len(head) < 2 or multiprocessing.current_process().daemon:
        return (function(item) for chunk in chunks for item in chunk)
    return _pool_map(function, chunks, count, prepare)


def _pool_map(
    function: Callable[[Any], Any],
    chunks: Iterator[list[Any]],
    num_processes: int,
    prepare: Callable[[], Any],
) -> Iterator[Any]:
    prepare()
    # Forked: closures cannot be pickled, and what they refer to is inherited as it is.
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(num_processes, fork, _inherit, (function,))
    # `pool.map` would queue the whole input at once.
    window: deque[Future[list[Any]]] = deque()
    others, workers = multiprocessing.active_children(), []
    try:
        # The first one starts all workers. A SIGTERM waits until they have a handler of their own:
        # the parent's would take it, and the worker would go on.
        with _holding_sigterm():
            window.append(pool.submit(_run_chunk, next(chunks)))
            workers = [one for one in multiprocessing.active_children() if one not in others]
        for chunk in chunks:
            window.append(pool.submit(_run_chunk, chunk))
            if len(window) >= num_processes * _WINDOW_PER_PROCESS:
                yield from window.popleft().result()
        while window:
            yield from window.popleft().result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"cleaning: expected {num_processes} worker processes to stay alive, one was "
            "killed (memory may have run out). Use fewer: num_processes=1, or put `taskset -c 0` "
            "before the command"
        ) from error
    finally:
        # One that is killed while it waits for work holds the lock of the queue for ever: the
        # others would never read there that they may end, and the parent would wait for them.
        for worker in workers:
            worker.terminate()
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _holding_sigterm() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _inherit(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    # A handler of the parent would keep a worker that waits for work alive when the pool, broken by
    # another worker's end, ends it: the parent would wait without end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    gc.freeze()  # else a collection would write to, and so copy, all that was inherited


def _run_chunk(chunk: list[Any]) -> list[Any]:
    assert _function is not None, "the pool was started with it"
    return [_function(item) for item in chunk]


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk
