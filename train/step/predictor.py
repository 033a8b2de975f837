"""Outputs of a model for every example of a subset, each exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from records.examples import Examples
from records.ordering.buckets import make_order
from records.system.progress import show_progress
from train.devices.strategy import Cluster
from train.measures.metrics import Metrics, metrics_from_logits
from train.step.feed import make_feed
from train.step.pace import Pace
from train.step.predict_step import PredictStep


class Stopped(KeyboardInterrupt):
    """A worker asked predictions to stop (`Predictor.stop`); all workers raise it together."""


class Predictor:
    """Outputs of a model for every example of a subset, each exactly once, in its order.

    Attributes:
      stop: is asked after every call whether to raise `Stopped`.
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
        """Feeds `examples` over all replicas; texts in batches of like length."""
        # Not shuffled: whatever the level and the replicas, an example has the same neighbours.
        order = make_order(
            examples.num_examples,
            global_batch_size,
            shuffle=False,
            lengths=examples.subset_lengths,
            length_buckets=length_buckets,
        )
        self._feed = make_feed(examples, order, cluster, level)
        with cluster.strategy.scope():
            self._step = PredictStep(model, cluster, examples.spec)
        self._examples, self._order = examples, order
        self._pace = Pace()
        self._cluster = cluster
        self._epoch = 0
        self.stop: Callable[[], bool] = bool

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers int64 [rows] in the subset, outputs float32 [rows, ...]), each example once."""
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

    def _agreed_steps(self) -> int:
        """Steps of the next call, by the chief's clock."""
        said = self._cluster.exchange(self._pace.steps, self.stop())
        if said[:, 1].any():
            raise Stopped
        return int(said[0, 0])

    def outputs(self, label: str = "predicting") -> np.ndarray:
        """The outputs float32 [n, ...] in the subset's order; `label` names the progress line."""
        total = self._examples.num_examples
        found = np.empty(0, np.float32)

        def fill() -> Iterator[np.ndarray]:
            nonlocal found
            for numbers, outputs in self.batches():
                if not len(found):
                    found = np.empty((total, *outputs.shape[1:]), np.float32)
                # Batches are in the order of the lengths, the result in that of the subset.
                found[numbers] = outputs
                yield numbers

        for _ in show_progress(fill(), total, label):
            pass
        return found

    def metrics(self) -> Metrics:
        """Metrics of the outputs, taken as logits."""
        return metrics_from_logits(self.outputs(), self._examples.subset_labels)
