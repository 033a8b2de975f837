"""A process may end while TensorFlow's threads are inside Python functions."""

from collections.abc import Callable

import pytest

_SOURCE = """
import sys, time
import numpy as np
from records.system import callbacks

def slow(number):
    time.sleep(0.03)
    return number

if sys.argv[1] == "call":
    numbers = tf.data.Dataset.range(10**6)
    found = numbers.map(lambda n: callbacks.call(slow, [n], tf.int64), 2)
else:
    spec = tf.TensorSpec([], tf.int64)
    found = callbacks.from_generator(lambda: map(slow, map(np.int64, range(10**6))), spec)
kept = iter(found.prefetch(2))
print(int(next(kept)), int(next(kept)))
"""


@pytest.mark.parametrize("kind", ["call", "generator"])
def test_the_end_waits_for_functions_under_way(run_python: Callable[..., str], kind: str) -> None:
    """Without the wait the process hangs, or is aborted with exit code 134."""
    assert run_python(_SOURCE, kind, timeout_s=60, fresh=True).split()[-2:] == ["0", "1"]
