"""A process may end while TensorFlow's threads are inside Python functions."""

from collections.abc import Callable

_SOURCE = """
import time
import numpy as np
from records.system import callbacks

def slow(number):
    time.sleep(0.03)
    return number

numbers = tf.data.Dataset.range(10**6)
called = numbers.map(lambda n: callbacks.call(slow, [n], tf.int64), 2)
spec = tf.TensorSpec([], tf.int64)
generated = callbacks.from_generator(lambda: map(slow, map(np.int64, range(10**6))), spec)
kept = [iter(found.prefetch(2)) for found in (called, generated)]
print([int(next(one)) for one in kept for _ in range(2)])
"""


def test_the_end_waits_for_functions_under_way(run_python: Callable[..., str]) -> None:
    """Without the wait the process hangs, or is aborted with exit code 134.

    One is called for each element, the other is a generator.
    """
    assert run_python(_SOURCE, timeout_s=60, fresh=True).splitlines()[-1] == "[0, 1, 0, 1]"
