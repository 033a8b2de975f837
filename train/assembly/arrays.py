"""Arrays in memory as the examples of a run."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from records.examples import Examples
from records.loading.load import Loader
from records.sets.schema import TABULAR, Schema
from records.shards.index import RecordIndex
from train.step.keras_objective import Rows
from train.step.rows import RowFormat


def open_arrays(data: Any, validation: Any) -> tuple[dict[str, Examples], Rows, str]:
    """Examples by role, what a row of them holds, and a name of the arrays' content.

    Args:
      data: `(x, y)` or `(x, y, sample_weight)`.
      validation: the same of the examples that validate, or None.

    Raises:
      ValueError: no arrays, or not of one length; or validation has other shapes.
    """
    given = {"train": _checked(data, "data")}
    if validation is not None:
        given["validation"] = _checked(validation, "validation_data")
    if any(len(targets) == 2 for _, targets in given.values()):  # weights of 1 where none are
        ones = {role: np.ones(len(t[0]), np.float32) for role, (_, t) in given.items()}
        given = {role: (x, (t[0], *(t[1:] or (ones[role],)))) for role, (x, t) in given.items()}
    x, targets = given["train"]
    single = len(tf.nest.flatten(x)) == 1 and x is tf.nest.flatten(x)[0]
    inputs, form = RowFormat.of(x), RowFormat.of(targets)
    for role, (other, wanted) in given.items():
        found = RowFormat.of(other), RowFormat.of(wanted)
        if found != (inputs, form):
            raise ValueError(
                f"fit: validation_data expected the shapes and types of data, {inputs.structure}, "
                f"{form.structure}; received {found[0].structure}, {found[1].structure} ({role})"
            )
    examples, content = {}, hashlib.sha256()
    for role, (own, wanted) in given.items():
        examples[role] = _examples(own if single else inputs.join(own), form.join(wanted))
        for array in (*tf.nest.flatten(own), *wanted):
            content.update(f"{array.shape} {array.dtype}".encode())
            content.update(np.ascontiguousarray(array).data.cast("B"))
    return examples, Rows(None if single else inputs, form), content.hexdigest()[:16]


def _examples(rows: np.ndarray, targets: np.ndarray) -> Examples:
    """Of inputs [N, ...] and packed targets int64 [N, W]."""
    schema, index = _schema(len(rows)), _index(len(rows))
    return Examples(
        schema=schema,
        index=index,
        numbers=np.arange(len(rows)),
        split_labels=targets,
        spec=tf.TensorSpec(rows.shape[1:], rows.dtype),
        lengths=None,
        cached=rows,
        loader=Loader(schema, index, lambda parsed: parsed),
    )


def _checked(data: Any, name: str) -> tuple[Any, tuple[np.ndarray, ...]]:
    """(inputs, (y,) or (y, sample weight)) as arrays of one length."""
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise ValueError(
            f"fit: {name} expected (x, y) or (x, y, sample_weight) of arrays, the name of a "
            f"prepared set or what records.open_data gives, received {type(data).__name__}"
        )
    x, y, *weight = data
    if isinstance(x, list):
        x = tuple(x)
    x = tf.nest.map_structure(_as_array, x)
    if isinstance(y, dict | tuple):
        raise ValueError(
            f"fit: {name} expected one array of targets, received {len(y)}: models of several "
            "outputs are not trained here. Keras's own fit does"
        )
    targets = (_as_array(y), *(np.asarray(w, np.float32) for w in weight))
    lengths = {len(a) if a.ndim else 0 for a in (*tf.nest.flatten(x), *targets)}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"fit: {name} expected arrays of one length, the first dimension, received "
            f"{', '.join(map(str, sorted(lengths)))} (a list is one input for each of its items; "
            "numpy.asarray makes one array of it)"
        )
    return x, targets


def _as_array(values: Any) -> np.ndarray:
    """As Keras's `fit` takes it: float32 of floats; whole numbers in int64, which live on a GPU."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"fit: an array expected numbers, received {array.dtype}. Texts go through "
            "keras.layers.TextVectorization or a prepared set first"
        )
    if array.dtype.kind == "b":
        return array.astype(np.float32)
    if array.dtype == np.uint8:
        return array
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def _schema(count: int) -> Schema:
    """Of nothing but rows: no id, no group, no classes."""
    return Schema(
        name="arrays",
        directory="",
        modality=TABULAR,
        input_name="x",
        label_name="y",
        id_name=None,
        group_name=None,
        group_is_text=False,
        grey_name=None,
        input_shape=(),
        input_dtype="float32",
        class_names=(),
        split_counts={"train": count},
        shards={},
        shard_lengths={},
        metadata={},
    )


def _index(count: int) -> RecordIndex:
    """Of rows that lie in no file."""
    zeros: dict[str, Any] = {
        field.name: np.zeros(count, np.int64)
        for field in dataclasses.fields(RecordIndex)
        if field.default is dataclasses.MISSING and field.name != "paths"
    }
    return RecordIndex(paths=(), **zeros)
