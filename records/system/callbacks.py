"""Python functions inside tf.data, and the end of the process.

TensorFlow's threads call them. One that wants Python's lock while the interpreter is being taken
down makes the whole process hang or abort, so a script that leaves a dataset half read would fail
at its very end. An iterator that nobody reads comes to rest once its few buffers are full: the
end of the process waits for that.
"""

import atexit
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

# No call for so long: every buffer is full, and no thread of TensorFlow wants the lock any more.
_REST_SECONDS = 0.05
# An iterator that goes on for ever must not keep the process.
_MOST_SECONDS = 5.0

_lock = threading.Lock()
_running = 0


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    global _running
    with _lock:
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1


def call(
    function: Callable[..., Any], arguments: list[tf.Tensor], types: Any, stateful: bool = False
) -> Any:
    """`tf.numpy_function` of a function whose result depends on its arguments alone.

    What else it does (filling a cache) must bear being done twice, unless it is `stateful`.
    """
    _wait_at_exit()

    def counted(*arrays: Any) -> Any:
        with _counted():
            return function(*arrays)

    return tf.numpy_function(counted, arguments, types, stateful=stateful)


def from_generator(generator: Callable[[], Iterator[Any]], signature: Any) -> tf.data.Dataset:
    """`tf.data.Dataset.from_generator`."""
    _wait_at_exit()

    def counted() -> Iterator[Any]:
        items = generator()
        while True:
            with _counted():
                item = next(items, None)
            if item is None:
                return
            yield item

    return tf.data.Dataset.from_generator(counted, output_signature=signature)


@functools.cache
def _wait_at_exit() -> None:
    # Cached: registered once, and only where tf.data calls Python at all.
    atexit.register(_come_to_rest)


def _come_to_rest() -> None:
    start = last = time.monotonic()
    while (now := time.monotonic()) - start < _MOST_SECONDS:
        if _running:
            last = now
        elif now - last > _REST_SECONDS:
            return
        time.sleep(0.005)
