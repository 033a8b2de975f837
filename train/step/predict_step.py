"""A model's outputs, many batches per call."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from train.devices.strategy import Cluster
from train.step.feed import Chunk
from train.step.train_step import take_rows


class PredictStep:
    """Runs a model over a subset in order, without training."""

    def __init__(self, model: keras.Model, cluster: Cluster):
        """Call it in the strategy's scope."""
        self._model, self._cluster = model, cluster
        self._call = tf.function(self._run, autograph=False)

    def run(self, chunk: Chunk) -> np.ndarray:
        """The outputs [steps, B, ...] of the chunk's global batches, float32."""
        lengths, steps = tf.constant(chunk.lengths), tf.constant(chunk.steps, tf.int64)
        outputs = self._call(chunk.arrays, lengths, steps)
        local = self._cluster.strategy.experimental_local_results(outputs)
        if self._cluster.workers is not None:  # each replica holds those of all
            return local[0].numpy()
        return np.concatenate([o.numpy() for o in local], 1)

    def _run(self, arrays: Any, lengths: tf.Tensor, steps: tf.Tensor) -> Any:
        return self._cluster.strategy.run(self._outputs, (arrays, lengths, steps))

    def _outputs(self, arrays: Any, lengths: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        inputs, _, rows, *_ = arrays

        def one(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            x = take_rows(inputs, *batch)
            return tf.cast(self._model(x, training=False), tf.float32)

        batches = (rows[:steps], lengths[:steps])
        own = tf.map_fn(one, batches, fn_output_signature=tf.float32, parallel_iterations=1)
        if self._cluster.workers is None:
            return own
        return tf.distribute.get_replica_context().all_gather(own, axis=1)
