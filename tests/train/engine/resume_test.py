"""Runs that are interrupted, killed, damaged or moved to another number of replicas go on."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.runs import REPOSITORY, check_same_run, finish, history, start
from tests.support.tiny_models import take_tiny_backbone
from train.engine.checkpoint import read_checkpoint, write_checkpoint
from train.engine.state import State
from train.run import main
from train.step.predictor import Predictor

TABLE = ["--dataset=fetal_health/synthetic", "--no-xla", "--model=mlp_small"]
FAMILIES = {
    "tables": ["--dataset=fetal_health/synthetic", "--epochs=80", "--dropout=0.2"],
    "pictures": [
        "--dataset=brain_tumor_mri/synthetic", "--image-size=64", "--epochs=40",
        "--early-stopping=15", "--dropout=0.2",
    ],
    "texts": ["--dataset=song_lyrics/synthetic", "--sequence-length=16", "--epochs=4"],
}  # fmt: skip
MIRRORED = ["--strategy=mirrored", "--cpu-devices=2"]


def _names(run_dir: Path) -> list[int]:
    return sorted(int(p.stem[5:]) for p in run_dir.glob("checkpoints/step-*.npz"))


@pytest.mark.parametrize("cache", ["device", "memory"])
def test_checkpoints_come_every_n_steps_and_k_are_kept(
    cache: str, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """An epoch has 48 steps, in one chunk from the host's memory."""
    flags = [*TABLE, f"--data-dir={synthetic_data_dir}", f"--cache={cache}", "--epochs=2"]
    flags += ["--checkpoint-steps=10", f"--run-dir={tmp_path}"]
    assert main([*flags, "--keep-checkpoints=4"]) == 0
    assert _names(tmp_path) == [70, 80, 90, 96]
    assert not list(tmp_path.glob("checkpoints/.*"))


def test_on_other_replicas_the_losses_agree(
    synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    """From 1 to 2 replicas in mid-epoch: the epoch's sums are counted once."""
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    flags = [*TABLE, f"--data-dir={synthetic_data_dir}", "--epochs=3", "--dropout=0"]
    assert (
        main([*flags, f"--run-dir={whole}", "--checkpoint-steps=10", "--keep-checkpoints=9"]) == 0
    )
    shutil.copytree(whole, moved)
    (moved / "metrics.json").unlink()
    for step in _names(moved):
        if step > 70:
            (moved / f"checkpoints/step-{step:010d}.npz").unlink()
    capsys.readouterr()
    assert main([*flags, f"--run-dir={moved}", "--strategy=mirrored"]) == 0
    printed = capsys.readouterr().out
    assert "going on at epoch 2, step 22" in printed
    assert "began with 1 replica, goes on with 2: the same examples in the same order" in printed
    for a, b in zip(history(whole), history(moved), strict=True):
        for name in a:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-4, abs=1e-6), name
    assert main([*flags, f"--run-dir={moved}", "--strategy=one_device"]) == 1
    assert "belongs to a run with other settings" in capsys.readouterr().err, "it is finished"


def _arrays(value: float) -> dict[str, list[np.ndarray]]:
    return {"model": [np.full((20, 3), value, np.float32)], "best": []}


