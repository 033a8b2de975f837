"""What a compiled Keras model minimises and counts, right on any number of replicas.

Keras's `fit` divides a replica's loss by the rows it got, padding included, and hands `metrics=`
no weights. Here the loss of the global batch is divided by its real rows, and a row that fills a
batch up has weight 0 in every metric.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from records.examples import Examples
from train.step.keras_private import add_rows, compiled_figures, compiled_metrics, takes_weights
from train.step.replicas import replica_sum
from train.step.rows import RowFormat, pack_rows, take_rows


@dataclasses.dataclass(frozen=True)
class Rows:
    """What the arrays of a step hold for a Keras model.

    Attributes:
      inputs: how a row's arrays are packed; None where it is one array, as of every set.
      targets: (y,) or (y, sample weight) packed; None where they are a set's: classes int64 [N], or
        float32 [N, C] of several at once or of numbers.
    """

    inputs: RowFormat | None = None
    targets: RowFormat | None = None

    def form_inputs(self, taken: tf.Tensor) -> Any:
        """The model's inputs [b, ...] in the structure that was given."""
        return taken if self.inputs is None else self.inputs.part(taken)

    def split(self, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """(y [b, ...], sample weights float32 [b] or None)."""
        if self.targets is None:
            return targets, None
        y, *own = self.targets.part(targets)
        return y, own[0] if own else None

    def first(self, examples: Examples) -> tuple[Any, tf.Tensor]:
        """(inputs, y) of the first two examples, as a step sees them."""
        numbers = examples.numbers[:2]
        if examples.cached is not None and examples.filling is None:
            found = examples.cached[numbers]
        else:
            found = examples.loader.load(numbers)
        length = examples.spec.shape[0] if examples.spec.shape.rank else 0
        taken = take_rows(
            tf.constant(pack_rows(found)), tf.range(len(found)), examples.spec, length
        )
        labels = examples.split_labels[numbers]
        labels = tf.constant(labels if labels.dtype != np.int32 else labels.astype(np.int64))
        return self.form_inputs(taken), self.split(labels)[0]


@dataclasses.dataclass(frozen=True)
class KerasObjective:
    """Loss and metrics of `compile`, for rows packed in one array.

    Attributes:
      model: compiled and built, its variables in the strategy's scope.
      rows: what a row holds.
      num_replicas: R.
      divides: the loss is a mean over the batch, not a sum.
    """

    model: keras.Model
    rows: Rows
    num_replicas: int
    divides: bool

    def make_totals(self) -> list[tf.Variable]:
        """[examples float64 [], the variables of the metrics]."""
        own = [v.value for metric in self._metrics() for v in metric.variables]
        return [replica_sum(()), *own]

    def form_inputs(self, taken: tf.Tensor) -> Any:
        """The model's inputs, in the structure that was given."""
        return self.rows.form_inputs(taken)

    def measure(
        self, outputs: Any, targets: tf.Tensor, weight: tf.Tensor, count: tf.Tensor, share: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `AnyObjective`; losses that layers add are counted once a step, not once a row."""
        y, own = self.rows.split(targets)
        weights = weight if own is None else weight * own
        total = self.model.compute_loss(y=y, y_pred=outputs, sample_weight=weights)
        total = tf.cast(total, tf.float32)
        if not self.divides:
            return total * count, total
        # Keras has divided by this replica's rows, and by the replicas.
        rows = tf.cast(tf.shape(weight)[0] * self.num_replicas, tf.float32)
        if not (added := self.model.losses):
            # One product, one quotient: each operation more is 2 us of a small model's step.
            loss = total * rows
            return loss, loss / count
        extra = tf.add_n([tf.reduce_sum(x) for x in added]) / self.num_replicas
        mean = (total - extra) * (rows / count) + extra
        return mean * count, mean

    def note(
        self, totals: list[tf.Variable], outputs: Any, targets: tf.Tensor, weight: tf.Tensor
    ) -> None:
        """As `AnyObjective`."""
        y, own = self.rows.split(targets)
        count = tf.reduce_sum(weight)
        totals[0].assign_add(tf.cast(count, tf.float64))
        plain, weighted = compiled_metrics(self.model)
        for metric in plain:
            add_rows(metric, y, outputs, weight, count)
        for metric in weighted:
            weights = weight if own is None else weight * own
            metric.update_state(y, outputs, sample_weight=weights)

    def count(self, totals: list[tf.Variable]) -> float:
        """As `AnyObjective`."""
        return float(totals[0].numpy())

    def figures(self, totals: list[tf.Variable], loss: float) -> dict[str, Any]:
        """The loss, and what each metric says, under Keras's names."""
        found: dict[str, Any] = {"loss": loss}
        figures = compiled_figures(self.model)
        return found | {name: np.asarray(value).tolist() for name, value in figures.items()}

    def _metrics(self) -> list[keras.metrics.Metric]:
        return [metric for group in compiled_metrics(self.model) for metric in group]


_SCALAR = (
    "fit: {what} expected one value for each example, received one for the whole batch, in which "
    "the rows that fill up the last batch would count. Return keras.ops.mean(..., axis=-1), or "
    "choose a batch_size that divides the examples"
)


def check_row_by_row(model: keras.Model, y: Any, outputs: Any, padded: bool) -> None:
    """Raises ValueError for a loss or metric that cannot leave out a row.

    Args:
      model: compiled and built.
      y, outputs: of two rows.
      padded: a batch is filled up.
    """
    loss = keras.losses.get(model.loss)
    call = loss.call if isinstance(loss, keras.losses.Loss) else loss
    name = getattr(loss, "name", getattr(loss, "__name__", "loss"))
    if padded and _is_scalar(call, y, outputs):
        raise ValueError(_SCALAR.format(what=f"loss {name}"))
    for metric in [m for group in compiled_metrics(model) for m in group]:
        if not takes_weights(metric.update_state):
            raise ValueError(
                f"fit: metric {metric.name} expected update_state(y_true, y_pred, "
                "sample_weight=None), received one without sample_weight, which says which rows "
                "only fill a batch up"
            )
        function = getattr(metric, "_fn", None)
        if padded and function is not None and _is_scalar(function, y, outputs):
            raise ValueError(_SCALAR.format(what=f"metric {metric.name}"))


def check_model(model: keras.Model, x: Any, outputs: Any) -> None:
    """Raises ValueError for a model whose output or losses for a row hang on the rows beside it.

    Args:
      x, outputs: of two rows, without training.
    """
    before = [float(loss) for loss in model.losses]
    again = np.asarray(model(x, training=False), np.float64)
    if not np.array_equal(again, np.asarray(outputs, np.float64)):
        return  # random: nothing can be told
    one = np.asarray(model(tf.nest.map_structure(lambda a: a[:1], x), training=False), np.float64)
    after = [float(loss) for loss in model.losses]
    # What a product of fewer rows may round otherwise.
    rounding = 1e-3 if model.compute_dtype in ("float32", "float64") else 0.05
    limit = rounding * (np.abs(again).max(initial=0) + 1e-6)
    what = "outputs" if np.abs(one - again[:1]).max(initial=0) > limit else ""
    if not np.allclose(before, after, rtol=rounding):
        what = "losses that its layers add"
    if what:
        raise ValueError(
            f"fit: {model.name} expected {what} of which each row has its own, received others: "
            "the rows that fill up the last batch would count. Choose a batch_size that divides "
            "the examples, of validation_data too"
        )


def check_classes(model: keras.Model, y: np.ndarray, outputs: Any, role: str) -> None:
    """Raises ValueError for classes that the model has no output for."""
    loss = keras.losses.get(model.loss)
    function = getattr(loss, "_fn", getattr(loss, "fn", loss))
    if getattr(function, "__name__", "") != "sparse_categorical_crossentropy":
        return
    ignored = getattr(loss, "ignore_class", None)
    y = y if ignored is None else y[y != ignored]
    count = int(outputs.shape[-1])
    if y.size and not 0 <= y.min() <= y.max() < count:
        raise ValueError(
            f"fit: targets ({role}) expected classes from 0 to {count - 1}, as {model.name} has "
            f"{count} outputs, received {y.min()} to {y.max()}. Number the classes from 0, or give "
            "the last layer an output for each"
        )


def _is_scalar(function: Callable[..., Any], y: Any, outputs: Any) -> bool:
    """Whether a function that is none of Keras's gives one value for a whole batch."""
    module = getattr(function, "__module__", None) or ""
    if module.startswith("keras."):
        return False
    y = keras.ops.cast(y, "float32")
    if len(y.shape) + 1 == len(outputs.shape) and outputs.shape[-1] == 1:
        y = y[..., None]  # as Keras does before it calls
    return tuple(keras.ops.shape(function(y, outputs))) == ()
