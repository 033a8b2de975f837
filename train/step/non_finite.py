"""Finds steps whose loss or gradients are NaN or infinite, although a call runs many steps.

Each replica remembers, inside the compiled loop, the first step whose own loss was not finite. That
costs one comparison a step; the host reads it after the call. With `--on-nan skip` the gradients
are checked too, and a step that is not finite leaves weights, moving statistics and sums unchanged.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from records.decoding.parsing import read_feature
from records.examples import AnyOrder, Examples, plan_steps
from records.sets.schema import IMAGE, TABULAR, Schema
from train.devices.strategy import Cluster
from train.devices.tensorflow_private import copies_of

_NEVER = -1  # no step was noted
_IDS, _COLUMNS = 8, 8  # at most so many are named in a message


class NonFiniteSteps:
    """Device variables: how many steps were skipped, and the first one that was not finite.

    Attributes:
      skipped: int64 [], steps skipped since this process started.
    """

    def __init__(self, model: keras.Model, sums: list[tf.Variable]):
        """Call it in the strategy's scope.

        Args:
          model: a skipped step does not change its moving statistics,
          sums: nor these sums of each replica.
        """
        once = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.skipped = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=once)
        self._first = tf.Variable(
            _NEVER,
            dtype=tf.int64,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,  # each replica keeps its own
            aggregation=once,
        )
        moving = [v.value for v in model.non_trainable_variables if v.dtype.startswith("float")]
        self._kept = [*sums, *moving]

    def note(self, loss: tf.Tensor, step: tf.Tensor) -> None:
        """Notes in a replica the first step whose loss [] is not finite."""
        first = self._first.read_value()
        is_first = ~tf.math.is_finite(loss) & (first == _NEVER)
        self._first.assign(tf.where(is_first, step, first))

    def read(self) -> list[tf.Tensor]:
        """In a replica: what a step must not change if it is skipped."""
        return [v.read_value() for v in self._kept]

    def put_back(self, values: list[tf.Tensor]) -> None:
        """In a replica: undoes what a skipped step changed."""
        for variable, value in zip(self._kept, values, strict=True):
            variable.assign(value)

    def first(self, cluster: Cluster) -> int:
        """The first step noted by any replica; every worker must call it."""
        noted = [int(part.numpy()) for part in copies_of(self._first)]
        said = cluster.exchange(min((n for n in noted if n != _NEVER), default=_NEVER))
        return int(min((n for n in said[:, 0] if n != _NEVER), default=_NEVER))


def describe_batch(examples: Examples, order: AnyOrder, epoch: int, step: int) -> str:
    """The ids of a batch's examples, and the ranges of their inputs, in two sentences."""
    whole = slice(0, order.global_batch_size)
    found, weights, *_ = plan_steps(examples, order, epoch, step, 1, whole)
    numbers = found[0][weights[0] > 0]
    ids = [_identify(examples, int(n)) for n in numbers[:_IDS]]
    more = f" and {len(numbers) - _IDS} more" if len(numbers) > _IDS else ""
    rows = examples.loader.load(numbers) if examples.inputs is None else examples.inputs[numbers]
    return f"Its batch: {', '.join(ids)}{more}. {_describe_ranges(examples.schema, rows)}"


def _identify(examples: Examples, number: int) -> str:
    """An example's id, or its record number where the set has none."""
    name, values = examples.schema.id_name, list[Any]()
    if name:
        (payload,) = examples.loader.read(np.array([number]))
        values = read_feature(payload, name)
    if not values:
        return f"record {number}"
    return str(values[0], "utf-8", "replace") if isinstance(values[0], bytes) else str(values[0])


def _describe_ranges(schema: Schema, rows: np.ndarray) -> str:
    """The smallest and largest value, by feature for tables, and how many are not finite."""
    if schema.modality != TABULAR or rows.ndim != 2:
        kind = "pixels" if schema.modality == IMAGE and rows.ndim == 4 else "inputs"
        return f"Its {kind}: {_range(rows)}"
    names = list(schema.feature_names or map(str, range(rows.shape[1])))
    # NaN and infinity first, then the largest values: one of them is likely the cause.
    finite = np.isfinite(rows)
    size = np.where(finite, np.abs(rows), np.inf).max(0)
    chosen = np.argsort(-size, kind="stable")[:_COLUMNS]
    ranges = [f"{names[i]} {_range(rows[:, i])}" for i in chosen]
    more = f" and {len(names) - _COLUMNS} smaller ones" if len(names) > _COLUMNS else ""
    return f"Its features: {', '.join(ranges)}{more}"


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    span = f"{finite.min():g} to {finite.max():g}" if finite.size else "no finite value"
    lost = values.size - finite.size
    return span + (f" ({lost} not finite)" if lost else "")
