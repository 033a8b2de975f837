"""A threshold for a class that must not be missed: chosen on validation, used on other examples."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from builders.fetal_health.synthetic import write_csv
from train.assembly.predictions import predict_split
from train.evaluate import main as evaluate
from train.folders.finished_run import open_run
from train.measures.class_threshold import (
    Threshold,
    choose_threshold,
    measure_decision,
    parse_threshold,
)
from train.predict import main as predict


@settings(deadline=None)  # a busy machine is no fault
@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.floats(1e-12, 1.0))
def test_highest_threshold_of_the_recall(n: int, seed: int, recall: float) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(3), n).round(2)  # ties
    labels = rng.integers(0, 3, n)
    labels[0] = 2
    found = choose_threshold(probability, labels, 2, recall)

    def recall_of(least: float) -> float:
        decided = Threshold(2, least).decide(probability)
        return float(recall_score(labels == 2, decided == 2))

    assert recall_of(found.least) >= recall - 1e-9
    higher = probability[:, 2][probability[:, 2] > found.least]
    assert all(recall_of(least) < recall for least in higher)


def test_decides_as_a_loop_would() -> None:
    probability = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.3, 0.5, 0.2], [0.6, 0.21, 0.19]])
    before = probability.copy()
    assert Threshold(2, 0.2).decide(probability).tolist() == [2, 2, 2, 0]
    assert Threshold(2, 0.9).decide(probability).tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(probability, before)
    found = measure_decision(Threshold(2, 0.2), probability, np.array([2, 2, 1, 0]))
    assert found["with"]["recall"] == 1.0 and found["with"]["precision"] == pytest.approx(2 / 3)
    assert found["without"]["recall"] == 0.5 and found["without"]["precision"] == 1.0
    assert (found["with"]["accuracy"], found["without"]["accuracy"]) == (0.75, 0.75)


def test_share_of_a_count_is_not_rounded_up() -> None:
    probability = np.stack([np.linspace(0.9, 0.1, 100), np.linspace(0.1, 0.9, 100)], 1)
    assert 0.07 * 100 > 7, "as floating-point numbers"
    found = choose_threshold(probability, np.ones(100, int), 1, 0.07)
    assert (probability[:, 1] >= found.least).sum() == 7


@pytest.mark.parametrize("text", ["pathological", "x=0.5", "pathological=0", "pathological=nan"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected CLASS=X with one of the classes normal, path"):
        parse_threshold(text, ("normal", "pathological"), "--threshold")


def test_chosen_on_validation_and_given_to_predict(
    finished_runs: dict[str, Path],
    synthetic_data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(finished_runs["fetal_health"], tmp_path / "run"))
    name = open_run(run).input.class_names[2]
    options = ["--split=test", f"--data-dir={synthetic_data_dir}", "--resamples=10"]
    assert evaluate([str(run), *options, "--least-recall=tumour=1"]) == 1
    assert "--least-recall expected CLASS=X" in capsys.readouterr().err
    assert evaluate([str(run), *options, f"--least-recall={name}=1"]) == 0
    found = json.loads((run / "evaluation-test" / "evaluation.json").read_text())["decision"]
    _, validation, probability = predict_split(open_run(run), "validation", str(synthetic_data_dir))
    least = probability[validation.subset_labels == 2, 2].min()
    assert found["threshold"] == pytest.approx(least)
    printed = capsys.readouterr().out
    assert f"recall {found['with']['recall']:.4f}" in printed
    (flag,) = re.findall(r"as (--threshold \S+)", printed)
    write_csv(tmp_path)
    output = tmp_path / "out.csv"
    arguments = [str(run), str(tmp_path / "fetal_health.csv"), f"--output={output}"]
    assert predict([*arguments, *flag.split()]) == 0
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    share = np.array([float(row[f"probability_{name}"]) for row in rows])
    decided = np.array([row["predicted"] == name for row in rows])
    over = share >= found["threshold"]
    # Another batch, another last digit: the row that set the threshold may fall on either side.
    clear = np.abs(share - found["threshold"]) > 1e-5
    assert clear.sum() >= len(rows) - 5 and any(over[clear]) and not all(over[clear])
    np.testing.assert_array_equal(decided[clear], over[clear])
    assert predict([*arguments, "--threshold=tumour=0.5"]) == 1
    assert "--threshold expected CLASS=X" in capsys.readouterr().err


def test_a_class_is_known_however_its_name_is_written() -> None:
    names = ("cafe\u0301", "tea")  # e and an accent, as some systems write it
    assert parse_threshold("caf\u00e9=0.25", names, "--threshold") == (0, 0.25)
