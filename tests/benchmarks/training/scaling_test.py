from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.measuring import work as work_module
from benchmarks.measuring.child import ChildError, run_child, start_child, worker_variables
from benchmarks.measuring.comparison import OURS
from benchmarks.measuring.work import Question
from benchmarks.training import scaling, trainer
from benchmarks.training.scaling import LAYOUTS, ONE
from benchmarks.training.trainer import Layout, Trainer

_QUESTION = Question("mlp_small", settings={"global_batch_size": 32})


def _open(data_dir: Path, name: str) -> work_module.Work:
    return work_module.open_work(work_module.choose_set(f"{name}/synthetic", str(data_dir)))


@pytest.mark.slow
def test_devices_and_processes_train_the_same(synthetic_data_dir: Path) -> None:
    """Quick: that less work is caught, and what the children are, in the tests below."""
    work = _open(synthetic_data_dir, "fetal_health")
    layouts = (Layout(), Layout(2), Layout(processes=2))
    effort = dataclasses.replace(work_module.QUICK, repetitions=2)
    answers = scaling.measure_layouts(work, _QUESTION, layouts, effort, lambda text: None)
    names = ["mlp_small, batch 32, 2 devices", "mlp_small, batch 32, 2 processes"]
    assert [c.question for c in answers] == names
    found = [(c.details["devices"], c.details["processes"]) for c in answers]
    assert found == [(2, 1), (1, 2)]
    trained = {s.examples for c in answers for samples in c.samples.values() for s in samples}
    assert len(trained) == 1 and trained.pop() % answers[0].details["examples"] == 0
    for comparison in answers:
        assert set(comparison.samples) == {OURS, ONE.name}
        assert "overhead, not of speed" in comparison.note
        steps = comparison.details["steps_per_second"]
        assert steps[OURS] * comparison.details["global_batch_size"] == pytest.approx(
            comparison.median(OURS), rel=0.1
        )
        assert comparison.details["more_ms_per_step"] == pytest.approx(
            1000 / steps[OURS] - 1000 / steps[ONE.name]
        )
    first, *more = (c.samples[ONE.name] for c in answers)
    assert all(other == first for other in more), "measured once, in turn with all"
    ours = [p for p in psutil.Process().children(recursive=True) if "trainer" in str(p.cmdline())]
    assert not ours, "processes were left"


class _Lazy:
    """Answers like a process that trains all steps but one."""

    def __init__(self, module: str, request: dict[str, Any], variables: Any):
        details = {"examples": 100, "global_batch_size": 32}
        self._answers: list[dict[str, Any]] = [
            {"details": details},
            {"seconds": 1.0, "examples": 200, "steps": 8},
            {"seconds": 1.0, "examples": 200, "steps": 7},
        ]

    def send(self, command: str) -> None:
        assert json.loads(command) == {"epochs": 2, "system": OURS}

    def answer(self) -> dict[str, Any]:
        return self._answers.pop(0)

    def __exit__(self, *error: object) -> None:
        pass


def test_a_layout_that_trains_less_is_caught(synthetic_data_dir: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(trainer, "start_child", _Lazy)
    work = _open(synthetic_data_dir, "fetal_health")
    with Trainer(work, _QUESTION, Layout(2)) as group:
        group.ready()
        assert group.train(2).examples == 200
        with pytest.raises(ValueError, match="2 devices expected to train .* 8}, received .* 7}"):
            group.train(2)


def test_quick_runs_and_other_sets(synthetic_data_dir: Path, monkeypatch: Any) -> None:
    asked: list[tuple[str, int]] = []

    def measure(work: Any, question: Question, layouts: Any, *rest: Any) -> list[Any]:
        asked.append((question.model, len(layouts)))
        return []

    monkeypatch.setattr(scaling, "measure_layouts", measure)
    for name in work_module.DATASETS:
        for effort in (work_module.QUICK, work_module.FULL):
            scaling.measure_scaling(_open(synthetic_data_dir, name), effort, print)
    assert asked == [("mlp", 4), ("efficientnet_lite0", 4)]
    names = [layout.name for layout in LAYOUTS]
    assert names == ["one device", "2 devices", "4 devices", "2 processes"]


def test_a_child_that_fails_says_why() -> None:
    message = "json.tool: .*No such file"
    with start_child("json.tool", {"no": "file"}) as child:
        with pytest.raises(ChildError, match=message):
            child.answer()
        with pytest.raises(ChildError, match=message):
            child.wait()
        with pytest.raises(ChildError, match=f"ended too early, .*{message.rpartition('*')[2]}"):
            child.check_runs()
    with pytest.raises(ChildError, match=message):
        run_child("json.tool", {"no": "file"})


def test_a_child_answers_several_times_and_ends_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(
        "import sys\n"
        "print('talk')\n"
        "for line in sys.stdin:\n"
        "    print('{\"n\": %d}' % int(line), flush=True)\n"
    )
    with start_child("echo", {}, {"PYTHONPATH": str(tmp_path)}) as child:
        process: subprocess.Popen[str] = child._process
        for number in (3, 4):
            child.send(number)
            assert child.answer() == {"n": number}
        assert process.poll() is None
    assert process.poll() is not None


def test_workers_of_one_host_have_ports_of_their_own() -> None:
    found = worker_variables(2)
    assert [set(v) for v in found] == [{"TF_CONFIG"}] * 2
    assert found[0]["TF_CONFIG"].count("localhost:") == 2
    assert found[0]["TF_CONFIG"].replace('"index": 0', '"index": 1') == found[1]["TF_CONFIG"]
