"""Whole runs at the command line: the run folder, resuming, and errors."""

import json
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import models  # noqa: F401 - registers its layers, for the stored model
from records import open_data
from tests.support.forks import fork
from tests.support.runs import check_same_run, finish, fork_run, history, start
from tests.support.tiny_models import take_tiny_backbone, take_tiny_texts
from train import evaluate
from train.run import main

FAST = ["--dataset", "fetal_health/synthetic", "--epochs", "3", "--evaluate-test"]


def _run(*arguments: str, code: int = 0, begin: Any = fork_run) -> str:
    """Runs to the end; what it printed, checked to hold no TensorFlow noise."""
    (printed,) = finish(begin(*arguments), code=code, timeout_s=400)
    assert "oneDNN" not in printed and "cuda" not in printed.lower(), printed
    return printed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: Any, synthetic_data_dir: Path) -> Any:
    """An uninterrupted run: (folder, what it printed, its flags)."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    flags = [*FAST, "--data-dir", str(synthetic_data_dir), "--profile", "4,8", "--dropout", "0.2"]
    flags += ["--model=mlp_small"]
    # As a user starts it, from nothing: what TensorFlow prints while it is imported is seen, too.
    return run_dir, _run(*flags, "--run-dir", str(run_dir), begin=start), flags


def test_run_folder_holds_what_the_design_says(finished: Any) -> None:
    run_dir, printed, _ = finished
    for name in (
        "config.json",
        "history.csv",
        "metrics.json",
        "model.keras",
        "checkpoints",
        "curves.png",
        "confusion_matrix.png",
        "tensorboard",
        "profile.json",
    ):
        assert (run_dir / name).exists(), name
    assert not [p for p in run_dir.iterdir() if p.name.startswith(".")], "leftovers"
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert {"versions", "data_fingerprint", "seed", "machine"} <= metrics.keys()
    assert len(history(run_dir)) == 3
    assert "GENERATED" in printed and "--dataset" in printed
    assert "recall per class" in printed and "tensorboard --logdir" in printed
    (evaluation,) = re.findall(r"python -m (train\.evaluate .*?)   ", printed)
    finish(fork("-m", *shlex.split(evaluation)))
    assert (run_dir / "evaluation-validation").is_dir()
    trace = json.loads((run_dir / "profile.json").read_text())["trace"]
    assert trace["calls"] == 4 and 0 <= trace["input_share"] < 1


def test_stored_metrics_are_those_of_the_stored_model(
    finished: Any, synthetic_data_dir: Path
) -> None:
    """Keras's own evaluation of model.keras, on data read by our pipeline."""
    run_dir, _, _ = finished
    examples = open_data("fetal_health/synthetic", str(synthetic_data_dir)).examples("test")
    model = keras.models.load_model(run_dir / "model.keras", compile=False)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    loss, accuracy = model.evaluate(examples.inputs, examples.split_labels, verbose=0)
    stored = json.loads((run_dir / "metrics.json").read_text())["test"]
    assert stored["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert stored["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_killed_run_ends_with_the_same_weights(
    replicas: int, finished: Any, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """Quick: SIGKILL and a restart in `devices/multi_worker_test.py`, the end in mid-epoch on one
    device in `targets_test.py`, in validation in `engine/resume_test.py`.
    """
    whole, _, flags = finished
    if replicas == 2:
        whole = tmp_path / "whole"
        flags = [*FAST, "--data-dir", str(synthetic_data_dir), "--model=mlp_small", "--no-xla"]
        flags += ["--strategy=mirrored", "--cpu-devices=2"]
        _run(*flags, "--run-dir", str(whole))
    killed = tmp_path / "killed"
    # A checkpoint after every call, so that the kill falls into the middle of an epoch.
    flags = [*flags, "--run-dir", str(killed), "--checkpoint-minutes", "0"]
    # Killed, a forked process ends as another does.
    process = (start if replicas == 1 else fork_run)(*flags)
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoints/step-*.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert list(killed.glob("checkpoints/step-*.npz"))
    assert not (killed / "metrics.json").exists(), "it must have been killed before its end"
    assert "going on at epoch" in _run(*flags)
    check_same_run(whole, killed)


def test_sigterm_writes_a_checkpoint_and_the_same_command_goes_on(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    flags = ["--dataset=fetal_health/synthetic", "--model=mlp_small", "--no-xla"]
    flags += ["--epochs=2000", "--data-dir"]
    flags += [str(synthetic_data_dir), "--run-dir", str(tmp_path / "run")]
    process = fork_run(*flags)
    deadline = time.monotonic() + 120
    while "epoch   3" not in process.printed() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in err
    assert list((tmp_path / "run").glob("checkpoints/step-*.npz"))


def test_finished_run_is_shown_and_other_settings_are_refused(
    finished: Any, tmp_path: Path
) -> None:
    run_dir, _, flags = finished
    older = shutil.copytree(run_dir, tmp_path / "older")
    stored = json.loads((older / "config.json").read_text())
    del stored["group_folds"]  # as another version wrote it, that had no such flag
    (older / "config.json").write_text(json.dumps(stored))
    printed = _run(*flags, "--run-dir", str(older), code=1)
    assert "another version of this project: missing group_folds" in printed
    assert "finished run of these settings" in _run(*flags, "--run-dir", str(run_dir))
    printed = _run(*flags, "--run-dir", str(run_dir), "--seed", "5", code=1)
    assert "belongs to a run with other settings (seed: 0, now 5)" in printed
    stored = json.loads((run_dir / "config.json").read_text())
    assert stored["seed"] == 0, "the folder is as it was"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--dataset", "nothing"], "no prepared set 'nothing'"),
        (["--model", "gru"], "mlp"),
        (["--freeze"], "--freeze expected with pictures"),
        (["--fine-tune-epochs", "9"], "--fine-tune-epochs expected with pictures"),
        (["--warmup-epochs", "3"], "--warmup-epochs expected fewer than the 3 epochs"),
        (["--folds", "3"], "--evaluate-test expected with a split test and without --folds"),
        (["--mixup", "0.2"], "--mixup expected with pictures"),
        (["--accumulate-steps", "3"], "--accumulate-steps expected a divisor of the 32 rows"),
        (["--strategy", "mirrored", "--cpu-devices", "2", "--global-batch-size", "33"], "multiple"),
        (["--strategy", "multi_worker"], "TF_CONFIG"),
        (["--run-dir", "/proc/nothing"], "/proc"),
        (["--run-dir", "records"], "expected a run folder or a new name"),
        (["--dataset", "fetal_health/kaggle", "--manual-dir", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_is_a_clear_error(
    arguments: list[str], expected: str, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    base = ["--data-dir", str(synthetic_data_dir), "--run-dir", str(tmp_path / "run"), *FAST]
    printed = _run(*base, *arguments, code=1)
    assert printed.startswith("error: ") or "\nerror: " in printed
    assert expected in printed
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_mirrored_on_one_device_works_and_says_so(synthetic_data_dir: Path, tmp_path: Path) -> None:
    printed = _run(
        *FAST, "--data-dir", str(synthetic_data_dir), "--run-dir", str(tmp_path / "run"),
        "--strategy", "mirrored", "--cpu-devices", "1", "--model=mlp_small", "--no-xla",
        "--epochs=1",
    )  # fmt: skip
    assert "mirrored on the one CPU device there is: 1 replica" in printed


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("network", ["small", pytest.param("whole", marks=pytest.mark.slow)])
def test_text_and_pictures_train_mirrored(
    network: str,
    precision: str,
    synthetic_data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both other families over two replicas: the loss falls and the run folder is whole.

    Quickly without a recurrent layer, whose steps on two replicas `step/matrix_test.py` trains.
    """
    take_tiny_backbone(monkeypatch)
    if network == "small":
        take_tiny_texts(monkeypatch)
    sets = {
        "mixed_bfloat16": ("song_lyrics", ["--sequence-length=16", "--model=gru", "--units=8"]),
        "mixed_float16": ("brain_tumor_mri", ["--image-size=32"]),
    }
    name, own = sets[precision]
    flags = [f"--dataset={name}/synthetic", f"--data-dir={synthetic_data_dir}", "--epochs=2"]
    flags += [f"--run-dir={tmp_path / 'run'}", "--strategy=mirrored", *own]
    assert main([*flags, f"--precision={precision}"]) == 0
    assert "test" not in json.loads((tmp_path / "run" / "metrics.json").read_text()), "unasked"
    rows = history(tmp_path / "run")
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert (tmp_path / "run" / "confusion_matrix.png").exists()


@pytest.mark.real_data
@pytest.mark.parametrize("seeds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_fetal_health_beats_its_goal(
    seeds: int, real_data_dir: Callable[..., str], tmp_path: Path
) -> None:
    """Weighted F1 on test, mean of the seeds, defaults: at least 0.92."""
    scores = []
    for seed in range(seeds):
        run_dir = tmp_path / str(seed)
        _run(
            "--dataset", "fetal_health/kaggle", "--data-dir", real_data_dir("fetal_health/kaggle"),
            "--run-dir", str(run_dir), "--seed", str(seed), "--evaluate-test",
        )  # fmt: skip
        metrics = json.loads((run_dir / "metrics.json").read_text())
        assert metrics["seconds"]["step"] < 60
        scores.append(metrics["test"]["weighted_f1"])
    assert np.mean(scores) >= 0.92, scores


def test_a_finished_run_reads_test_when_it_is_asked_to(
    synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    """The figures are those of `train.evaluate`; the model is not trained again."""
    flags = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}", "--no-xla"]
    flags += ["--model=mlp_small", "--epochs=1", f"--run-dir={tmp_path / 'run'}"]
    assert main(flags) == 0
    before = (tmp_path / "run" / "model.keras").read_bytes()
    assert "test" not in json.loads((tmp_path / "run" / "metrics.json").read_text())
    for _ in range(2):
        assert main([*flags, "--evaluate-test"]) == 0
        printed = capsys.readouterr().out
        assert "is a finished run" in printed
        assert re.search(r"^test +\d\.\d{4}", printed, re.MULTILINE)
    assert (tmp_path / "run" / "model.keras").read_bytes() == before
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    arguments = [str(tmp_path / "run"), f"--data-dir={synthetic_data_dir}", "--split=test"]
    assert evaluate.main([*arguments, "--resamples=2"]) == 0
    file = tmp_path / "run" / "evaluation-test" / "evaluation.json"
    expected = json.loads(file.read_text())
    assert found["test"]["confusion_matrix"] == expected["confusion_matrix"]
    for name in ("loss", "accuracy", "weighted_f1"):
        assert found["test"][name] == pytest.approx(expected["metrics"][name], rel=1e-6)
