"""Arrays in memory as the examples of a run."""

import dataclasses
import hashlib
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from records.examples import Examples
from records.loading.load import Loader
from records.roles import Data
from records.sets.schema import TABULAR, Schema
from records.shards.index import RecordIndex
from train.step.keras_objective import Rows
from train.step.rows import RowFormat

# What Keras's `fit` also takes.
_KERAS = {
    "initial_epoch": "with run_dir the same call goes on in the epoch and step where it stood",
    "steps_per_epoch": "an epoch is every example once. For shorter ones give a part of the arrays",
    "validation_steps": "all of validation_data is measured. Give a part of it",
    "validation_freq": "every epoch ends with a validation. Give a part of validation_data",
    "validation_batch_size": "batch_size is that of the validation, too",
    "x": "the arrays are the first: train.fit(model, x, y) or train.fit(model, (x, y))",
}


def check_keras_arguments(given: Iterable[str]) -> None:
    """Raises ValueError for an argument of Keras's `fit` that is none here; says what to do."""
    for name in given:
        if name in _KERAS:
            raise ValueError(f"fit: expected no {name}: {_KERAS[name]}")


def as_keras_takes(
    data: Any,
    y: Any,
    sample_weight: Any,
    class_weight: dict[int, float] | None,
    validation: Any,
    split: float,
) -> tuple[Any, Any]:
    """(data, validation data) of arguments as Keras's `fit` has them.

    Args:
      data: `(x, y)` or `(x, y, sample_weight)`, or x alone beside `y`; or an opened set, as it is.
      y, sample_weight, class_weight, validation, split: as Keras's; None or 0 where not given.

    Raises:
      ValueError: they do not fit together, or what they are for does not take them.
    """
    given = {"y": y, "sample_weight": sample_weight, "class_weight": class_weight}
    given |= {"validation_data": validation, "validation_split": split or None}
    if isinstance(data, Data):
        if named := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"fit: {data.schema.name} expected no {', '.join(named)}: a prepared set has its "
                "own targets, and its role validation validates. Arrays take them: "
                "records.make_arrays gives a set's batches"
            )
        return data, None
    if y is not None:
        data = (data, y)
    x, targets = _checked(data, "data")
    if [len(targets) > 1, sample_weight is not None, class_weight is not None].count(True) > 1:
        raise ValueError(
            "fit: expected one of class_weight, sample_weight and (x, y, sample_weight), "
            "received several: multiply them"
        )
    if sample_weight is not None:
        x, targets = _checked((x, *targets, sample_weight), "data")
    if validation is None and split:
        count = len(targets[0])
        cut = math.floor(count * (1 - split)) if 0 < split < 1 else 0
        if not 0 < cut < count:
            raise ValueError(
                f"fit: validation_split expected a share that leaves examples on both sides, "
                f"received {split} of {count}"
            )
        validation = tf.nest.map_structure(lambda a: a[cut:], (x, *targets))
        x, *targets = tf.nest.map_structure(lambda a: a[:cut], (x, *targets))
    if class_weight is not None:  # after the cut: validation has none, as in Keras
        targets = (*targets, _of_classes(targets[0], class_weight))
    return (x, *targets), validation


def _of_classes(y: np.ndarray, class_weight: dict[int, float]) -> np.ndarray:
    """Each row's weight float32 [N]; 1 for a class without one."""
    classes = y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(-1)
    found = [class_weight.get(int(c), 1.0) for c in np.round(classes)]
    return np.array(found, np.float32)


def open_arrays(data: Any, validation: Any) -> tuple[dict[str, Examples], Rows, str]:
    """Examples by role, what a row of them holds, and a name of the arrays' content.

    Both are `(x, y)` or `(x, y, sample_weight)`; `validation` may be None.

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
    if isinstance(data, tf.data.Dataset | keras.utils.PyDataset):
        raise ValueError(
            f"fit: {name} expected arrays or a prepared set, received {type(data).__name__}, whose "
            "order cannot be taken up in its middle. Give the arrays that it was made of, or make "
            "a set of the files: python -m builders.convert FILE_OR_FOLDER --name my_set"
        )
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
            "keras.layers.TextVectorization or a prepared set first; classes are numbered from 0"
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
