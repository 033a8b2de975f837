"""`python -m train.evaluate`: what it writes, and what it refuses."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.support.runs import weights
from train.evaluate import main
from train.folders.finished_run import open_run
from train.run import main as train

SETS = ("fetal_health", "brain_tumor_mri", "song_lyrics")


@pytest.mark.parametrize("name", SETS)
def test_validation_is_that_of_the_run(
    name: str,
    finished_runs: dict[str, Path],
    synthetic_data_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = finished_runs[name]
    assert main([str(run), f"--data-dir={synthetic_data_dir}", "--resamples=200"]) == 0
    printed = capsys.readouterr().out
    assert "split validation" in printed and "200 resamples" in printed
    assert not (run / "evaluation-test").exists(), "test is read only where it is asked for"
    folder = run / "evaluation-validation"
    found = json.loads((folder / "evaluation.json").read_text())
    stored = json.loads((run / "metrics.json").read_text())["validation"]
    assert found["confusion_matrix"] == stored["confusion_matrix"]
    for metric in ("loss", "accuracy", "weighted_f1"):
        value, (low, high) = found["metrics"][metric], found["intervals"][metric]
        assert value == pytest.approx(stored[metric], rel=1e-4)
        assert low < value < high
    assert found["metrics"]["recall"] == pytest.approx(stored["recall"])
    drawn = {"fetal_health": "examples", "brain_tumor_mri": "group", "song_lyrics": "artist"}
    assert drawn[name] in found["bootstrap"]["drawn"]
    assert found["bootstrap"]["units"] <= found["examples"] == sum(found["calibration"]["count"])
    for picture in ("confusion_matrix.png", "calibration.png"):
        assert tf.io.decode_png((folder / picture).read_bytes()).shape[0] > 100
    _check_errors(folder, np.array(found["confusion_matrix"]), name)


def _check_errors(folder: Path, confusion: np.ndarray, name: str) -> None:
    with open(folder / "worst_errors.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == min(25, confusion.sum() - np.trace(confusion)) > 0
    assert all(row["true"] != row["predicted"] and row["id"] for row in rows)
    certain = [float(row["probability"]) for row in rows]
    assert certain == sorted(certain, reverse=True)
    assert all(float(row["probability_of_true"]) < p for row, p in zip(rows, certain, strict=True))
    assert all(0 < len(row["text"]) <= 200 for row in rows) or name != "song_lyrics"
    assert (folder / "worst_errors.png").exists() == (name == "brain_tumor_mri")


def test_test_split_is_that_of_the_run(
    finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished_runs["fetal_health"], tmp_path / "run"))
    assert main([str(run), "--split=test", f"--data-dir={synthetic_data_dir}"]) == 0
    found = json.loads((run / "evaluation-test" / "evaluation.json").read_text())
    stored = json.loads((run / "metrics.json").read_text())["test"]
    assert found["confusion_matrix"] == stored["confusion_matrix"]


@pytest.mark.parametrize(
    ("change", "flags", "expected"),
    [
        ("config.json", [], "expected a run folder, received a folder without config.json"),
        ("metrics.json", [], "expected a finished run, received one without metrics.json"),
        ("model.keras", [], "without model.keras. To finish it: python -m train.run --dataset /"),
        ("model_input.json", [], "without model_input.json. To finish it: python -m train.run"),
        ("", ["--split=tset"], "split expected one of ['test', 'train'], received 'tset'"),
        ("data_fingerprint", [], "expected the data that"),
    ],
)
def test_what_cannot_be_evaluated_is_a_clear_error(
    change: str,
    flags: list[str],
    expected: str,
    finished_runs: dict[str, Path],
    synthetic_data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(finished_runs["fetal_health"], tmp_path / "run"))
    if (run / change).is_file():
        (run / change).unlink()
    if change == "data_fingerprint":
        stored = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps(stored | {change: "another"}))
    assert main([str(run), f"--data-dir={synthetic_data_dir}", *flags]) == 1
    assert expected in capsys.readouterr().err


def test_the_printed_command_finishes_a_run_that_lost_files(
    finished_runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From another folder: model, history and the rest are as they were, bit for bit."""
    whole = finished_runs["fetal_health"]
    run = Path(shutil.copytree(whole, tmp_path / "it's a run"))
    monkeypatch.chdir(tmp_path)
    (run / "model.keras").unlink()
    (run / "history.csv").write_text("epoch,loss\n1,0\n")
    assert main([run.name]) == 1
    command = capsys.readouterr().err.rpartition("To finish it: ")[2]
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "train.run"]
    assert train(words[3:]) == 0
    printed = capsys.readouterr().out
    assert "lacks model.keras: the run goes on and writes it anew" in printed
    assert "going on at the end of training" in printed
    for a, b in zip(weights(whole), weights(run), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (run / "history.csv").read_text() == (whole / "history.csv").read_text()
    assert main([run.name, "--resamples=2"]) == 0, "without --data-dir, as the run knows the place"
    (run / "history.csv").write_text("epoch,loss\n1,0\n")
    assert train(words[3:]) == 0
    assert "history.csv is not as the run wrote it. Remove" in capsys.readouterr().out


def test_the_data_of_a_run_that_was_given_a_relative_path(
    finished_runs: dict[str, Path],
    synthetic_data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(finished_runs["fetal_health"], tmp_path / "run"))
    stored = json.loads((run / "config.json").read_text())
    moved = {"dataset": "data/fetal_health/synthetic/1.0.0", "data_directory": "/nowhere/1.0.0"}
    (run / "config.json").write_text(json.dumps(stored | moved))
    monkeypatch.chdir(tmp_path)  # a folder `data` of the demo is no place of this run
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    assert main([str(run)]) == 1
    expected = f"received none there or in {tmp_path / 'none'}. Name the folder that holds the set"
    assert f"{expected} with --data-dir" in capsys.readouterr().err
    assert main([str(run), f"--data-dir={tmp_path}"]) == 1
    expected = f"which lay in /nowhere/1.0.0, received none in {tmp_path}. Name the folder"
    assert expected in capsys.readouterr().err
    own = synthetic_data_dir / "fetal_health" / "synthetic" / "1.0.0"
    # The command that a finished run prints says where they lie now.
    again = shlex.split(open_run(run).again)[3:]
    again[again.index("--dataset") + 1] = str(own)
    assert train(again) == 0
    assert f"python -m train.evaluate {run} --data-dir {own} " in capsys.readouterr().out
    for place in (synthetic_data_dir, own, own.parent):
        assert main([str(run), f"--data-dir={place}", "--resamples=2"]) == 0
    assert "data_directory" in stored and Path(stored["data_directory"]) == own
    assert open_run(run).directories == ("/nowhere/1.0.0",)
