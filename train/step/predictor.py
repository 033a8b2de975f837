"""A subset in its order, each example exactly once: the outputs of a model, or figures of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import output_dtype
from records.examples import Examples
from records.system.progress import show_progress
from train.devices.strategy import Cluster
from train.devices.tensorflow_private import copies_of
from train.step.batch_norm import row_weights
from train.step.feed import Chunk, make_feed
from train.step.keras_private import host_loops
from train.step.pace import Pace
from train.step.rows import take_rows
from train.step.train_step import TrainStep


class Stopped(KeyboardInterrupt):
    """A worker asked predictions to stop (`Predictor.stop`); all workers raise it together."""


class InOrder:
    """Walks over the examples of a subset in their order, on all replicas.

    Attributes:
      stop: is asked after every call whether to raise `Stopped`.
    """

    def __init__(
        self,
        examples: Examples,
        cluster: Cluster,
        level: str,
        global_batch_size: int,
        length_buckets: int = 1,
    ):
        """Feeds `examples` over all replicas; texts in batches of like length."""
        # Not shuffled: whatever the level and the replicas, an example has the same neighbours.
        order = examples.order(global_batch_size, shuffle=False, length_buckets=length_buckets)
        self._feed = make_feed(examples, order, cluster, level)
        self._examples, self._order, self._cluster = examples, order, cluster
        self._pace, self._epoch = Pace(), 0
        self.stop: Callable[[], bool] = bool

    def _agreed_steps(self) -> int:
        """Steps of the next call, by the chief's clock."""
        said = self._cluster.exchange(self._pace.steps, self.stop())
        if said[:, 1].any():
            raise Stopped
        return int(said[0, 0])


class Predictor(InOrder):
    """Outputs of a model for every example of a subset, each exactly once, in its order.

    They are float32, of numbers in their units float64 (`models.output_dtype`).
    """

    def __init__(
        self,
        model: Any,
        examples: Examples,
        cluster: Cluster,
        level: str,
        global_batch_size: int,
        length_buckets: int = 1,
    ):
        """Of `model`; the others as `InOrder`."""
        super().__init__(examples, cluster, level, global_batch_size, length_buckets)
        with cluster.strategy.scope():
            self._step = PredictStep(model, cluster, examples.spec)

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers int64 [rows] in the subset, outputs [rows, ...]), each example once."""
        self._feed.start(self._epoch)
        pace, step = self._pace, 0
        while (chunk := self._feed.take(self._agreed_steps())) is not None:
            with pace.timed(chunk.steps):
                outputs = self._step.run(chunk)
            # Weight 0 fills the last batch up, so that all have one shape; such rows are dropped
            # here.
            numbers, weights = self._order.examples(self._epoch, step, chunk.steps)
            step += chunk.steps
            real = weights > 0
            yield numbers[real], outputs[real]
        self._epoch += 1  # the same order again; the feed goes on without a new start

    def outputs(self, label: str = "predicting") -> np.ndarray:
        """The outputs [n, ...] in the subset's order; `label` names the progress line."""
        total = self._examples.num_examples
        found = np.empty(0, np.float32)

        def fill() -> Iterator[np.ndarray]:
            nonlocal found
            for numbers, outputs in self.batches():
                if not len(found):
                    found = np.empty((total, *outputs.shape[1:]), outputs.dtype)
                # Batches are in the order of the lengths, the result in that of the subset.
                found[numbers] = outputs
                yield numbers

        for _ in show_progress(fill(), total, label):
            pass
        return found


class PredictStep:
    """Runs a model over a subset in order, without training."""

    def __init__(self, model: keras.Model, cluster: Cluster, spec: tf.TensorSpec):
        """Call it in the strategy's scope; `spec`: one example's input."""
        self._model, self._cluster, self._spec = model, cluster, spec
        self._call = tf.function(self._run, autograph=False)

    def run(self, chunk: Chunk) -> np.ndarray:
        """The outputs [steps, B, ...] of the chunk's global batches."""
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
        dtype = output_dtype(self._model)

        def body(i: tf.Tensor, outputs: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            x = take_rows(inputs, rows[i], self._spec, lengths[i])
            with host_loops(True):
                output = tf.cast(self._model(x, training=False), dtype)
            return i + 1, outputs.write(i, output)

        # Not `tf.map_fn`, whose loop has a condition that a GPU would compute, see `host_loops`.
        outputs = tf.TensorArray(dtype, steps)
        start = [tf.constant(0, tf.int32), outputs]
        _, outputs = tf.while_loop(lambda i, _: i < steps, body, start, parallel_iterations=1)
        own = outputs.stack()
        if self._cluster.workers is None:
            return own
        return tf.distribute.get_replica_context().all_gather(own, axis=1)


class Evaluator(InOrder):
    """The figures of a subset by the model and the sums of a training step."""

    def __init__(self, step: TrainStep, examples: Examples, *walk: Any):
        """By `step`; the others as `InOrder`."""
        super().__init__(examples, *walk)
        self._step, self._spec = step, examples.spec
        self._call = tf.function(self._run, autograph=False)

    def figures(self) -> dict[str, Any]:
        """The figures by name; the sums of the training epoch are put back afterwards."""
        totals = [copies_of(v) for v in self._step.totals]
        kept = [[part.numpy() for part in parts] for parts in totals]
        try:
            self._step.reset_totals()
            self._feed.start(self._epoch)
            while (chunk := self._feed.take(self._agreed_steps())) is not None:
                counts, steps = tf.constant(chunk.counts), tf.constant(chunk.steps, tf.int32)
                with self._pace.timed(chunk.steps):
                    self._call(chunk.arrays, counts, tf.constant(chunk.lengths), steps)
                    self._step.loss_sum.numpy()  # waits for the device
            self._epoch += 1
            return self._step.figures()
        finally:
            for parts, values in zip(totals, kept, strict=True):
                for part, value in zip(parts, values, strict=True):
                    part.assign(value)

    def _run(self, arrays: Any, counts: tf.Tensor, lengths: tf.Tensor, steps: tf.Tensor) -> None:
        def body(i: tf.Tensor) -> tuple[tf.Tensor]:
            self._cluster.strategy.run(self._measure, (arrays, counts[i], lengths[i], i))
            return (i + 1,)

        tf.while_loop(lambda i: i < steps, body, [tf.constant(0, tf.int32)])

    def _measure(self, arrays: Any, count: tf.Tensor, length: tf.Tensor, i: tf.Tensor) -> None:
        inputs, labels, rows, weights, _ = arrays
        objective, step = self._step.options.objective, self._step
        x = take_rows(inputs, rows[i], self._spec, length)
        targets, weight = tf.gather(labels, rows[i]), weights[i]
        with row_weights(weight), host_loops(True):
            outputs = step.model(objective.form_inputs(x), training=False)
            loss, _ = objective.measure(outputs, targets, weight, count, None)
        step.loss_sum.assign_add(tf.cast(loss, tf.float64))
        objective.note(step.totals[1:], outputs, targets, weight)
