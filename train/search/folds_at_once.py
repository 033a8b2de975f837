"""All folds of a cross-validation of a table's model, trained at once, in one step.

Every fold is the training that `train.run --folds N --fold I` does, with its own examples, order,
statistics and initial weights; only the dropout masks are others, and where folds differ in size by
enough for a step, the shorter ones end an epoch with a step whose gradient is 0. What is left out
is what a trial does not need: checkpoints, files, the moving average of the weights.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.packed import pack
from records.opened import OpenedSet
from records.ordering.order import Order
from records.roles import Data
from records.sets.schema import TABULAR, Schema
from records.sets.target import MULTI_LABEL, REGRESSION
from train.assembly.data import open_fold
from train.assembly.training import build_model, class_weights, make_optimizer
from train.devices.strategy import Cluster
from train.engine.early_stopping import BestSoFar
from train.measures.metrics import AnyMetrics
from train.settings.resolved import Settings
from train.step.feed import Chunk
from train.step.objective import ClassesObjective, Diverged, Objective
from train.step.precision import set_precision
from train.step.train_step import StepOptions, TrainStep

# Told the number of the epoch, from 1, and the metrics of each fold after it.
Report = Callable[[int, list[AnyMetrics]], None]


def can_train_together(settings: Settings, schema: Schema) -> bool:
    """Whether `train_folds` does what these settings ask for."""
    # A global norm would be taken over all folds, and one fold would scale the others' gradients.
    alone = settings.clip_norm, settings.ema, settings.accumulate_steps > 1
    # Weights of single examples, and steps of single folds.
    skips = settings.skip_damaged or settings.on_nan == "skip"
    # The units of numbers are each fold's own.
    is_packed = schema.modality == TABULAR and schema.task != REGRESSION
    return is_packed and not any(alone) and not skips


def train_folds(
    settings: Settings, opened: OpenedSet, cluster: Cluster, report: Report
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Trains and validates every fold.

    The cluster has one replica. `report` is called after every epoch; an exception of it ends the
    training.

    Returns:
      (labels int32 [v] or float32 [v, C], logits float32 [v, C]) of each fold's validation
      examples: logits of the fold's best epoch by the monitored metric with early stopping, else of
      the last.

    Raises:
      Diverged: the loss is NaN or infinite.
    """
    return _Folds(settings, open_folds(settings, opened), cluster).train(report)


def open_folds(settings: Settings, opened: OpenedSet) -> list[Data]:
    """The data of every fold, decoded in memory."""
    assert settings.folds is not None
    folds = range(settings.folds)
    return [open_fold(dataclasses.replace(settings, fold=i), opened) for i in folds]


@dataclasses.dataclass
class _Best(BestSoFar):
    """The best epoch of a fold so far, with its logits float32 [v, C]."""

    logits: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))


class _Flat(keras.Model):
    """Packed networks on the rows of all, one network's after the other's: [M * B, F]."""

    def __init__(self, packed: keras.Model):
        super().__init__(name="folds", autocast=False)  # a column may need its float64
        self.packed = packed

    def call(self, rows: Any, training: bool = False) -> Any:
        """Logits [M * B, ...]."""
        members, _, width = self.packed.inputs[0].shape
        logits = self.packed(tf.reshape(rows, [members, -1, width]), training=training)
        return tf.reshape(logits, [-1, *logits.shape[2:]])


