"""`python -m train.sweep`: it searches, goes on where it was, and never reads the split test."""

import contextlib
import csv
import io
import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from records.roles import Data
from tests.support.forks import fork
from tests.support.runs import finish, start
from train import sweep
from train.folders.lock import FolderLock
from train.measures.metrics import metrics_from_logits
from train.run import parse_config
from train.search import leaderboard, study
from train.search import trial as trials

FLAGS = ["--model=mlp_small", "--epochs=1", "--folds=2", "--hidden", "8", "--strategy=one_device"]
FLAGS += ["--no-xla"]  # what would be compiled for seconds takes some


def _sweep(data_dir: Path, folder: Path, *flags: str, code: int = 0) -> None:
    arguments = ["--dataset=fetal_health/synthetic", f"--data-dir={data_dir}", *FLAGS]
    assert sweep.main([*arguments, f"--sweep-dir={folder}", *flags]) == code


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than a trial; the sweep `alone`, begun before this fixture, draws them."""
    monkeypatch.setattr(leaderboard, "_write_plots", lambda study, folder: None)


def _train_nothing(settings: Any, opened: Any, cluster: Any, report: Any) -> list[Any]:
    """In the place of `train_folds`: labels and logits that follow from the settings alone."""
    draws = np.random.default_rng(int(1e12 * settings.learning_rate))
    pairs = [(np.arange(30) % 3, draws.normal(size=(30, 3))) for _ in range(settings.folds)]
    report(0, [metrics_from_logits(logits, labels) for labels, logits in pairs])
    return pairs


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are about what is drawn and kept, not about training."""
    monkeypatch.setattr(trials, "train_folds", _train_nothing)


