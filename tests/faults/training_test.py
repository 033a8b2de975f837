"""Faults while training: each ends with a message or is got over, and nothing is lost."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train.engine.state
import train.engine.whole_run
import train.folders.run_folder
from records.examples import Examples
from records.ordering.order import Order
from records.sets.find import find_directory
from records.shards import open_files
from tests.support.faults import record_fault
from tests.support.runs import REPOSITORY, check_same_run, finish, start, weights
from train.engine.checkpoint import read_checkpoint, write_checkpoint
from train.run import main

SIZE = 32


def _flags(data_dir: Path, run_dir: Path) -> list[str]:
    found = ["--dataset=fetal_health/synthetic", f"--data-dir={data_dir}", "--no-xla"]
    found += ["--model=mlp_small", f"--global-batch-size={SIZE}", "--epochs=2", "--precision"]
    return [*found, "float32", "--strategy=one_device", f"--run-dir={run_dir}"]


@pytest.fixture
def flags(synthetic_data_dir: Path, tmp_path: Path) -> list[str]:
    """Of a short run on fetal_health."""
    return _flags(synthetic_data_dir, tmp_path / "run")


@pytest.fixture(scope="module")
def whole(synthetic_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that run, which nothing disturbed."""
    run_dir = tmp_path_factory.mktemp("training") / "whole"
    assert main(_flags(synthetic_data_dir, run_dir)) == 0
    return run_dir


def _poison(monkeypatch: pytest.MonkeyPatch, value: float, epochs: int) -> dict[str, Any]:
    """Lets one training example hold `value`; where it stands in the first epoch."""
    build = train.engine.whole_run.build_training
    told: dict[str, Any] = {}

    def poisoned(*arguments: Any) -> Any:
        training = build(*arguments)  # after its statistics were computed
        found: Examples = training.examples["train"]
        told["number"] = number = int(found.numbers[70])
        inputs = found.inputs
        assert inputs is not None
        inputs[number, 3] = value
        order = Order(found.num_examples, SIZE, seed=0)
        told["steps"] = steps = order.steps_per_epoch
        told["hits"] = [
            (e, s)
            for e in range(epochs)
            for s in range(steps)
            if number in found.numbers[order.examples(e, s, 1)[0][0]]
        ]
        return training

    monkeypatch.setattr(train.engine.whole_run, "build_training", poisoned)
    return told


