"""`--classes`: a run, its resume, and the commands that follow it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from records.roles import open_data
from tests.support.runs import weights
from train.evaluate import main as evaluate
from train.export import main as export
from train.folders.finished_run import open_run
from train.predict import main as predict
from train.results import format_page
from train.run import main as train
from train.run import parse_config
from train.settings.command_line import RUN, format_command

FLAGS = ["--dataset=fetal_health/synthetic", "--model=mlp_small", "--epochs=2"]
FLAGS += ["--strategy=one_device", "--no-xla"]


def test_all_classes_in_their_order_change_nothing(
    finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path
) -> None:
    names = open_run(finished_runs["fetal_health"]).input.class_names
    flags = [*FLAGS, f"--data-dir={synthetic_data_dir}", f"--run-dir={tmp_path / 'all'}"]
    assert train([*flags, "--classes", *names]) == 0
    for one, other in zip(
        weights(tmp_path / "all"), weights(finished_runs["fetal_health"]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_run_on_merged_classes_and_what_follows_it(
    synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    whole = open_data("fetal_health/synthetic", synthetic_data_dir).examples("test")
    names = whole.schema.class_names
    classes = ["ill=" + ",".join(names[1:]), names[0]]
    run = tmp_path / "run"
    flags = [*FLAGS, f"--data-dir={synthetic_data_dir}", f"--run-dir={run}", "--evaluate-test"]
    assert train([*flags, "--class-weights=balanced", "--classes", *classes]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    stored = json.loads((run / "config.json").read_text())
    assert stored["classes"] == classes
    assert stored["data_fingerprint"] == open_run(run).fingerprint
    assert open_run(run).input.class_names == ("ill", names[0])
    # The same numbers by hand: the rows of test, their new classes, what predict says of them.
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(whole.schema.feature_names)
        writer.writerows(np.asarray(whole.inputs)[whole.numbers].tolist())
    assert predict([str(run), str(path), f"--output={tmp_path / 'out.csv'}"]) == 0
    with open(tmp_path / "out.csv") as file:
        predicted = [row["predicted"] for row in csv.DictReader(file)]
    true = [names[0] if label == 0 else "ill" for label in whole.subset_labels]
    expected = confusion_matrix(true, predicted, labels=["ill", names[0]]).tolist()
    assert metrics["test"]["confusion_matrix"] == expected
    assert evaluate([str(run), "--split=test", "--resamples=5"]) == 0
    found = json.loads((run / "evaluation-test" / "evaluation.json").read_text())
    assert found["confusion_matrix"] == expected and next(iter(found["metrics"]["f1"])) == "ill"
    assert export([str(run), f"--output={tmp_path / 'saved'}", f"--check={path}"]) == 0
    # The same command finds the run; another choice does not go on with it.
    capsys.readouterr()
    assert train([*flags, "--class-weights=balanced", "--classes", *classes]) == 0
    for others in (classes[::-1], names):
        assert train([*flags, "--class-weights=balanced", "--classes", *others]) == 1
        assert "classes" in capsys.readouterr().err
    # And what is printed runs as it is.
    settings = parse_config(["--classes", "Hip Hop", "Other=Pop,Country", "--model=gru"]).to_dict()
    assert "--classes 'Hip Hop' Other=Pop,Country" in format_command(RUN, settings)


def test_what_the_choice_is_refused_with(synthetic_data_dir: Path, capsys: Any) -> None:
    flags = [*FLAGS, f"--data-dir={synthetic_data_dir}", "--classes", "normal"]
    assert train(flags) == 1
    assert "--classes expected two or more classes" in capsys.readouterr().err
    assert train([*flags, "suspekt"]) == 1
    assert "received 'suspekt'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_config(["--classes"])


def test_results_of_other_classes_stand_apart() -> None:
    rows: dict[str, Any] = {"dataset": "s/1.0.0", "systems": {}}
    page = format_page([], [rows, rows | {"classes": ["a", "b=c,d"]}], [])
    assert page.count("## s/1.0.0\n") == 1 and "## s/1.0.0, classes a; b=c,d\n" in page