class _Folds:
    """The folds in training."""

    def __init__(self, settings: Settings, parts: list[Data], cluster: Cluster):
        self._settings = settings
        self._train = [part.examples("train") for part in parts]
        self._validation = [part.examples("validation") for part in parts]
        set_precision(settings.precision)
        size = settings.global_batch_size
        self._orders = [Order(t.num_examples, size, settings.seed) for t in self._train]
        # Folds differ by an example or so: the shorter ones end with an empty step.
        self.steps_per_epoch = max(order.steps_per_epoch for order in self._orders)
        networks = [build_model(settings, part) for part in parts]
        model = _Flat(pack(networks))
        self._packed = model.packed
        optimizer = make_optimizer(settings, self.steps_per_epoch)
        optimizer.build(model.trainable_variables)
        classes = parts[0].schema.num_classes
        self._objective = (
            ClassesObjective(classes)
            if parts[0].schema.task == MULTI_LABEL
            else Objective(np.ones(classes, np.float32), settings.label_smoothing)
        )
        options = StepOptions(
            # Class weights differ by fold: they are in the weights of the rows, see `_chunk`.
            objective=self._objective,
            clip_norm=None,
            clip_value=settings.clip_value,
            xla=settings.xla,
            seed=settings.seed,
        )
        self._step = TrainStep(model, optimizer, cluster, self._train[0].spec, options, None)
        self._inputs = tf.constant(self._train[0].inputs)
        is_single = isinstance(self._objective, Objective)
        self._labels = tf.constant(
            self._train[0].split_labels, tf.int64 if is_single else tf.float32
        )
        # Float64 [N] of the records of the split; 1 of several classes at once.
        self._row_weights = [
            class_weights(settings, part, classes)[part.split_labels]
            if is_single
            else np.ones(len(part.split_labels))
            for part in self._train
        ]
        self._predict = tf.function(self._validate, jit_compile=settings.xla, autograph=False)
        self._validation_rows = tf.constant(self._padded_rows())

    def train(self, report: Report) -> list[tuple[np.ndarray, np.ndarray]]:
        """As `train_folds`."""
        best = [_Best() for _ in self._train]
        patience = self._settings.early_stopping
        for epoch in range(self._settings.epochs):
            self._step.reset_totals()
            self._step.run(self._chunk(epoch), epoch * self.steps_per_epoch)
            if not np.isfinite(self._step.loss_sum.numpy()):
                raise Diverged(
                    f"training: epoch {epoch + 1}: the training loss is NaN or infinite",
                    "Choose a smaller --learning-rate",
                )
            logits = self._predict(self._validation_rows).numpy()
            found: list[AnyMetrics] = []
            for row, part, kept in zip(logits, self._validation, best, strict=True):
                found.append(self._objective.metrics(row[: part.num_examples], part.subset_labels))
                self._keep(kept, found[-1], row[: part.num_examples], patience)
            report(epoch + 1, found)
            if patience and all(kept.waited >= patience for kept in best):
                break
        labels = [part.subset_labels for part in self._validation]
        return [(y, kept.logits) for y, kept in zip(labels, best, strict=True)]

    def _keep(self, best: _Best, found: AnyMetrics, logits: np.ndarray, patience: int) -> None:
        """Keeps the last epoch's logits, or with early stopping the best one's.

        A fold that has waited long enough takes no more epochs, though the others train on.
        """
        if not patience or (
            best.waited < patience and best.judge(found.figures, self._settings.monitor)
        ):
            best.logits = logits

    def _chunk(self, epoch: int) -> Chunk:
        """One epoch of all folds. A fold's rows are weighed so that its loss is the mean of its
        own part of the batch, whatever the others hold.
        """
        size = self._orders[0].global_batch_size
        rows, weights = [], []
        for order, train, of_record in zip(
            self._orders, self._train, self._row_weights, strict=True
        ):
            missing = self.steps_per_epoch - order.steps_per_epoch
            numbers, weight = order.examples(epoch, 0, order.steps_per_epoch)
            # Added rows are the example 0, at weight 0.
            numbers = np.pad(numbers, ((0, missing), (0, 0)))
            weight = np.pad(weight, ((0, missing), (0, 0)))
            records = train.numbers[numbers]
            share = size / np.maximum(weight.sum(1, keepdims=True), 1)
            rows.append(records)
            weights.append(weight * share * of_record[records])
        joined, weighed = np.concatenate(rows, 1), np.concatenate(weights, 1).astype(np.float32)
        arrays = (
            self._inputs,
            self._labels,
            tf.constant(joined),
            tf.constant(weighed),
            # Keys name the draws of an augmentation, which tables do not have.
            tf.zeros(joined.shape, tf.int64),
        )
        steps = self.steps_per_epoch
        # The step divides by the count; `share` has multiplied by it, so that each fold has its own
        # mean.
        counts = np.full(steps, size, np.float32)
        return Chunk(arrays, counts, np.zeros(steps, np.int32), steps)

    def _padded_rows(self) -> np.ndarray:
        """Records int64 [M, V] of the folds' validation examples; the shorter are filled up."""
        longest = max(part.num_examples for part in self._validation)
        return np.stack([np.resize(part.numbers, longest) for part in self._validation])

    def _validate(self, rows: tf.Tensor) -> tf.Tensor:
        """Logits float32 [M, V, C]."""
        logits = self._packed(tf.gather(self._inputs, rows), training=False)
        return tf.cast(logits, tf.float32)
