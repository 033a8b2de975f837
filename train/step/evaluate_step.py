"""Loss and metrics of a subset, as its objective counts them, many batches per call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from records.examples import Examples
from records.ordering.buckets import make_order
from train.devices.strategy import Cluster
from train.devices.tensorflow_private import copies_of
from train.step.batch_norm import row_weights
from train.step.feed import make_feed
from train.step.keras_private import host_loops
from train.step.pace import Pace
from train.step.predictor import Stopped
from train.step.rows import take_rows
from train.step.train_step import TrainStep


class Evaluator:
    """The figures of a subset by the model and the sums of a training step.

    Attributes:
      stop: is asked after every call whether to raise `Stopped`.
    """

    def __init__(
        self,
        step: TrainStep,
        examples: Examples,
        cluster: Cluster,
        level: str,
        global_batch_size: int,
        length_buckets: int,
    ):
        """Feeds `examples` over all replicas; texts in batches of like length."""
        order = make_order(
            examples.num_examples,
            global_batch_size,
            shuffle=False,
            lengths=examples.subset_lengths,
            length_buckets=length_buckets,
        )
        self._feed = make_feed(examples, order, cluster, level)
        self._step, self._spec, self._cluster = step, examples.spec, cluster
        self._pace, self._epoch = Pace(), 0
        self._call = tf.function(self._run, autograph=False)
        self.stop: Callable[[], bool] = bool

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

    def _agreed_steps(self) -> int:
        said = self._cluster.exchange(self._pace.steps, self.stop())
        if said[:, 1].any():
            raise Stopped
        return int(said[0, 0])

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
