"""The demo without training: commands, summary, verdicts."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import demo as whole_demo
from train import commands, demo
from train.run import parse_config


def _write_run(folder: Path) -> None:
    """What the demo reads of a finished run."""
    folder.mkdir(parents=True)
    metrics = {"accuracy": 0.9, "weighted_f1": 0.8}
    found: dict[str, Any] = {"validation": metrics, "test": metrics, "input_share": 0.125}
    found |= {"seconds": {"setup": 1, "input": 2, "step": 3, "rest": 4}}
    found |= {"devices": ["/device:CPU:0"], "strategy": "mirrored"}
    (folder / "metrics.json").write_text(json.dumps(found))
    (folder / "config.json").write_text("{}")
    (folder / "history.csv").write_text("epoch,examples_per_s\n1,1\n2,100\n3,300\n4,200\n")
    for figure in ("curves.png", "confusion_matrix.png"):
        (folder / figure).write_bytes(b"")


def test_summary_holds_metrics_time_and_figures(tmp_path: Path) -> None:
    for name in commands.SETS:
        _write_run(tmp_path / name)
    one: dict[str, Any] = {"dataset": "fetal_health/synthetic/1.0.0", "question": "cold epoch"}
    systems = {"ours": {"median": 50.0}, "fit": {"median": 100.0}}
    one |= {"reference": "fit", "ratio": 0.5, "quantity": "examples/s", "systems": systems}
    short = one | {"question": "warm, iterator", "ratio": 0.125}
    (tmp_path / "benchmarks.json").write_text(json.dumps({"comparisons": [one, short]}))
    options = whole_demo.parse_arguments(["--run_dir", str(tmp_path)])
    compared = whole_demo.comparison_lines(options.run_dir)
    text = "\n".join(demo.summary_lines(options.run_dir, compared))
    for name, model in commands.SETS.items():
        assert f"{name}, {model}" in text
        assert str(tmp_path / name / "curves.png") in text
        assert str(tmp_path / name / "confusion_matrix.png") in text
    assert "0.900   0.800" in text and "12.5 %" in text
    assert "200" in text  # the median of the epochs after the first
    assert "enerated" in text and f"--logdir {tmp_path}" in text
    assert "0.50  examples/s, fit" in text and "0.12" not in text
    (tmp_path / "song_lyrics" / "curves.png").unlink()
    with pytest.raises(ValueError, match=r"song_lyrics expected curves\.png"):
        demo.summary_lines(options.run_dir)


def test_demo_replaces_its_own_run_folders_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(
        demo, "run_command", lambda _, command, *args, **more: started.append(command)
    )
    _write_run(tmp_path / "fetal_health")
    (tmp_path / "song_lyrics").mkdir()
    (tmp_path / "song_lyrics" / "mine.txt").write_text("not a run folder")
    options = demo.parse_arguments(["--run-dir", str(tmp_path)])
    for name in commands.SETS:
        demo._train(name, options.data_dir, options.run_dir)
    assert not (tmp_path / "fetal_health").exists()
    assert (tmp_path / "song_lyrics" / "mine.txt").exists()
    for command in started:
        config = parse_config(command[3:])
        assert config.strategy == "mirrored" and "synthetic" in config.dataset


def test_failing_command_ends_the_demo_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(data_dir: Path, log: Path) -> None:
        code = "import sys; print('error: no such thing'); sys.exit(3)"
        commands.run_command("building", [sys.executable, "-c", code], log)

    monkeypatch.setattr(demo, "prepare_synthetic_sets", fail)
    assert demo.main(["--run-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "error: no such thing" in error and "exit code 3 of: " in error
    assert "build.log" in error


def test_a_fork_is_as_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "_import_once", lambda: None)
    monkeypatch.syspath_prepend(tmp_path)
    code = """
import atexit, os, sys
atexit.register(print, "at the end")
print(__name__, sys.argv[1:], os.environ["PYTHONUNBUFFERED"], sys.stdin.read())
print("to stderr", file=sys.stderr)
os.environ["A_FORK"] = "its own"
sys.exit(int(sys.argv[1]))
"""
    (tmp_path / "forked_module.py").write_text(code)
    log = tmp_path / "log"

    def run(*arguments: str) -> float:
        command = commands.python_command("forked_module", *arguments)
        return commands.run_command("forking", command, log, fork=True)

    ended = tmp_path / "ended"  # of the process that forks
    atexit.register(ended.touch)
    assert 0 < run("0", "b c") < 60
    atexit.unregister(ended.touch)
    assert not ended.exists()
    said = log.read_text().splitlines()
    assert said[1:] == ["__main__ ['0', 'b c'] 1 ", "to stderr", "at the end"]
    assert "A_FORK" not in os.environ and "forking: " in capsys.readouterr().out
    with pytest.raises(commands.CommandError, match=r"exit code 3 of: .* -m forked_module 3"):
        run("3")
    with pytest.raises(commands.CommandError, match="ValueError"):
        run("x")


def test_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(commands.CommandError, match="no-such-program") as caught:
        commands.run_command("nothing", ["no-such-program", "x"], tmp_path / "log")
    assert "No such file" in caught.value.last_line


def test_prepared_sets_are_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(
        commands, "run_command", lambda title, command, log: started.append(command)
    )
    for name in ("fetal_health", "song_lyrics"):
        folder = tmp_path / name / "synthetic" / "1.0.0"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{}")
    commands.prepare_synthetic_sets(tmp_path, tmp_path / "log")
    ((_, build, *rest),) = started
    assert build == "build" and len([word for word in rest if "builders" in word]) == 1
    assert "prepared already" not in capsys.readouterr().out
    commands.prepare_synthetic_sets(tmp_path, tmp_path / "log", ["song_lyrics"])
    assert len(started) == 1 and "prepared already" in capsys.readouterr().out


def test_it_starts_without_tensorflow() -> None:
    # The demo only starts processes: importing TensorFlow would cost it seconds.
    code = "import sys, train.demo, benchmarks.demo; print('tensorflow' in sys.modules)"
    root = commands.REPOSITORY
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
