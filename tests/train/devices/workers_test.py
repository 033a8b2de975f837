"""What a worker says of another one that is gone."""

import tensorflow as tf

from train.devices.workers import Workers

# As a cut cable between two hosts gave it; TensorFlow lists every frame.
SAID = """Graph execution error:

Detected at node CollectiveReduceV2 defined at (most recent call last):
  File "<string>", line 1, in <module>

  File "/project/train/engine/loop.py", line 200, in _run_call

Collective ops is aborted by: Timeout waiting for a heartbeat
The error could be from a previous operation. Restart your program to reset.
"""


def test_frames_of_tensorflows_trace_are_not_the_reason() -> None:
    said = Workers(("a:1", "b:2"), 1).describe_death(tf.errors.UnavailableError(None, None, SAID))
    assert said.startswith("worker 0 (a:1) ended or cannot be reached")
    assert said.endswith("said: Collective ops is aborted by: Timeout waiting for a heartbeat")
