"""`python -m train.sweep`: it searches, goes on where it was, and never reads the split test."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from records.data import Data
from train import sweep
from train.run import parse_config

FLAGS = ("--model=mlp_small", "--epochs=2", "--folds=3", "--hidden", "8", "--strategy=one_device")


def _sweep(data_dir: Path, folder: Path, *flags: str, code: int = 0) -> None:
    arguments = ["--dataset=fetal_health/synthetic", f"--data-dir={data_dir}", *FLAGS]
    assert sweep.main([*arguments, f"--sweep-dir={folder}", *flags]) == code


def _leaderboard(folder: Path) -> list[dict[str, str]]:
    with open(folder / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_leaderboard_comes_out(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Sorted, with mean and deviation; named settings are not searched; test is not read."""
    read: set[str] = set()
    subset = Data.subset

    def watch(self: Data, role: str) -> Any:
        read.add(role)
        return subset(self, role)

    monkeypatch.setattr(Data, "subset", watch)
    _sweep(synthetic_data_dir, tmp_path / "s", "--trials=4", "--no-prune", "--sampler=random")
    assert read == {"train", "validation"}
    rows = _leaderboard(tmp_path / "s")
    values = [float(row["weighted_f1"]) for row in rows]
    assert len(rows) == 4 and values == sorted(values, reverse=True)
    assert {row["id"] for row in rows} == {"0", "1", "2", "3"}
    assert len({row["learning_rate"] for row in rows}) == 4
    assert all(float(row["weighted_f1_deviation"]) >= 0 for row in rows)
    best = json.loads((tmp_path / "s" / "best.json").read_text())
    assert best["hidden"] == [8] and best["epochs"] == 2
    for name in ("history.png", "importance.png"):
        assert (tmp_path / "s" / name).read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "s" / "tensorboard").iterdir())) == 4
    printed = capsys.readouterr().out
    command = next(line for line in printed.splitlines() if "python -m train.run" in line)
    again = parse_config(command.split("train.run ")[1].split())
    assert again.hidden == (8,) and again.learning_rate == pytest.approx(best["learning_rate"])


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_an_interrupted_sweep_goes_on_to_the_same_end(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: Any, sampler: str
) -> None:
    flags = ("--trials=4", f"--sampler={sampler}")
    _sweep(synthetic_data_dir, tmp_path / "whole", *flags)
    run_trial, calls = sweep.run_trial, 0

    def interrupted(study: Any, runner: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            study.ask()  # it is at work when the end comes
            raise KeyboardInterrupt
        run_trial(study, runner)

    monkeypatch.setattr(sweep, "run_trial", interrupted)
    _sweep(synthetic_data_dir, tmp_path / "cut", *flags, code=130)
    assert len(_leaderboard(tmp_path / "cut")) == 2
    monkeypatch.setattr(sweep, "run_trial", run_trial)
    _sweep(synthetic_data_dir, tmp_path / "cut", *flags)
    found, expected = _leaderboard(tmp_path / "cut"), _leaderboard(tmp_path / "whole")
    for row in [*found, *expected]:
        del row["id"]  # the one that was cut short has a number of its own
    assert found == expected


def test_a_folder_belongs_to_its_sweep(
    synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    _sweep(synthetic_data_dir, tmp_path / "s", "--trials=1")
    _sweep(synthetic_data_dir, tmp_path / "s", "--trials=1", "--metric=loss", code=1)
    message = capsys.readouterr().err
    assert "expected a sweep with the same metric" in message and "--sweep-dir" in message


def test_texts_are_trained_fold_by_fold(synthetic_data_dir: Path, tmp_path: Path) -> None:
    arguments = ["--dataset=song_lyrics/synthetic", f"--data-dir={synthetic_data_dir}"]
    arguments += ["--model=gru", "--epochs=1", "--folds=2", "--trials=1", "--units=4"]
    arguments += ["--sequence-length=12", "--embedding-dim=4", "--strategy=one_device"]
    assert sweep.main([*arguments, f"--sweep-dir={tmp_path / 's'}", "--metric=accuracy"]) == 0
    (row,) = _leaderboard(tmp_path / "s")
    assert 0 < float(row["accuracy"]) <= 1
    assert "vocab_size" in row and "units" not in row  # named, so not searched
    assert json.loads((tmp_path / "s" / "best.json").read_text())["units"] == 4


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--trials=0"], "--trials expected 1 or more"),
        (["--folds=3", "--fold=1"], "--fold and --pool-splits"),
        (["--folds=1"], "--folds expected 2 or more"),
    ],
)
def test_wrong_flags(flags: list[str], expected: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        sweep.parse_config(flags)
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err
