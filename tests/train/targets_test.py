"""Several classes at once and numbers: trained, measured and repeated as one class is."""

from __future__ import annotations

import csv
import functools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from records.decoding.input_config import InputConfig
from records.describe.__main__ import describe
from records.opened import open_set
from records.roles import Data, Fold, open_data
from tests.support.tiny_models import take_tiny_backbone
from tests.support.tiny_sets import build_tiny
from train import baseline
from train.assembly.predictions import predict_split
from train.folders.finished_run import open_run
from train.measures.target_scores import make_measure
from train.run import main
from train.serving.small_model import predict_small
from train.step.train_step import TrainStep

features = tfds.features
ROWS = 330  # the last batch of 64 is filled up
TIMES = {"examples_per_s", "seconds", "flops_per_example", "flops_per_s", "peak_share"}
TABLE = ["--model=mlp_small", "--epochs=3", "--global-batch-size=64", "--no-xla"]


def _make_sets(base: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4)).astype(np.float32)
    # The first is a time stamp, which float32 rounds to 128 seconds.
    y = np.stack([1.7e9 + 300.0 * np.float64(x[:, 0] * x[:, 1]), 0.01 * x[:, 2]], 1)
    there = x[:, :3] > [0.0, 0.5, 1.0]
    vector = features.Tensor(shape=(4,), dtype=np.float32)
    kinds: dict[str, tuple[Any, Any]] = {
        "numbers": (features.Tensor(shape=(2,), dtype=np.float64, encoding="bytes"), list(y)),
        "classes": (
            features.Sequence(features.ClassLabel(names=["a", "b", "c"])),
            [np.flatnonzero(row).tolist() for row in there],
        ),
    }
    for name, (feature, labels) in kinds.items():
        rows = [{"x": a, "label": b} for a, b in zip(x, labels, strict=True)]
        spec, parts = {"x": vector, "label": feature}, {"train": rows[:250], "test": rows[250:]}
        build_tiny(base / name, spec, parts, label_feature="label")
        other = {"test": rows[250:290]}
        build_tiny(base / f"other_{name}", spec, other, label_feature="label")


@pytest.fixture(scope="module")
def sets(once_per_session: Callable[..., Path]) -> dict[str, str]:
    base = once_per_session("target_sets", _make_sets)
    return {name: str(base / name / "tiny" / "1.0.0") for name in ("numbers", "classes")}


@pytest.fixture(scope="module")
def runs(sets: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("target_runs")
    for name, directory in sets.items():
        flags = [f"--dataset={directory}", f"--run-dir={base / name}", "--evaluate-test"]
        assert main([*flags, *TABLE, "--dropout=0", "--strategy=one_device"]) == 0
    return {name: base / name for name in sets}


def _metrics(run: Path) -> Any:
    return json.loads((run / "metrics.json").read_text())


def test_numbers_are_measured_as_by_scikit_learn(runs: dict[str, Path]) -> None:
    run = open_run(runs["numbers"])
    for role in ("validation", "test"):
        _, examples, said = predict_split(run, role, None)
        y, found = examples.subset_labels, _metrics(run.path)[role]
        assert said.dtype == y.dtype == np.float64 and np.any(np.float32(y[:, 0]) != y[:, 0])
        assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y, said), rel=1e-6)
        assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, said), rel=1e-6)
        assert found["r2"] == pytest.approx(metrics.r2_score(y, said), abs=1e-6)
        # In the user's units: both numbers lie about their own means.
        assert np.all(np.abs(said.mean(0) - y.mean(0)) < 2 * y.std(0))
    # The scale is that of the training examples, not of all.
    _, train, _ = predict_split(run, "train", None)
    assert run.input.scale is not None
    y = train.subset_labels
    np.testing.assert_allclose(run.input.scale, [y.mean(0), y.std(0)], rtol=1e-12)


def test_classes_are_measured_as_by_scikit_learn(runs: dict[str, Path]) -> None:
    run = open_run(runs["classes"])
    for role in ("validation", "test"):
        _, examples, said = predict_split(run, role, None)
        y, found = examples.subset_labels.astype(int), _metrics(run.path)[role]
        decided = said >= 0.5
        expected = {
            "loss": np.mean(
                [metrics.log_loss(y[:, c], said[:, c], labels=[0, 1]) for c in range(3)]
            ),
            "macro_f1": metrics.f1_score(y, decided, average="macro"),
            "micro_f1": metrics.f1_score(y, decided, average="micro"),
            "mean_average_precision": metrics.average_precision_score(y, said, average="macro"),
        }
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6), name
    # Thresholds are those of the best F1 on validation; no other split chose them.
    _, examples, said = predict_split(run, "validation", None)
    for c, chosen in enumerate(run.input.thresholds):
        y, p = examples.subset_labels[:, c], said[:, c]
        best = max(metrics.f1_score(y, p >= t, zero_division=0) for t in np.unique(p))
        assert metrics.f1_score(y, p >= chosen) == pytest.approx(best)


