"""Several classes at once and numbers as targets: as TFDS's own reader gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from records.batches import make_arrays, make_dataset
from records.decoding.input_config import InputConfig
from records.opened import open_set
from records.roles import open_data
from records.sets.schema import read_schema
from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tests.support.tiny_sets import build_tiny

features = tfds.features
ROWS = 40
X = features.Tensor(shape=(2,), dtype=np.float32)
CLASSES = features.ClassLabel(names=["a", "b", "c"])


def _one_hot(chosen: Any) -> np.ndarray:
    return np.isin(np.arange(3), chosen).astype(np.float32)


# (feature, value of record i, metadata, --task, task, names, what TFDS's value stands for)
KINDS: dict[str, tuple[Any, Any, dict[str, Any], str | None, str, tuple[str, ...], Any]] = {
    "number": (
        *(features.Scalar(np.float32), lambda i: i / 7, {}, None, REGRESSION, ("label",)),
        lambda v: np.array([v], np.float32),
    ),
    "numbers": (
        *(features.Tensor(shape=(2,), dtype=np.float64), lambda i: [i / 7, -i], {}, None),
        *(REGRESSION, ("label_0", "label_1"), np.float32),
    ),
    "named numbers": (
        *(features.Tensor(shape=(2,), dtype=np.float32), lambda i: [i / 7, -i]),
        *({"label_names": ["price", "size"]}, None, REGRESSION, ("price", "size"), np.float32),
    ),
    "time stamps": (  # 2^24 is the last whole number before float32 leaves gaps
        *(features.Tensor(shape=(1,), dtype=np.float64, encoding="bytes"),),
        *(lambda i: [1.7e9 + i / 8], {}, None, REGRESSION, ("label_0",), np.float64),
    ),
    "whole number": (
        *(features.Scalar(np.int64), lambda i: 1_700_000_000 + i, {}, REGRESSION, REGRESSION),
        *(("label",), lambda v: np.array([v], np.float64)),
    ),
    "classes": (
        *(features.Sequence(CLASSES), lambda i: list(range(i % 4)), {}, None, MULTI_LABEL),
        *(("a", "b", "c"), _one_hot),
    ),
    "one of the classes": (
        *(CLASSES, lambda i: i % 3, {}, MULTI_LABEL, MULTI_LABEL, ("a", "b", "c"), _one_hot),
    ),
    "truth values": (
        *(features.Tensor(shape=(3,), dtype=np.bool_), lambda i: [i % 2, 1, i % 3 == 0], {}, None),
        *(MULTI_LABEL, ("label_0", "label_1", "label_2"), np.float32),
    ),
    "one class": (CLASSES, lambda i: i % 3, {}, None, SINGLE_LABEL, ("a", "b", "c"), np.int32),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_batches_equal_tfds_own_reader(kind: str, cache: str, tmp_path: Path) -> None:
    feature, value, metadata, asked, task, names, expected = KINDS[kind]
    rows = [{"x": [i, -i], "label": value(i)} for i in range(ROWS)]
    metadata = metadata | {"label_feature": "label"}
    directory = build_tiny(tmp_path, {"x": X, "label": feature}, {"train": rows}, **metadata)
    schema = read_schema(directory, task=asked)
    assert (schema.task, schema.class_names, schema.label_name) == (task, names, "label")
    assert (schema.input_name, schema.num_classes) == ("x", len(names))
    wanted = [
        (example["x"], expected(example["label"]))
        for example in tfds.as_numpy(tfds.builder_from_directory(directory).as_dataset("train"))
    ]
    config = InputConfig(cache=cache, task=asked)
    data = open_data(directory, config=config)
    parts = [data.examples(role) for role in ("train", "validation")]
    assert sorted(np.concatenate([p.numbers for p in parts])) == list(range(ROWS))
    for examples in parts:
        for number, label in zip(examples.numbers, examples.subset_labels, strict=True):
            np.testing.assert_array_equal(label, wanted[number][1])
    found = list(make_arrays(data, "train", global_batch_size=8, pad=True))
    for inputs, labels, _ in found:
        for x, label in zip(inputs, labels, strict=True):
            np.testing.assert_array_equal(label, wanted[int(x[0])][1])
    # The same out of tf.data.
    batches = make_dataset(data, "train", global_batch_size=8, pad=True)
    for ours, theirs in zip(found, batches.as_numpy_iterator(), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_one_set_is_read_for_two_targets(tmp_path: Path) -> None:
    """Each has an index of its own beside the shards: neither is read as the other."""
    spec = {"x": X, "label": CLASSES, "tags": features.Sequence(CLASSES)}
    rows = [{"x": [i, i], "label": i % 3, "tags": [i % 3, 2]} for i in range(ROWS)]
    directory = build_tiny(tmp_path, spec, {"train": rows}, input_feature="x")
    for _ in range(2):
        one = open_set(directory).read_index("train")
        several = open_set(directory, task=MULTI_LABEL).read_index("train")
        assert one.target is None and one.label.tolist() == [i % 3 for i in range(ROWS)]
        assert several.target is not None and not several.label.any()
        np.testing.assert_array_equal(several.target[1], [0, 1, 1])
    names = sorted(path.name for path in Path(directory).glob("*.npz"))
    assert names == ["train.index.npz", "train.multi_label.index.npz"]


@pytest.mark.parametrize("is_named", [True, False])
def test_the_input_is_no_target(is_named: bool, tmp_path: Path) -> None:
    """A table with a class, and --task regression: its columns are no numbers to predict."""
    columns = features.Tensor(shape=(2,), dtype=np.float32)
    rows = [{"features": [i, i], "label": i % 2} for i in range(4)]
    metadata: dict[str, Any] = {"feature_names": ["a", "b"]}
    metadata |= {"input_feature": "features"} if is_named else {}
    spec = {"features": columns, "label": features.ClassLabel(num_classes=2)}
    directory = build_tiny(tmp_path, spec, {"train": rows}, **metadata)
    said = "--task regression expected one number or vector" if is_named else "to be two features"
    with pytest.raises(ValueError, match=said):
        read_schema(directory, None if is_named else "features", REGRESSION)


@pytest.mark.parametrize(
    ("feature", "value", "task", "said"),
    [
        (features.Scalar(np.float32), float("nan"), None, r"finite numbers, received \[nan\]"),
        (features.Sequence(np.int64), [1], None, "one ClassLabel expected, received label"),
        (features.Scalar(np.int64), 3, None, "Say what it is with --task regression"),
        (features.Text(), "x", REGRESSION, "--task regression expected one number or vector"),
        (CLASSES, 1, REGRESSION, "--task regression expected one number"),
        (features.Tensor(shape=(2,), dtype=np.int64), [0, 2], MULTI_LABEL, r"received \[0.0, 2.0"),
    ],
)
def test_what_no_target_can_be_made_of(
    feature: Any, value: Any, task: str | None, said: str, tmp_path: Path
) -> None:
    rows = [{"x": [i, i], "label": value} for i in range(4)]
    directory = build_tiny(
        tmp_path, {"x": X, "label": feature}, {"train": rows}, label_feature="label"
    )
    with pytest.raises(ValueError, match=said):
        open_data(directory, config=InputConfig(task=task)).examples("train")
