"""A model's outputs, many batches per call."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from train.devices.strategy import Cluster
from train.step.feed import Chunk
from train.step.keras_private import host_loops
from train.step.rows import take_rows


class PredictStep:
    """Runs a model over a subset in order, without training."""

    def __init__(self, model: keras.Model, cluster: Cluster, spec: tf.TensorSpec):
        """Call it in the strategy's scope; `spec`: one example's input."""
        self._model, self._cluster, self._spec = model, cluster, spec
        self._call = tf.function(self._run, autograph=False)

    def run(self, chunk: Chunk) -> np.ndarray:
        """The outputs [steps, B, ...] of the chunk's global batches, float32."""
        outputs = self._call(*self.arguments(chunk))
        local = self._cluster.strategy.experimental_local_results(outputs)
        if self._cluster.workers is not None:  # each replica holds those of all
            return local[0].numpy()
        return np.concatenate([o.numpy() for o in local], 1)

    def arguments(self, chunk: Chunk) -> tuple[Any, ...]:
        """What the traced function takes for this chunk."""
        return chunk.arrays, tf.constant(chunk.lengths), tf.constant(chunk.steps, tf.int32)

    def _run(self, arrays: Any, lengths: tf.Tensor, steps: tf.Tensor) -> Any:
        return self._cluster.strategy.run(self._outputs, (arrays, lengths, steps))

    def _outputs(self, arrays: Any, lengths: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        inputs, _, rows, *_ = arrays

        def body(i: tf.Tensor, outputs: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            x = take_rows(inputs, rows[i], self._spec, lengths[i])
            with host_loops(True):
                output = tf.cast(self._model(x, training=False), tf.float32)
            return i + 1, outputs.write(i, output)

        # Not `tf.map_fn`, whose loop has a condition that a GPU would compute, see `host_loops`.
        outputs = tf.TensorArray(tf.float32, steps)
        start = [tf.constant(0, tf.int32), outputs]
        _, outputs = tf.while_loop(lambda i, _: i < steps, body, start, parallel_iterations=1)
        own = outputs.stack()
        if self._cluster.workers is None:
            return own
        return tf.distribute.get_replica_context().all_gather(own, axis=1)