@pytest.mark.parametrize("name", ["numbers", "classes"])
def test_two_replicas_equal_one(
    name: str, sets: dict[str, str], runs: dict[str, Path], tmp_path: Path
) -> None:
    flags = [f"--dataset={sets[name]}", f"--run-dir={tmp_path}", "--evaluate-test", "--dropout=0"]
    assert main([*flags, *TABLE, "--strategy=mirrored"]) == 0
    ours, theirs = (
        keras.models.load_model(path / "model.keras") for path in (tmp_path, runs[name])
    )
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    first, second = ((p / "history.csv").read_text().splitlines() for p in (tmp_path, runs[name]))
    for a, b in zip(first[1:], second[1:], strict=True):
        for key, x, y in zip(first[0].split(","), a.split(","), b.split(","), strict=True):
            assert key in TIMES or float(x) == pytest.approx(float(y), rel=1e-4, abs=1e-5), key


@pytest.mark.parametrize("name", ["numbers", "classes"])
def test_the_sums_of_an_epoch_are_scikit_learns(name: str) -> None:
    """Of a batch with rows of weight 0, by the objective's own sums."""
    import tensorflow as tf

    from train.step.objective import ClassesObjective, NumbersObjective

    rng = np.random.default_rng(1)
    outputs: Any = np.float32(rng.normal(size=(50, 2)))
    weight = np.float32(np.arange(50) < 40)
    objective: Any
    labels: Any
    if name == "classes":
        labels = np.float32(rng.random((50, 2)) > 0.7)
        objective = ClassesObjective(2)
    else:
        outputs = outputs * [3, 1e-3] + [1e9, 0]
        labels = outputs + rng.normal(size=(50, 2)) * [3, 1e-3]
        objective = NumbersObjective(np.array([1e9, 0]), np.array([3, 1e-3]))
    totals = objective.make_totals()
    objective.note(totals, tf.constant(outputs), tf.constant(labels), tf.constant(weight))
    found = objective.figures(totals, 1.0)
    expected = objective.metrics(outputs[:40], labels[:40]).figures
    assert objective.count(totals) == 40
    for key in found.keys() - {"loss"}:
        assert found[key] == pytest.approx(expected[key], rel=1e-5), key
    loss, mean = objective.measure(
        tf.constant(outputs), tf.constant(labels), tf.constant(weight), tf.constant(40.0), None
    )
    assert float(mean) == pytest.approx(expected["loss"], rel=1e-5)
    assert float(loss) == pytest.approx(40 * expected["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--class-weights=balanced"], "--class-weights expected with one class"),
        (["--label-smoothing=0.1"], "--label-smoothing expected with one class"),
        (["--model=dcn"], "--model dcn expected with one class.*Choose --model mlp"),
        (["--monitor=accuracy", "--early-stopping=3"], "expected one of loss, mae, rmse, r2"),
        (["--task=multi_label"], "--task multi_label expected one Sequence"),
    ],
)
def test_what_makes_no_sense_is_refused(
    flags: list[str], said: str, sets: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main([f"--dataset={sets['numbers']}", *flags]) == 1
    assert re.search(said, capfd.readouterr().err)


def test_a_run_of_one_class_is_known_as_ever(finished_runs: dict[str, Path]) -> None:
    """Its settings name no task: folders of older versions go on, under the same name."""
    stored = json.loads((finished_runs["fetal_health"] / "config.json").read_text())
    assert "task" not in stored
    run = open_run(finished_runs["fetal_health"])
    assert (run.settings.task, run.input.task, run.input.scale) == ("single_label",) * 2 + (None,)
    assert "--task" not in run.again


def test_evaluate_predict_and_export_say_the_same(
    runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from train import evaluate, export, predict

    rows = np.random.default_rng(3).normal(size=(9, 4))
    table = tmp_path / "rows.csv"
    lines = ["x_0,x_1,x_2,x_3", *(",".join(map(str, row)) for row in rows)]
    table.write_text("\n".join(lines) + "\n")
    for name, path in runs.items():
        run = open_run(path)
        assert evaluate.main([str(path), "--split=test", "--resamples=20"]) == 0
        found = json.loads((path / "evaluation-test" / "evaluation.json").read_text())
        for key, value in _metrics(path)["test"].items():
            if key != "of_each":
                assert found["metrics"][key] == pytest.approx(value, rel=1e-6), key
                low, high = found["intervals"][key]
                assert low <= high
        output = tmp_path / f"{name}.csv"
        assert predict.main([str(path), str(table), f"--output={output}"]) == 0
        said = run.say(run.make_call()(np.float32(rows)).numpy())
        written = [line.split(",") for line in output.read_text().splitlines()]
        head = {
            "numbers": ["input", "predicted_label_0", "predicted_label_1"],
            "classes": ["input", "predicted", *(f"probability_{c}" for c in "abc")],
        }
        assert written[0] == head[name]
        first = 1 if name == "numbers" else 2
        numbers = np.array([row[first:] for row in written[1:]], float)
        np.testing.assert_allclose(numbers, said, rtol=1e-13, atol=1e-8)
        if name == "classes":
            decided = [
                ";".join(c for c, p, t in zip("abc", r, run.input.thresholds) if p >= t)
                for r in said
            ]
            assert [row[1] for row in written[1:]] == decided
        exported = tmp_path / name
        assert export.main([str(path), f"--output={exported}", f"--check={table}"]) == 0
        assert "9 items compared" in capfd.readouterr().out
        assert predict.main([str(path), str(table), "--threshold=a=0.5"]) == 1
        # A time stamp is beyond the float32 of small devices.
        small = [f"--output={tmp_path / 'model.tflite'}", "--format=litert"]
        assert export.main([str(path), *small]) == (name == "numbers")
        printed = capfd.readouterr()
        if name == "numbers":
            assert "'label_0' of mean 17" in printed.err and "rounded to 128" in printed.err
            continue
        _, examples, said = predict_split(run, "validation", None)
        content = (tmp_path / "model.tflite").read_bytes()
        found = predict_small(content, np.asarray(examples.inputs)[examples.numbers])
        np.testing.assert_allclose(found, said, atol=1e-5)
        at_thresholds = said >= np.array(run.input.thresholds)
        best = metrics.f1_score(
            examples.subset_labels, at_thresholds, average="macro", zero_division=0
        )
        assert (
            f"macro f1 on 25 validation examples {best:.4f}, of the run {best:.4f}" in printed.out
        )


def test_labelled_files_and_other_sets(
    runs: dict[str, Path], sets: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The figures are scikit-learn's, of what `train.predict` says of the same rows."""
    from train import evaluate

    for name, path in runs.items():
        data = open_data(sets[name])
        test = data.examples("test")
        inputs, y = np.asarray(test.inputs)[test.numbers], test.subset_labels
        run = open_run(path)
        said = run.say(run.make_call()(inputs).numpy())
        columns, cells = ["label_0", "label_1"], [[repr(float(v)) for v in row] for row in y]
        if name == "classes":
            columns = ["label"]
            cells = [[";".join(c for c, t in zip("abc", r, strict=True) if t)] for r in y]
            expected = {"macro_f1": metrics.f1_score(y, said >= 0.5, average="macro")}
            expected["mean_average_precision"] = metrics.average_precision_score(y, said)
        else:
            expected = {"rmse": metrics.root_mean_squared_error(y, said)}
            expected["r2"] = metrics.r2_score(y, said)
        table = tmp_path / f"{name}.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["x_0", "x_1", "x_2", "x_3", *columns])
            writer.writerows([*x.tolist(), *c] for x, c in zip(inputs, cells, strict=True))
            writer.writerow([0, 0, 0, 0, *["?" for _ in columns]])
        flags = ["--resamples=5", "--errors=2"]
        assert evaluate.main([str(path), str(table), *flags]) == 0
        found = json.loads((path / f"measured-{name}" / "evaluation.json").read_text())
        assert found["examples"] == len(y) and sum(found["measured_on"]["left_out"].values()) == 1
        for key, value in expected.items():
            assert found["metrics"][key] == pytest.approx(value, rel=1e-6), key
        errors = list(csv.DictReader((path / f"measured-{name}" / "worst_errors.csv").open()))
        losses = np.array([float(row["loss"]) for row in errors])
        assert len(errors) == 2 and losses[0] >= losses[1] > 0
        # Another set: 40 of the same examples.
        other = Path(sets[name]).parents[2] / f"other_{name}" / "tiny" / "1.0.0"
        assert evaluate.main([str(path), *flags, "--on", str(other)]) == 0
        (folder,) = path.glob("measured-tiny*")
        found = json.loads((folder / "evaluation.json").read_text())
        figures = make_measure(run.input, said[:40], y[:40]).score()
        assert found["examples"] == 40
        for key in ("loss", *expected):
            assert found["metrics"][key] == pytest.approx(float(figures[key]), rel=1e-6), key
    capfd.readouterr()
    table = tmp_path / "numbers.csv"
    for flag, said_of in (
        (["--label", "label_0"], "--label expected 2 columns, for label_0, label_1"),
        (["--map", "a=b"], "--map expected with classes, received regression"),
        (["--least-recall", "label_0=.9"], "--least-recall: expected a target of one class"),
    ):
        assert evaluate.main([str(runs["numbers"]), str(table), *flag]) == 1
        assert said_of in capfd.readouterr().err


def test_resamples_that_draw_each_example_once_give_the_figures() -> None:
    from train.measures.target_scores import Classes, Numbers

    rng = np.random.default_rng(2)
    labels: Any = np.float32(rng.random((60, 3)) > [0.5, 0.8, 0.3])
    said = np.round(rng.random((60, 3)), 1)  # with ties
    for measure in (
        Classes(said, labels, (0.3, 0.5, 0.7)),
        Numbers(said, (said + rng.normal(size=(60, 3))).astype(np.float32), (1.0, 2.0, 3.0)),
    ):
        once = measure(np.ones((1, 60)))
        assert once.keys() == measure.score().keys()
        for key, value in measure.score().items():
            np.testing.assert_allclose(once[key][0], value, rtol=1e-9, err_msg=key)
        # An example that is drawn twice counts as two.
        twice = np.concatenate([np.arange(60), [7, 7]])
        both = type(measure)(measure._said[twice], measure._labels[twice], (0.3, 0.5, 0.7))
        draws = np.bincount(twice, minlength=60)[None].astype(float)
        alike = type(measure)(measure._said, measure._labels, (0.3, 0.5, 0.7))(draws)
        for key, value in both.score().items():
            np.testing.assert_allclose(alike[key][0], value, rtol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", [pytest.param("numbers", marks=pytest.mark.slow), "classes"])
def test_a_run_killed_in_mid_epoch_goes_on_to_the_bit(
    name: str, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [f"--dataset={sets[name]}", *TABLE, "--epochs=2", "--checkpoint-steps=1"]
    assert main([*flags, f"--run-dir={tmp_path / 'whole'}"]) == 0
    run, calls = TrainStep.run, []

    def interrupted(self: TrainStep, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        run(self, *arguments)

    flags += [f"--run-dir={tmp_path / 'killed'}"]
    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "run", interrupted)
        assert main(flags) == 130
    assert len(calls) == 2  # of four steps of an epoch
    assert main(flags) == 0
    both = [tmp_path / part for part in ("killed", "whole")]
    ours, theirs = (keras.models.load_model(path / "model.keras") for path in both)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert _metrics(both[0])["validation"] == _metrics(both[1])["validation"]
    first, second = (list(csv.DictReader((path / "history.csv").open())) for path in both)
    for a, b in zip(first, second, strict=True):
        assert {k: v for k, v in a.items() if k not in TIMES} == {
            k: v for k, v in b.items() if k not in TIMES
        }


@pytest.mark.parametrize("name", ["numbers", "classes"])
def test_what_the_set_shows_and_scikit_learn_makes_of_it(
    name: str, sets: dict[str, str], tmp_path: Path, capfd: Any
) -> None:
    text, folder = describe(sets[name], output=str(tmp_path / "d"))
    data = open_data(sets[name])
    train, test = data.examples("train"), data.examples("test")
    y = train.split_labels
    if name == "numbers":
        said = (*np.percentile(y[:, 0], (0, 25, 50, 75, 100)), y[:, 0].mean(), y[:, 0].std())
        expected = ["label_0", "train", *(f"{value:.10g}" for value in said)]
        assert expected in [line.split() for line in text.splitlines()]
        assert (folder / "numbers.png").read_bytes().startswith(b"\x89PNG")
    else:
        counts = next(line.split() for line in text.splitlines() if line.startswith("  a  "))
        assert counts[1] == str(int(y[:, 0].sum())) and (folder / "classes.png").exists()
    output = tmp_path / "b.json"
    assert baseline.main([f"--dataset={sets[name]}", f"--output={output}"]) == 0
    systems = json.loads(output.read_text())["systems"]
    x, rows = np.asarray(train.inputs)[train.numbers], np.asarray(test.inputs)[test.numbers]
    linear: Any = Ridge() if name == "numbers" else OneVsRestClassifier(LogisticRegression())
    model = make_pipeline(StandardScaler(), linear).fit(x, train.subset_labels)
    y = test.subset_labels
    assert "gradient boosting" in systems and len(systems) == 2
    if name == "numbers":
        found, predicted = systems["ridge regression"]["test"], model.predict(rows)
        assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, predicted))
        assert found["r2"] == pytest.approx(metrics.r2_score(y, predicted))
    else:
        found = systems["logistic regression, one against the rest"]["test"]
        probability = model.predict_proba(rows)
        f1 = metrics.f1_score(y, probability >= 0.5, average="macro")
        assert found["macro_f1"] == pytest.approx(f1)
        expected_precision = metrics.average_precision_score(y, probability)
        assert found["mean_average_precision"] == pytest.approx(expected_precision)


def _make_pictures(base: Path) -> None:
    rng = np.random.default_rng(0)
    light = rng.uniform(0, 200, 44)
    rows = []
    for value in light:
        picture = np.uint8(np.clip(value + rng.normal(0, 9, (32, 32, 3)), 0, 255))
        tags = [name for name, there in (("light", value > 100), ("dark", value < 60)) if there]
        rows.append({"image": picture, "label": 1e6 + value, "tags": tags})
    spec = {
        "image": features.Image(shape=(32, 32, 3)),
        "label": features.Tensor(shape=(1,), dtype=np.float64, encoding="bytes"),
        "tags": features.Sequence(features.ClassLabel(names=["dark", "light"])),
    }
    rows = [row | {"label": np.array([row["label"]])} for row in rows]
    build_tiny(base, spec, {"train": rows}, label_feature="label", input_feature="image")


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_pictures_with_a_frozen_backbone_and_the_whole_of_it(
    task: str,
    once_per_session: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_tiny_backbone(monkeypatch)
    base = once_per_session("target_pictures", _make_pictures)
    flags = [f"--dataset={base / 'tiny' / '1.0.0'}", f"--task={task}", f"--run-dir={tmp_path}"]
    flags += ["--image-size=32", "--epochs=2", "--unfreeze-from=all", "--fine-tune-epochs=1"]
    assert main([*flags, "--global-batch-size=8", "--no-xla", "--strategy=one_device"]) == 0
    _, examples, said = predict_split(open_run(tmp_path), "validation", None)
    y, found = examples.subset_labels, _metrics(tmp_path)["validation"]
    history = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [int(row["epoch"]) for row in history] == [1, 2, 3]
    if task == "regression":
        assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, said), rel=1e-6)
        # In the user's units in both stages: the features' head, and the whole model.
        assert all(float(row["rmse"]) < 1000 for row in history)
        assert np.all(np.abs(said - 1e6 - 100) < 1000)
    else:
        expected = metrics.f1_score(y, said >= 0.5, average="macro", zero_division=0)
        assert found["macro_f1"] == pytest.approx(expected, rel=1e-6)


SEARCH = ["--model=mlp_small", "--hidden=4", "--epochs=1", "--no-xla", "--strategy=one_device"]


def _folds(directory: str, task: str) -> list[Data]:
    opened = open_set(directory)
    assert opened.schema.task == task
    return [Data(opened, InputConfig(), 3, Fold(i, 2, 3)) for i in range(2)]


@pytest.mark.parametrize("name", ["numbers", "classes"])
def test_cross_validation_equals_scikit_learn(
    name: str, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from train import cross_validate
    from train.search import folds_at_once

    pairs: list[Any] = []
    together = folds_at_once.train_folds

    def keep(*arguments: Any) -> Any:
        pairs.extend(found := together(*arguments))
        return found

    monkeypatch.setattr(folds_at_once, "train_folds", keep)
    output = tmp_path / "found.json"
    flags = [f"--dataset={sets[name]}", "--folds=2", f"--output={output}", *SEARCH]
    assert cross_validate.main([*flags, "--seeds=3"]) == 0
    systems = json.loads(output.read_text())["systems"]
    task = {"numbers": "regression", "classes": "multi_label"}[name]
    parts, printed = _folds(sets[name], task), capfd.readouterr().out
    assert {"numbers": "| rmse | mae | r2 | loss | r2 label_0 |"}.get(name, "| f1 c |") in printed
    # Every example validates once, and as many in each fold as of scikit-learn's KFold.
    numbers = [np.asarray(part.examples("validation").numbers) for part in parts]
    np.testing.assert_array_equal(np.sort(np.concatenate(numbers)), np.arange(250))
    assert [len(n) for n in numbers] == [len(n) for _, n in KFold(2).split(range(250))]
    for fold, part in enumerate(parts):
        train, validation = part.examples("train"), part.examples("validation")
        x, y = np.asarray(train.inputs), validation.subset_labels
        linear: Any = Ridge() if name == "numbers" else OneVsRestClassifier(LogisticRegression())
        model = make_pipeline(StandardScaler(), linear)
        model.fit(x[train.numbers], train.subset_labels)
        rows, found = x[validation.numbers], {}
        if name == "numbers":
            found["ridge regression"] = model.predict(rows)
            run = open_run(tmp_path / "found" / f"seed-3-fold-{fold}")
            found["mlp_small"] = predict_split(run, "validation", None)[2]
        else:
            found["logistic regression, one against the rest"] = model.predict_proba(rows)
            np.testing.assert_array_equal(pairs[fold][0], y)
            found["mlp_small"] = 1 / (1 + np.exp(-np.float64(pairs[fold][1])))
        for system, said in found.items():
            row = systems[system][fold]
            assert row["fold"] == fold
            if name == "numbers":
                error = (said - y) / train.subset_labels.std(0)
                expected = {"loss": (error**2).mean(), "r2": metrics.r2_score(y, said)}
                expected["rmse"] = metrics.root_mean_squared_error(y, said)
                expected["mae"] = metrics.mean_absolute_error(y, said)
            else:
                f1 = functools.partial(metrics.f1_score, y, said >= 0.5, zero_division=0)
                expected = {"macro_f1": f1(average="macro"), "micro_f1": f1(average="micro")}
                expected["mean_average_precision"] = metrics.average_precision_score(y, said)
                each = [metrics.log_loss(y[:, c], said[:, c]) for c in range(3)]
                expected["loss"] = float(np.mean(each))
            for key, value in expected.items():
                assert row[key] == pytest.approx(value, rel=1e-6), (system, key)
    if name == "classes":  # together as alone
        run_dir = tmp_path / "alone"
        one = [f"--dataset={sets[name]}", "--folds=2", "--seed=3", f"--run-dir={run_dir}"]
        assert main([*one, *SEARCH]) == 0
        alone = _metrics(run_dir)["validation"]
        assert systems["mlp_small"][0]["loss"] == pytest.approx(alone["loss"], rel=1e-3)


@pytest.mark.parametrize(("name", "trials"), [("numbers", 1), ("classes", 2)])
def test_a_sweep_chooses_by_the_figure_of_the_task(
    name: str, trials: int, sets: dict[str, str], tmp_path: Path, capfd: Any
) -> None:
    import optuna

    from train import sweep

    flags = [f"--dataset={sets[name]}", *SEARCH, "--folds=2", "--sampler=random", "--no-prune"]
    flags += [f"--trials={trials}", f"--sweep-dir={tmp_path / 's'}", "--global-batch-size=64"]
    assert sweep.main(flags) == 0
    rows = list(csv.DictReader((tmp_path / "s" / "leaderboard.csv").open()))
    figure, worst_first = {"numbers": ("rmse", True), "classes": ("macro_f1", False)}[name]
    values = [float(row[figure]) for row in rows]
    assert len(rows) == trials and values == sorted(values, reverse=not worst_first)
    # What the task refuses is not drawn.
    assert not {"label_smoothing", "class_weights"} & rows[0].keys()
    study = optuna.load_study(
        study_name="sweep", storage=f"sqlite:///{tmp_path / 's' / 'study.db'}"
    )
    direction = optuna.study.StudyDirection
    assert study.direction == (direction.MINIMIZE if worst_first else direction.MAXIMIZE)
    assert sweep.main([*flags, "--metric=accuracy"]) == 1
    assert f"--metric of {'regression' if worst_first else 'multi_label'}" in capfd.readouterr().err