def test_a_loss_that_is_no_number_stops_at_its_step(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    told = _poison(monkeypatch, float("inf"), epochs=2)
    # Without XLA the loss stays a number here, and only the gradients are none.
    assert main([*flags, "--xla"]) == 1
    message = capsys.readouterr().err
    epoch, step = told["hits"][0]
    where = f"epoch {epoch + 1}, step {step} (step {step + epoch * told['steps']} of the run)"
    assert where in message
    assert "and 24 more" in message
    assert "(1 not finite)" in message and "Traceback" not in message
    assert not list((tmp_path / "run").glob("checkpoints/*.npz"))  # none with NaN weights
    outcome = "exit code 1; the last checkpoint is one from before"
    record_fault("the loss becomes NaN", message, outcome, tmp_path)


def test_steps_that_are_no_number_are_skipped_and_counted(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    told = _poison(monkeypatch, float("inf"), epochs=2)
    assert main([*flags, "--on-nan=skip"]) == 0
    printed = capsys.readouterr().out
    assert len(told["hits"]) == 2
    assert "1 steps skipped" in printed and "2 steps skipped" in printed
    _check_skipped(tmp_path / "run", 2)
    line = next(line for line in printed.splitlines() if "2 steps skipped" in line)
    outcome = "such a step changes nothing; counted in every epoch and in metrics.json"
    record_fault("the loss becomes NaN, --on-nan skip", line, outcome, tmp_path)


def _check_skipped(run: Path, count: int) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["skipped_steps"] == count
    assert all(np.isfinite(w).all() for w in weights(run))
    with open(run / "history.csv") as file:
        assert all(np.isfinite(float(row["loss"])) for row in csv.DictReader(file))


def test_two_replicas_skip_a_step_together(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The loss of one replica is no number; neither counts the step."""
    _poison(monkeypatch, float("inf"), epochs=2)
    run = [f for f in flags if "strategy" not in f] + ["--strategy=mirrored", "--on-nan=skip"]
    assert main(run) == 0
    assert "mirrored, 2 replicas" in capsys.readouterr().out
    _check_skipped(tmp_path / "run", 2)


def test_skipping_leaves_other_steps_bitwise_as_they_are(
    flags: list[str], whole: Path, tmp_path: Path
) -> None:
    assert main([*flags[:-1], f"--run-dir={tmp_path / 'skip'}", "--on-nan=skip"]) == 0
    for a, b in zip(weights(whole), weights(tmp_path / "skip"), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def _fail_writing(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, times: int) -> None:
    """Lets a function fail its first calls as on a full disk, after it has written a part."""
    write = getattr(target, name)
    left = [times]

    def fail(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*arguments, **options)

    monkeypatch.setattr(target, name, fail)


def test_a_full_disk_at_a_checkpoint_loses_nothing(
    flags: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = [*flags[:-1], f"--run-dir={tmp_path / 'full'}", "--checkpoint-steps=20"]
    with monkeypatch.context() as full:
        _fail_writing(full, train.engine.state, "write_checkpoint", 1)
        assert main(run) == 0
    printed = capsys.readouterr()
    assert "no checkpoint" in printed.err and "training goes on" in printed.err
    check_same_run(whole, tmp_path / "full")
    outcome = "training goes on to the same result; the older checkpoints are whole"
    record_fault("disk full at a checkpoint", printed.err, outcome, tmp_path)


def test_a_full_disk_at_the_last_checkpoint_ends_the_run_and_it_goes_on(
    flags: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = [*flags[:-1], f"--run-dir={tmp_path / 'full'}", "--checkpoint-steps=60"]
    replace = os.replace
    with monkeypatch.context() as full:

        def fail(source: Any, target: Any) -> None:
            if "step-" in str(target) and "step-0000000060" not in str(target):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(source, target)

        full.setattr(os, "replace", fail)
        capsys.readouterr()
        assert main(run) == 1
    message = capsys.readouterr().err
    assert "expected room for a checkpoint" in message and "Traceback" not in message
    outcome = "exit code 1; the same command goes on from the one before, to the same result"
    record_fault("disk full at the last checkpoint", message, outcome, tmp_path)
    folder = tmp_path / "full" / "checkpoints"
    assert [p.name for p in folder.iterdir()] == ["step-0000000060.npz"]
    assert main(run) == 0
    assert "going on at epoch 2, step 12" in capsys.readouterr().out
    check_same_run(whole, tmp_path / "full")


def test_a_full_disk_at_a_log_costs_that_log(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _fail_writing(monkeypatch, train.folders.run_folder, "write_atomically", 2)
    assert main(flags) == 1  # config.json: the run does not begin
    assert main(flags) == 1
    capsys.readouterr()
    _fail_writing(monkeypatch, train.folders.run_folder.RunFolder, "write_history", 1)
    assert main(flags) == 0
    message = capsys.readouterr().err
    assert "no log of epoch 1" in message
    outcome = "training goes on; the next epoch writes the whole history again"
    record_fault("disk full at a log", message, outcome, tmp_path)
    with open(tmp_path / "run" / "history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_data_that_vanish_end_a_run_that_reads_them(
    synthetic_data_dir: Path,
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    source = Path(find_directory("fetal_health/synthetic", str(synthetic_data_dir)))
    folder = tmp_path / "data" / "fetal_health" / "synthetic" / source.name
    flags = [f"--data-dir={tmp_path / 'data'}" if "data-dir" in f else f for f in flags]
    build = train.engine.whole_run.build_training

    def vanish(*arguments: Any) -> Any:
        training = build(*arguments)
        shutil.rmtree(folder)
        open_files._files.clear()  # as a network file system does: open files are gone, too
        return training

    monkeypatch.setattr(train.engine.whole_run, "build_training", vanish)
    for cache, code in (("none", 1), ("memory", 0)):
        shutil.copytree(source, folder)
        run = [*flags[:-1], f"--run-dir={tmp_path / cache}", f"--cache={cache}"]
        assert main(run) == code
        message = capsys.readouterr().err
        if cache == "none":
            assert "expected the shard, received" in message and "Traceback" not in message
            outcome = "exit code 1; with a cache in memory the run goes on"
            record_fault("the data vanish, --cache none", message, outcome, tmp_path)


def test_clocks_that_jump_change_nothing(
    flags: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, calls = time.time, [0]

    def jump() -> float:
        calls[0] += 1
        return now() + (-1) ** calls[0] * 1e8

    monkeypatch.setattr(time, "time", jump)
    assert main([*flags[:-1], f"--run-dir={tmp_path / 'jumps'}"]) == 0
    check_same_run(whole, tmp_path / "jumps")
    metrics = json.loads((tmp_path / "jumps" / "metrics.json").read_text())
    assert all(seconds >= 0 for seconds in metrics["seconds"].values())


def test_a_memory_budget_that_is_too_small_takes_the_next_level(
    synthetic_data_dir: Path,
    flags: list[str],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    source = Path(find_directory("fetal_health/synthetic", str(synthetic_data_dir)))
    shutil.copytree(source, tmp_path / "data" / "fetal_health" / "synthetic" / source.name)
    flags = [f"--data-dir={tmp_path / 'data'}" if "data-dir" in f else f for f in flags]
    for level, has_space in (("disk", True), ("none", False)):
        monkeypatch.setattr("records.loading.cache.has_space", lambda *_, found=has_space: found)
        run = [*flags[:-1], f"--run-dir={tmp_path / level}", "--memory-budget=100000"]
        assert main([*run, "--shuffle-block=1701"]) == 0
        line = next(x for x in capsys.readouterr().out.splitlines() if f"cache {level}" in x)
        outcome = "the next cache level; the same examples in the same order"
        record_fault(f"memory is short, {level} is next", line.strip(), outcome, tmp_path)
        for a, b in zip(weights(whole), weights(tmp_path / level), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


_WRITE = """
import sys
from pathlib import Path
import numpy as np
from train.engine.checkpoint import write_checkpoint
step = int(sys.argv[2])
print("ready", flush=True)
while True:
    step += 1
    arrays = {"model": [np.full(200_000, step, np.float32)]}
    write_checkpoint(Path(sys.argv[1]), step, arrays, {"step": step})
    print(step, flush=True)
"""


@pytest.mark.parametrize("kills", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_a_kill_while_checkpoints_are_written_costs_none(tmp_path: Path, kills: int) -> None:
    """After each kill the newest whole checkpoint is the last that was said, or the one begun."""
    rng = np.random.default_rng(3)
    folder, said = tmp_path / "checkpoints", 0
    unfinished = 0
    for _ in range(kills):
        command = [sys.executable, "-c", _WRITE, str(folder), str(said)]
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(float(rng.uniform(0, 0.05)))
            child.kill()
            lines = child.stdout.read().split()
        said = int(lines[-1]) if lines else said
        unfinished += (folder / ".unfinished").exists()
        if not list(folder.glob("*.npz")):
            assert said == 0
            continue
        found = read_checkpoint(folder)
        assert found is not None
        arrays, state = found
        assert state["step"] in (said, said + 1) and (arrays["model"][0] == state["step"]).all()
        said = state["step"]
    assert said > 0
    print(f"{kills} kills, {unfinished} left an unfinished file, none cost a whole checkpoint")
    write_checkpoint(folder, said + 1, {"model": []}, {})
    assert not (folder / ".unfinished").exists() and len(list(folder.iterdir())) == 2


@pytest.mark.slow
def test_a_run_that_is_stopped_and_continued_is_the_same(flags: list[str], tmp_path: Path) -> None:
    """SIGSTOP and SIGCONT, as a suspended machine."""
    assert main(flags) == 0
    process = start(*flags[:-1], f"--run-dir={tmp_path / 'stopped'}")
    for _ in range(10):
        time.sleep(1)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
    finish(process)
    check_same_run(tmp_path / "run", tmp_path / "stopped")
