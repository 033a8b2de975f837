"""The functions of a worker stand under the tokens that a trainer's graph names them with."""

from __future__ import annotations

from collections.abc import Callable

_SOURCE = """
import tensorflow as tf
from records.service.worker import COUNT, Worker
worker = Worker(1, 2, None, "memory")
worker.register()
with tf.Graph().as_default() as graph:
    count = tf.raw_ops.PyFunc(input=[tf.constant(1, tf.int64)], token=COUNT, Tout=[tf.int64])
with tf.compat.v1.Session(graph=graph) as session:
    print(session.run(count)[0])
try:
    Worker(0, 2, None, "memory").register()
except ValueError as error:
    print(error)
"""


def test_tokens_are_the_first_of_a_process(run_python: Callable[..., str]) -> None:
    """Fails where a version of TensorFlow numbers Python functions in another way."""
    count, error = run_python(_SOURCE).strip().splitlines()
    assert int(count) == 2**62
    assert "expected as pyfunc_0, pyfunc_1 and pyfunc_2, received pyfunc_3" in error
    assert "Start each worker in a process of its own" in error
