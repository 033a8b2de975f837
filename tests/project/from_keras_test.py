"""Runs the examples of docs/howto/from_keras.md, and compares what Keras says with NumPy."""

import functools
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import records
from train import export

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "from_keras.md"


def test_the_examples_run_and_are_true(
    tmp_path: Path,
    synthetic_data_dir: Path,
    finished_runs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "data").symlink_to(synthetic_data_dir)
    saved = tmp_path / "runs" / "my_run" / "saved_model"
    assert export.main([str(finished_runs["fetal_health"]), "--output", str(saved)]) == 0
    monkeypatch.chdir(tmp_path)
    # Keras would compile by XLA, which takes most of a test's time.
    compile_ = functools.partialmethod(keras.Model.compile, jit_compile=False)
    monkeypatch.setattr(keras.Model, "compile", compile_)
    found = re.findall(
        r"<!-- python: (.+?) -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.S
    )
    names: dict[str, Any] = {}
    for name, source in found:
        exec(compile(source, name, "exec"), names)
        if name == "fit":
            _check_fit(names)
    assert [name for name, _ in found] == ["fit", "loop", "saved model"]
    assert names["answer"]["probabilities"].numpy().sum(1) == pytest.approx([1, 1])
    assert "425 test examples, accuracy 0.9" in capsys.readouterr().out


def _check_fit(names: dict[str, Any]) -> None:
    model, data = names["model"], names["data"]
    counts = {role: data.examples(role).num_examples for role in ("train", "validation", "test")}
    assert len(model.history.history["loss"]) == 15
    assert int(model.optimizer.iterations) == 15 * -(-counts["train"] // 32)
    labels = data.examples("test").subset_labels
    assert names["logits"].shape == (counts["test"], 3)
    accuracy = float((names["logits"].argmax(1) == labels).mean())
    assert names["accuracy"] == pytest.approx(accuracy), "425 rows count, not 14 batches of 32"
    weights = {0: 1.0, 1: 2.0, 2: 3.0}
    model.fit(names["train"], class_weight=weights, shuffle=False, verbose=0)


def test_padding_comes_with_weights_and_only_where_it_is_asked_for(
    synthetic_data_dir: Path,
) -> None:
    data = records.open_data("fetal_health/synthetic", str(synthetic_data_dir))
    test = records.make_dataset(data, "test", pad=True)
    # Always class 0: what it gets right is the number of its examples.
    model = keras.Sequential([keras.Input((21,)), keras.layers.Lambda(lambda x: x[:, :3] * 0.0)])
    model.compile(weighted_metrics=["accuracy"], loss="sparse_categorical_crossentropy")
    labels = data.examples("test").subset_labels
    assert model.evaluate(test, verbose=0)[1] == pytest.approx(np.mean(labels == 0))
    assert len(model.predict(test, verbose=0)) == 14 * 32 > len(labels) == 425


def test_the_page_of_own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = PAGE.with_name("own_model.md").read_text("utf-8")
    (source,) = re.findall(r"<!-- python: own model -->\n```python\n(.*?)```", page, re.S)
    names: dict[str, Any] = {}
    exec(compile(source, "own model", "exec"), names)
    assert len(names["history"].history["val_accuracy"]) == 5
    x, y, model = names["x"][800:], names["y"][800:], names["model"]
    right = float(((model.predict(x, verbose=0)[:, 0] > 0) == y).mean())
    assert names["history"].history["val_accuracy"][-1] == pytest.approx(right)
    (module,) = re.findall(r"```python\n# my_net.py\n(.*?)```", page, re.S)
    exec(compile(module, "my_net", "exec"), names)
    spec = keras.KerasTensor((21,), "float32")
    assert names["build"](spec, 3).output_shape == (None, 3)
