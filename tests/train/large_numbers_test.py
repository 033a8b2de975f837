"""Columns around 1.7e9, such as time stamps: they train, predict and export as small ones do."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from records.roles import Data, open_data
from records.verify.__main__ import main as verify
from tests.support.tiny_sets import TinyBuilder
from train import export, predict, run
from train.assembly.bin_edges import find_thresholds

OFFSET, ROWS = 1_700_000_000, 300


def _values(offset: float) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 1000, ROWS)
    return np.stack([offset + np.arange(ROWS) % 3, noise], 1)


def _build(folder: Path, values: np.ndarray, **tensor: Any) -> str:
    names = ["a", "b", "c"]
    features = {
        "values": tfds.features.Tensor(shape=(2,), **tensor),
        "label": tfds.features.ClassLabel(names=names),
    }
    rows = [{"values": v, "label": names[i % 3]} for i, v in enumerate(values)]
    builder = TinyBuilder(features, {"train": rows}, folder, feature_names=["when", "noise"])
    builder.download_and_prepare()
    return str(builder.data_dir)


def _open(folder: Path, values: np.ndarray, **tensor: Any) -> Data:
    return open_data(_build(folder, values, **tensor))


def test_a_table_of_time_stamps_trains_predicts_and_exports(tmp_path: Path) -> None:
    values, run_dir = _values(OFFSET), tmp_path / "run"
    path = _build(tmp_path / "data", values, dtype=np.int64)
    flags = ["--model=mlp_small", "--epochs=20", "--strategy=one_device", "--no-xla"]
    assert run.main([f"--dataset={path}", *flags, f"--run-dir={run_dir}"]) == 0
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["validation"]["accuracy"] == 1.0
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    with open(source, "w", newline="") as file:
        csv.writer(file).writerows([["when", "noise"], *values.tolist()])
    assert predict.main([str(run_dir), str(source), f"--output={output}"]) == 0
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == ["a", "b", "c"] * (ROWS // 3)
    assert export.main([str(run_dir), f"--check={source}"]) == 0
    saved = tf.saved_model.load(str(run_dir / "saved_model"))
    found = saved.signatures["serving_default"](tf.constant(values, tf.float64))
    expected = [[float(row[f"probability_{c}"]) for c in "abc"] for row in rows]
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("tensor", "offset"),
    [
        ({"dtype": np.int32}, OFFSET),
        ({"dtype": np.uint64}, 2**63),
        ({"dtype": np.float64, "encoding": "bytes"}, OFFSET + 0.25),
    ],
)
def test_every_digit_is_read(tmp_path: Path, tensor: dict[str, Any], offset: float) -> None:
    values = _values(0) * (2**12 if offset == 2**63 else 1)  # float64 has steps of 2,048 there
    values = values.astype(tensor["dtype"]) + tensor["dtype"](offset)
    data = _open(tmp_path, values, **tensor)
    examples = data.examples("train")
    assert examples.inputs is not None and examples.inputs.dtype == np.float64
    np.testing.assert_array_equal(examples.inputs, values.astype(np.float64))
    wanted = values[examples.numbers] - tensor["dtype"](offset)
    mean, variance = data.statistics()
    np.testing.assert_allclose(mean - float(offset), wanted.mean(0), atol=1e-6 * offset**0.5)
    np.testing.assert_allclose(variance, wanted.astype(np.float64).var(0), rtol=1e-9)
    assert verify([data.schema.directory, "--leakage"]) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_float32_has_rounded_already_is_refused(tmp_path: Path, dtype: Any) -> None:
    data = _open(tmp_path, _values(OFFSET).astype(dtype), dtype=dtype)  # TFDS stores float32
    with pytest.raises(ValueError, match=r"column 0 \('when'\): .* steps of 128.*encoding='bytes'"):
        data.statistics()


def test_a_fill_value_names_its_column(tmp_path: Path) -> None:
    values = _values(0).astype(np.float32)
    values[::7, 0] = 1e30
    data = _open(tmp_path, values, dtype=np.float32)
    with pytest.raises(ValueError, match=r"column 0 \('when'\): .*missing value: replace them"):
        data.statistics()


def test_thresholds_of_time_stamps_lie_between_them(tmp_path: Path) -> None:
    data = _open(tmp_path, _values(OFFSET), dtype=np.int64)
    when = find_thresholds(data.examples("train"), 3)[0]
    np.testing.assert_allclose(when - OFFSET, [0, 0.5, 1.5, 2], atol=1e-6)