def _leaderboard(folder: Path) -> list[dict[str, str]]:
    with open(folder / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def _without_ids(folder: Path) -> list[dict[str, str]]:
    """A trial that was cut short leaves its number behind, and the next has another."""
    return [{k: v for k, v in row.items() if k != "id"} for row in _leaderboard(folder)]


RANDOM = ("--trials=4", "--no-prune", "--sampler=random")


@pytest.fixture(scope="module")
def alone(synthetic_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A sweep of four trials: (its folder, what it printed, the roles that it read)."""
    folder, printed = tmp_path_factory.mktemp("sweeps") / "s", io.StringIO()
    read: set[str] = set()
    subset = Data.subset

    def watch(self: Data, role: str) -> Any:
        read.add(role)
        return subset(self, role)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(Data, "subset", watch)
        _sweep(synthetic_data_dir, folder, *RANDOM)
    return folder, printed.getvalue(), read


def test_a_leaderboard_comes_out(alone: Any) -> None:
    """Sorted, with mean and deviation; named settings are not searched; test is not read."""
    folder, printed, read = alone
    assert read == {"train", "validation"}
    rows = _leaderboard(folder)
    values = [float(row["weighted_f1"]) for row in rows]
    assert len(rows) == 4 and values == sorted(values, reverse=True)
    assert {row["id"] for row in rows} == {"0", "1", "2", "3"}
    assert len({row["learning_rate"] for row in rows}) == 4
    assert all(float(row["weighted_f1_deviation"]) >= 0 for row in rows)
    best = json.loads((folder / "best.json").read_text())
    assert best["hidden"] == [8] and best["epochs"] == 1
    for name in ("history.png", "importance.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / "tensorboard").iterdir())) == 4
    assert "classes)\n  input 'features' (tabular), class 'label'\n  4 trials of " in printed
    command = next(line for line in printed.splitlines() if "python -m train.run" in line)
    again = parse_config(command.split("train.run ")[1].split())
    assert again.hidden == (8,) and again.learning_rate == pytest.approx(best["learning_rate"])


def test_a_second_sweep_leaves_the_folds_of_the_first_alone(
    synthetic_data_dir: Path, tmp_path: Path, capsys: Any, untrained: None
) -> None:
    folder = tmp_path / "s"
    fold = folder / "runs" / "0" / "fold-0"
    fold.mkdir(parents=True)
    first = FolderLock(folder, "--sweep-dir")
    _sweep(synthetic_data_dir, folder, "--trials=1", code=1)
    error = capsys.readouterr().err
    assert f"another process works in {folder}" in error and "another --sweep-dir" in error
    assert fold.is_dir() and [p.name for p in folder.iterdir()] == ["runs"]
    first.release()
    _sweep(synthetic_data_dir, folder, "--trials=1")
    assert not fold.exists(), "what a killed sweep left is removed"


# Of the two, `tpe` depends on what the trials before found.
@pytest.mark.parametrize(
    ("sampler", "trained"),
    [
        pytest.param("random", True, marks=pytest.mark.slow),
        pytest.param("tpe", True, marks=pytest.mark.slow),
        ("tpe", False),
    ],
)
def test_an_interrupted_sweep_goes_on_to_the_same_end(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: Any, sampler: str, trained: bool
) -> None:
    """Quickly without training; that a trial begun anew ends with the same figures is seen of
    the workers below.
    """
    if not trained:
        monkeypatch.setattr(trials, "train_folds", _train_nothing)
    monkeypatch.setattr(study, "_STARTUP_TRIALS", 1)  # the others are guided
    flags = ("--trials=3", f"--sampler={sampler}")
    _sweep(synthetic_data_dir, tmp_path / "whole", *flags)
    run_trial, calls = sweep.run_trial, 0

    def interrupted(study: Any, trial: Any, runner: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:  # the trial is at work when the end comes
            raise KeyboardInterrupt
        return run_trial(study, trial, runner)

    monkeypatch.setattr(sweep, "run_trial", interrupted)
    _sweep(synthetic_data_dir, tmp_path / "cut", *flags, code=130)
    assert len(_leaderboard(tmp_path / "cut")) == 1
    monkeypatch.setattr(sweep, "run_trial", run_trial)
    _sweep(synthetic_data_dir, tmp_path / "cut", *flags)
    assert _without_ids(tmp_path / "cut") == _without_ids(tmp_path / "whole")


@pytest.mark.slow
def test_a_terminated_sweep_goes_on_to_the_same_end(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """In processes of their own, with pruning: SIGTERM in the middle of a trial."""
    flags = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}"]
    flags += [
        "--model=mlp_small",
        "--epochs=20",
        "--folds=3",
        "--trials=14",
        "--no-xla",
        "--hidden",
        "8",
    ]
    command = ["-c", "from train import sweep; raise SystemExit(sweep.run_command())", *flags]
    finish(start(*command, f"--sweep-dir={tmp_path / 'whole'}"))
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = start(*command, f"--sweep-dir={tmp_path / 'cut'}")
        before = _count(tmp_path / "cut")
        while _count(tmp_path / "cut") < before + 3 and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.4)
        process.send_signal(number)
        (printed,) = finish(process, code=130 if number == signal.SIGTERM else -number)
        assert number != signal.SIGTERM or "the same command goes on" in printed
        assert 3 <= _count(tmp_path / "cut") < 14
    finish(start(*command, f"--sweep-dir={tmp_path / 'cut'}"))
    found, expected = _without_ids(tmp_path / "cut"), _without_ids(tmp_path / "whole")
    assert found == expected and len(found) == 14
    assert {row["state"] for row in found} == {"complete", "pruned"}


def _count(folder: Path) -> int:
    return len(_leaderboard(folder)) if (folder / "leaderboard.csv").exists() else 0


def test_named_settings_stay_also_where_they_are_the_default(
    synthetic_data_dir: Path, tmp_path: Path, untrained: None
) -> None:
    """A weight decay is drawn for AdamW, whoever chose that."""
    flags = ("--model=mlp_report", "--trials=2", "--optimizer=adamw", "--dropout=0.15")
    _sweep(synthetic_data_dir, tmp_path / "s", *flags)
    for row in _leaderboard(tmp_path / "s"):
        assert "optimizer" not in row and "dropout" not in row and "hidden" not in row
        assert float(row["weight_decay"]) > 0
    best = json.loads((tmp_path / "s" / "best.json").read_text())
    assert (best["optimizer"], best["dropout"]) == ("adamw", 0.15)


def test_a_trial_whose_loss_is_no_number_ends_alone(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    flags = ("--trials=2", "--learning-rate=1e30", "--optimizer=sgd", "--weight-decay=0")
    _sweep(synthetic_data_dir, tmp_path / "s", *flags)
    rows = _leaderboard(tmp_path / "s")
    assert [row["state"] for row in rows] == ["diverged"] * 2
    assert not (tmp_path / "s" / "best.json").exists()


def test_a_folder_belongs_to_its_sweep(
    synthetic_data_dir: Path, tmp_path: Path, capsys: Any, untrained: None
) -> None:
    _sweep(synthetic_data_dir, tmp_path / "s", "--trials=1")
    _sweep(synthetic_data_dir, tmp_path / "s", "--trials=1", "--metric=loss", code=1)
    message = capsys.readouterr().err
    assert "other settings (metric: 'weighted_f1', now 'loss'). Choose another --sweep" in message


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"settings": {"epochs": 1}, "metric": "loss"}, r"\(epochs: 1, now 2\)"),
        ({"settings": {}, "metric": "f1"}, r"\(metric: 'f1', now 'loss', epochs: None, now 2\)"),
        ({"metric": "loss"}, r"other settings \(\)"),
    ],
)
def test_what_differs_of_another_sweep_is_named(stored: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"sweep: here belongs to a sweep with .*{said}"):
        sweep._check_same("here", {"settings": {"epochs": 2}, "metric": "loss"}, stored)


@pytest.mark.slow
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


# A worker that is killed in the middle of its second trial (`dies`), or looks after such ones.
WORKER = """
import os, signal, sys
from train import sweep
from train.search import places
from train.search.trial import TrialRunner

places.SILENT_S, places.BEAT_S, report, begun = 3.0, 0.2, TrialRunner._report, set()

def dying(self, trial, *others):
    begun.add(trial.number)
    if len(begun) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    report(self, trial, *others)

if sys.argv[1] == "dies":
    TrialRunner._report = dying
raise SystemExit(sweep.main(sys.argv[2:]))
"""


def test_workers_share_a_sweep_and_one_is_killed(
    synthetic_data_dir: Path, tmp_path: Path, alone: Any
) -> None:
    """The end has every trial once, each with the result that a lone sweep finds."""
    flags = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}", *FLAGS]
    flags += RANDOM
    folder = tmp_path / "s"
    storage = [f"--storage=journal:{tmp_path / 'secret.log'}", f"--sweep-dir={folder}"]
    dying, other = (fork("-c", WORKER, kind, *flags, *storage) for kind in ("dies", "lives"))
    (printed,) = finish(other)
    dying.communicate()
    assert dying.returncode == -signal.SIGKILL
    assert "its worker is silent; it begins anew" in printed and "shared with other" in printed
    assert _without_ids(folder) == _without_ids(alone[0]) and "secret" not in printed
    assert all(b"secret" not in f.read_bytes() for f in folder.rglob("*") if f.is_file())
    done = sweep.main([*flags, *storage]), sweep.main([*flags, *storage, "--metric=loss"])
    assert done == (0, 1)
