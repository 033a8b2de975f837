"""`python -m train.cross_validate`: ours and scikit-learn's on the same folds."""

import functools
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score

from records.decoding.input_config import InputConfig
from records.opened import open_set
from records.roles import Data, Fold
from tests.support.tiny_models import take_tiny_texts
from train.cross_validate import Predicted, average, main


def test_table_and_file(
    synthetic_data_dir: Path,
    tmp_path: Path,
    capsys: Any,
    terminal: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The baseline's figures are those of scikit-learn called by hand."""
    # 10 trees in the place of 100 on both sides, where the product names no number.
    few = functools.partial(HistGradientBoostingClassifier, max_iter=10)
    monkeypatch.setattr("sklearn.ensemble.HistGradientBoostingClassifier", few)
    output = tmp_path / "found.json"
    arguments = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}"]
    arguments += ["--model=mlp_small", "--epochs=2", "--folds=2", "--pool-splits", "--no-xla"]
    arguments += ["--seeds", "0", "5", f"--output={output}", "--strategy=one_device"]
    assert main(arguments) == 0
    found = json.loads(output.read_text())
    systems = found["systems"]
    both = "mean of mlp_small and gradient boosting"
    assert set(systems) == {"mlp_small", "gradient boosting", "logistic regression", both}
    assert all(len(rows) == 4 for rows in systems.values())
    opened = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    data = Data(opened, InputConfig(), 5, Fold(1, 2, 5, True))
    train, validation = data.examples("train"), data.examples("validation")
    assert train.inputs is not None
    boosting = few(random_state=5)
    boosting.fit(train.inputs[train.numbers], train.subset_labels)
    predicted = boosting.predict(train.inputs[validation.numbers])
    expected = f1_score(validation.subset_labels, predicted, average="weighted")
    rows = systems["gradient boosting"]
    (received,) = [r["weighted_f1"] for r in rows if (r["seed"], r["fold"]) == (5, 1)]
    assert received == pytest.approx(expected)
    # Record numbers run through train first, then test: each split's own accuracy.
    numbers, right = np.asarray(validation.numbers), predicted == validation.subset_labels
    in_train = numbers < opened.schema.split_counts["train"]
    (counted,) = [r["right"] for r in rows if (r["seed"], r["fold"]) == (5, 1)]
    assert counted == {
        "train": [right[in_train].sum(), in_train.sum()],
        "test": [right[~in_train].sum(), (~in_train).sum()],
    }
    # On a terminal something moves while the folds train, and after the last of them.
    lines = terminal.getvalue()
    assert re.search(r"\r  seed 5: 2 folds at once: 100%, [\d.,]+ epochs/s, 0:00 left", lines)
    assert re.search(r"\r  seed 5: gradient boosting: 50%, [\d.,]+ folds/s, 0:\d\d left", lines)
    assert lines.endswith("\r\033[K"), "the line is cleared"
    printed = capsys.readouterr().out
    header = (
        "mlp_small on fetal_health/synthetic/1.0.0 (train 1,701, test 425; 3 classes)\n"
        "  input 'features' (tabular), class 'label'\n"
        f"  2 folds, seeds 0, 5 -> {output}\n"
    )
    assert header in printed
    for name, entries in systems.items():
        mean = np.mean([r["weighted_f1"] for r in entries if r["seed"] == 5])
        assert f"  seed 5: {name}: weighted F1 {mean:.4f}\n" in printed
    assert "| accuracy on records of train | accuracy on records of test |" in printed
    for rows_of_one in systems.values():
        of_test = np.sum([r["right"]["test"] for r in rows_of_one], axis=0)
        assert f"| {of_test[0] / of_test[1]:.4f} |" in printed
        assert (
            sum(r["right"]["test"][1] for r in rows_of_one)
            == 2 * opened.schema.split_counts["test"]
        )
        for r in rows_of_one:  # together they are the fold's accuracy
            right_of = np.sum(list(r["right"].values()), axis=0)
            assert right_of[0] / right_of[1] == pytest.approx(r["accuracy"])
    mean = np.mean([r["weighted_f1"] for r in rows])
    assert f"| gradient boosting | {mean:.4f} ±" in printed
    above = [a["weighted_f1"] - b["weighted_f1"] for a, b in zip(rows, systems["mlp_small"])]
    # n = 4, of 2 folds: the variance of the mean is 1/4 + 1 of that of the differences.
    half = 3.1824 * np.std(above, ddof=1) * 1.25**0.5
    low, high = np.mean(above) - half, np.mean(above) + half
    assert f"| {np.mean(above):+.4f} ({low:+.4f} to {high:+.4f}) |" in printed


def test_the_mean_of_two_systems_is_that_of_their_probabilities() -> None:
    labels, numbers = np.array([0, 1]), np.arange(2)
    ours = [Predicted(labels, np.array([[0.9, 0.1], [0.6, 0.4]]), numbers)]
    theirs = [Predicted(labels, np.array([[0.4, 0.6], [0.1, 0.9]]), numbers)]
    (mean,) = average(ours, theirs)
    assert mean.said.tolist() == [[0.65, 0.35], [0.35, 0.65]]


def test_texts_run_apart(
    synthetic_data_dir: Path,
    tmp_path: Path,
    terminal: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_tiny_texts(monkeypatch)
    output = tmp_path / "found.json"
    arguments = ["--dataset=song_lyrics/synthetic", f"--data-dir={synthetic_data_dir}"]
    arguments += ["--model=gru", "--epochs=1", "--folds=2", "--seeds", "0", "--strategy=one_device"]
    arguments += ["--sequence-length=12", "--units=4", "--embedding-dim=4", "--length-buckets=1"]
    arguments += ["--vocab-size=300", f"--output={output}"]
    # A monitor is the default of texts, and an error where it is asked for without stopping.
    assert main([*arguments, "--no-baselines", "--early-stopping=0"]) == 0
    lines = terminal.getvalue()
    rate = r"[\d,]+ examples/s"
    assert re.search(rf"\r  epoch 1/1: \d+%, {rate}, 0:\d\d left", lines)
    assert re.search(rf"\r  epoch 1/1: 100%, {rate}, 0:00 left, loss [\d.]+\033\[K\r\033\[K", lines)
    systems = json.loads(output.read_text())["systems"]
    assert set(systems) == {"gru"}
    rows = systems["gru"]
    assert [r["fold"] for r in rows] == [0, 1] and all(0 < r["accuracy"] <= 1 for r in rows)
    # A second call takes finished folds as they are, the time they took, too.
    output.unlink()
    assert main([*arguments, "--no-baselines", "--early-stopping=0"]) == 0
    assert json.loads(output.read_text())["systems"]["gru"] == rows


def test_one_seed_belongs_elsewhere(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["--seed=3"])
    assert "--seeds" in capsys.readouterr().err