def test_damaged_newest_checkpoint_falls_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 20):
        write_checkpoint(tmp_path, step, _arrays(step), {"step": step})
    newest = tmp_path / "step-0000000020.npz"
    whole = newest.read_bytes()
    noticed = 0
    flipped = [whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :] for i in range(len(whole))]
    for damaged in (b"", whole[:100], whole[:-1], whole[: len(whole) // 2], *flipped):
        newest.write_bytes(damaged)
        found = read_checkpoint(tmp_path)
        assert found is not None
        arrays, state = found
        printed = capsys.readouterr().out
        if state["step"] == 10:
            noticed += 1
            assert "step-0000000020.npz is damaged" in printed
            assert "going on from step-0000000010.npz" in printed
        # Some bytes of a zip file, such as a date, are of no use: then nothing has changed.
        np.testing.assert_array_equal(arrays["model"][0], _arrays(state["step"])["model"][0])
    assert noticed > 0.8 * len(whole)
    newest.unlink()
    (tmp_path / "step-0000000010.npz").write_bytes(b"")
    assert read_checkpoint(tmp_path) is None
    assert "beginning anew" in capsys.readouterr().out


def test_a_run_that_left_no_checkpoint_says_that_it_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = SimpleNamespace(is_chief=True, check_same=lambda *found: None)
    state: Any = SimpleNamespace(_checkpoints=tmp_path / "checkpoints", _cluster=cluster)
    State.restore(state)
    assert not capsys.readouterr().out  # of a first start
    (tmp_path / "history.csv").touch()
    State.restore(state)
    assert "no checkpoint was left" in capsys.readouterr().out


def test_a_damaged_checkpoint_of_a_later_step_goes_with_the_next_write(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write_checkpoint(tmp_path, step, _arrays(step), {}, keep=3)
    (tmp_path / "step-0000000030.npz").write_bytes(b"")
    write_checkpoint(tmp_path, 25, _arrays(25), {}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step-0000000020.npz",
        "step-0000000025.npz",
    ]


def test_failing_save_keeps_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, 10, _arrays(10), {"step": 10}, keep=1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.engine.checkpoint.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path, 20, _arrays(20), {"step": 20}, keep=1)
    found = read_checkpoint(tmp_path)
    assert found is not None and found[1] == {"step": 10}
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000000010.npz"]


@pytest.mark.parametrize("delay_s", [2.0, pytest.param(4.5, marks=pytest.mark.slow)])
def test_sigterm_before_the_first_step_ends_with_a_message(
    delay_s: float, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """While TensorFlow is imported, or while a backbone's features are computed; of that quickly
    the next test.
    """
    process = start(
        "--dataset=brain_tumor_mri/synthetic", f"--data-dir={synthetic_data_dir}",
        "--image-size=320", f"--run-dir={tmp_path / 'run'}",
    )  # fmt: skip
    time.sleep(delay_s)
    process.send_signal(signal.SIGTERM)
    (printed,) = finish(process, code=130, timeout_s=60)
    assert "interrupted; the same command" in printed


def test_sigterm_while_features_are_computed_ends_with_a_message(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    take_tiny_backbone(monkeypatch)
    outputs, computed = Predictor.outputs, list[str]()

    def interrupted(self: Predictor, *named: str) -> Any:
        computed.extend(named)
        signal.raise_signal(signal.SIGTERM)
        return outputs(self, *named)

    monkeypatch.setattr(Predictor, "outputs", interrupted)
    flags = ["--dataset=brain_tumor_mri/synthetic", f"--data-dir={synthetic_data_dir}"]
    flags += ["--image-size=32", "--seed=7", "--strategy=one_device", f"--run-dir={tmp_path / 'r'}"]
    assert main(flags) == 130
    assert computed == ["features of train"]
    assert "interrupted; the same command" in capsys.readouterr().err


def test_interrupted_in_code_of_an_extension_it_ends_with_130_all_the_same(tmp_path: Path) -> None:
    """CPython notes it there and would end a process begun with -m by SIGINT: exit code -2."""
    lines = [
        "import ctypes, sys",
        "from records.system.command import run_as_command",
        "run = ctypes.pythonapi.PyRun_String",
        "run.restype, names = ctypes.py_object, ctypes.py_object({})",
        "def work():",
        "    run(b'raise KeyboardInterrupt', 257, names, names)",
        "sys.exit(run_as_command(work, tensorflow=False))",
    ]
    (tmp_path / "begun.py").write_text("\n".join(lines))
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": paths}
    ended = subprocess.run([sys.executable, "-m", "begun"], env=environment, check=False)
    assert ended.returncode == 130


@pytest.mark.slow
def test_sigint_in_the_middle_of_validation_goes_on(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes during the second validation; the epoch is not trained again.

    Quick: the same with SIGTERM in `object_store_test.py::test_a_run_in_a_bucket_goes_on_on_a_...`.
    """
    flags = [*TABLE, f"--data-dir={synthetic_data_dir}", "--epochs=3", "--dropout=0.1"]
    assert main([*flags, f"--run-dir={tmp_path / 'whole'}"]) == 0
    called, outputs = [], Predictor.outputs

    def interrupted(self: Predictor) -> Any:
        called.append(1)
        if len(called) == 2:
            signal.raise_signal(signal.SIGINT)
        return outputs(self)

    flags += [f"--run-dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "outputs", interrupted)
        assert main(flags) == 130
    found = read_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert (found[1]["epoch"], found[1]["step"]) == (1, 48), "all steps, not yet validated"
    assert main(flags) == 0
    check_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_killed_at_random_instants_it_ends_the_same(
    family: str, replicas: int, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """Four SIGKILLs each, 24 in all, between just before the first step and the end."""
    flags = [*FAMILIES[family], f"--data-dir={synthetic_data_dir}"]
    flags += MIRRORED if replicas == 2 else ["--strategy=one_device"]
    began = time.monotonic()
    finish(start(*flags, f"--run-dir={tmp_path / 'whole'}"))
    seconds = time.monotonic() - began
    spent = json.loads((tmp_path / "whole/metrics.json").read_text())["seconds"]
    before = seconds - sum(spent[k] for k in ("input", "step", "rest")) - 1
    instants, kills, saved = random.Random(f"{family} {replicas}"), 0, 0
    flags += [f"--run-dir={tmp_path / 'killed'}", "--checkpoint-steps=7"]
    while kills < 4:
        process = start(*flags)
        time.sleep(instants.uniform(before, seconds))
        if process.poll() is not None:  # it came to its end first: begin again
            finish(process)
            check_same_run(tmp_path / "whole", tmp_path / "killed")
            shutil.rmtree(tmp_path / "killed")
            continue
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        saved += bool(_names(tmp_path / "killed"))
    (printed,) = finish(start(*flags))
    match = re.search(r"going on at epoch (\d+), step (\d+)", printed)
    print(
        f"{family}, {replicas} replicas: {kills} kills, {saved} with checkpoints,",
        match and match[0],
    )
    assert saved, "some must fall behind the first checkpoint"
    check_same_run(tmp_path / "whole", tmp_path / "killed")
