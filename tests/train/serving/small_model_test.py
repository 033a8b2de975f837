"""`train.export --format litert`: the file predicts as the run does, on the same examples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.standardization import build_standardization, in_units
from train import export
from train.assembly.predictions import predict_split
from train.folders.finished_run import open_run
from train.folders.model_input import ModelInput
from train.serving.small_model import convert, input_name, predict_small


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri"])
def test_the_file_predicts_as_the_run(
    name: str, finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    run, place = open_run(finished_runs[name]), tmp_path / "new" / "model.tflite"
    flags = ["--format=litert", f"--output={place}", f"--data-dir={synthetic_data_dir}"]
    assert export.main([str(run.path), *flags]) == 0
    printed = capsys.readouterr().out
    assert "float32, input" in printed and "the same label for 100.000 %" in printed
    _, examples, expected = predict_split(run, "validation", str(synthetic_data_dir))
    inputs = export._inputs(examples, np.arange(examples.num_examples))
    found = predict_small(place.read_bytes(), inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [path.name for path in place.parent.iterdir()] == ["model.tflite"]


def _table(rng: np.random.Generator) -> tuple[keras.Model, ModelInput, np.ndarray]:
    """Columns of very different sizes, as tables have them."""
    sizes = np.array([1e-3, 1, 200, 5e4], np.float32)
    rows = (rng.normal(size=(300, 4)) * sizes).astype(np.float32)
    inputs = keras.Input((4,))
    shifted = build_standardization(rows.mean(0), rows.var(0), inputs)(inputs)
    hidden = keras.layers.Dense(16, activation="relu")(shifted)
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    wanted = ModelInput("a/1.0.0", "tabular", ("a", "b", "c"), tuple("wxyz"))
    return model, wanted, rows


def _pictures(rng: np.random.Generator) -> tuple[keras.Model, ModelInput, np.ndarray]:
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling2D()(x)))
    wanted = ModelInput("a/1.0.0", "image", ("a", "b", "c"), image_size=16, channels=3)
    return model, wanted, rng.integers(0, 256, (100, 16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize("make", [_table, _pictures])
def test_int8_is_close_and_small_columns_do_not_vanish(make: Any) -> None:
    keras.utils.set_random_seed(1)
    model, wanted, inputs = make(np.random.default_rng(0))
    expected = tf.nn.softmax(model(inputs)).numpy()
    found = predict_small(convert(model, wanted, inputs[:80]), inputs)
    assert np.abs(found - expected).mean() < 0.01
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.95
    with_float = predict_small(convert(model, wanted), inputs)
    np.testing.assert_allclose(with_float, expected, atol=1e-5)
    assert input_name(wanted) in ("features", "picture")


def test_numbers_and_several_classes_leave_the_file_as_they_leave_the_run() -> None:
    keras.utils.set_random_seed(1)
    model, wanted, inputs = _table(np.random.default_rng(0))
    scale = (5000.0, 0.0, -3.0), (300.0, 1e-3, 2.0)
    numbers = dataclasses.replace(wanted, task="regression", scale=scale)
    expected = in_units(model, *scale)(inputs).numpy()
    assert expected.dtype == np.float64
    np.testing.assert_allclose(expected, model(inputs) * scale[1] + scale[0], rtol=1e-6)
    found = predict_small(convert(in_units(model, *scale), numbers), inputs)
    np.testing.assert_allclose(found / scale[1], expected / scale[1], atol=1e-5)
    several = dataclasses.replace(wanted, task="multi_label", thresholds=(0.5,) * 3)
    found = predict_small(convert(model, several), inputs)
    np.testing.assert_allclose(found, tf.sigmoid(model(inputs)), atol=1e-5)
    stamps = dataclasses.replace(numbers, scale=((1.7e9, 0.0, 0.0), scale[1]))
    with pytest.raises(ValueError, match="'a' of mean 1700000000 .*rounded to 128"):
        convert(in_units(model, *(stamps.scale or ())), stamps)


def test_what_cannot_be_converted_leaves_no_file(
    finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    """The converter knows no recurrent layer of ours."""
    place = tmp_path / "model.tflite"
    place.write_bytes(b"an earlier one")
    flags = ["--format=litert", f"--output={place}", f"--data-dir={synthetic_data_dir}"]
    assert export.main([str(finished_runs["song_lyrics"]), *flags]) == 1
    error = capsys.readouterr().err
    assert "error: export: a model that LiteRT can hold expected" in error
    assert "Export it as a SavedModel: --format savedmodel" in error
    assert place.read_bytes() == b"an earlier one" and len(list(tmp_path.iterdir())) == 1


def test_flags_of_another_format_are_refused(capsys: Any) -> None:
    for flags, said in (
        (["--int8"], "--int8 and --data-dir expected with --format litert"),
        (["--format=litert", "--check=x.csv"], "--check expected with --format savedmodel"),
    ):
        with pytest.raises(SystemExit):
            export.main(["run", *flags])
        assert said in capsys.readouterr().err
