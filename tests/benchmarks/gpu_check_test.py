"""The GPU check on a CPU at its smallest; each kind of broken promise is found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from benchmarks import gpu_cases, gpu_check
from benchmarks.gpu_cases import Case, judge_input, judge_placement, judge_training, list_cases
from benchmarks.gpu_check import audited_launches
from benchmarks.gpu_trace import count_copies, find_misplaced, operations_of_loops, partitions_of
from benchmarks.measuring.child import ChildError
from train.settings.config import PRECISIONS


def _main(tmp_path: Path, data_dir: Path, only: str, **options: Any) -> int:
    given = ["--cpu", "--only", only, "--folder", str(tmp_path), "--data-dir", str(data_dir)]
    return gpu_check.main(given + options.pop("flags", []), **options)


def test_on_a_cpu_at_its_smallest(
    tmp_path: Path,
    synthetic_data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One case, in this process: first where nothing is where it was promised, then as it is."""
    case, only, asked = "placement, mlp, float32, no XLA", "placement, mlp, float32", []

    def ask(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        asked.extend(request["cases"])
        return gpu_cases.answers(request)

    with monkeypatch.context() as planted:
        planted.setattr(gpu_cases, "find_misplaced", lambda o, _: find_misplaced(o, "GPU:0"))
        assert _main(tmp_path, synthetic_data_dir, only, ask=ask) == 1
    said = capsys.readouterr().out
    assert "FAILED: computed on the host: " in said and "MatMul float32 while/body/" in said
    for _ in range(2):
        assert _main(tmp_path, synthetic_data_dir, only, ask=ask) == 0
    assert f"{case}: passed" in capsys.readouterr().out
    assert len(asked) == 2, "what has passed is not asked again"
    found = json.loads((tmp_path / "gpu_check.json").read_text())["cases"][case]
    assert found["operations"] > 100 and found["misplaced"] == []
    page = (tmp_path / "gpu_check.md").read_text()
    assert "says nothing about GPUs" in page and "## Placement" in page
    launches = audited_launches(gpu_check._AUDIT.read_text(), "mlp", "float32")
    assert f"| mlp, float32, no XLA | 0 | 0 | 8 | 0 | 0 | {launches} |" in page and launches


@pytest.mark.slow
def test_trainings_input_and_speed_on_a_cpu(
    tmp_path: Path, synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_cases, "_ROUNDS", 1)
    monkeypatch.setattr(gpu_cases, "_ROUND_SECONDS", 0.0)
    monkeypatch.setattr(gpu_cases, "MOST_ON_CPU", 50.0)
    for only in ("runs, mlp, float32", "input, mlp", "speed, resnet50"):
        assert _main(tmp_path, synthetic_data_dir, only, ask=gpu_cases.answers) == 0
    stored = json.loads((tmp_path / "gpu_check.json").read_text())["cases"]
    run, measured, speed = stored.values()
    assert len(run["losses"]) == 5 and run["losses"][-1] < run["losses"][0]
    assert measured["real_steps_per_s"] > 0 and measured["constant_steps_per_s"] > 0
    assert speed["flops_per_s"] == speed["flops_per_example"] * speed["examples_per_s"] > 0
    page = (tmp_path / "gpu_check.md").read_text()
    assert all(f"## {title}" in page for title in ("Runs", "Input", "Speed"))


def test_a_broken_promise_ends_it_and_is_asked_again(
    tmp_path: Path, synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[dict[str, Any]] = [{"problems": ["computed on the host: Sin"]}, {"problems": []}]

    def ask(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from list(gpu_cases.answers(request | {"cases": []}))
        for case in request["cases"]:
            assert case["section"] == "placement"
            yield results.pop(0)

    def call(*flags: str) -> int:
        only = "placement, mlp, float32"
        return _main(tmp_path, synthetic_data_dir, only, ask=ask, flags=list(flags))

    assert call() == 1
    assert (
        "- placement, mlp, float32, no XLA: computed on the host: Sin"
        in (tmp_path / "gpu_check.md").read_text()
    )
    assert call("--minutes", "0") == 1, "not asked: still broken"
    assert call() == 0
    assert call() == 0, "nothing is left to ask"


def test_a_process_that_ends_costs_one_case(tmp_path: Path, synthetic_data_dir: Path) -> None:
    def ask(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from list(gpu_cases.answers(request | {"cases": []}))
        for case in request["cases"]:
            if case["precision"] == "float32":
                raise ChildError("out of memory")
            yield {"problems": []}

    assert _main(tmp_path, synthetic_data_dir, "placement, mlp", ask=ask) == 1
    stored = json.loads((tmp_path / "gpu_check.json").read_text())["cases"]
    assert stored["placement, mlp, float32, no XLA"]["problems"] == ["out of memory"]
    assert stored["placement, mlp, mixed_float16, no XLA"]["problems"] == []


def test_what_is_left_ends_it_with_two(tmp_path: Path, synthetic_data_dir: Path) -> None:
    flags = ["--minutes", "0"]
    assert _main(tmp_path, synthetic_data_dir, "mlp", ask=gpu_cases.answers, flags=flags) == 2


def test_a_case_that_time_cuts_short_is_left(tmp_path: Path) -> None:
    asked = []

    def ask(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        asked.append(request["end"])
        yield {}
        time.sleep(max(0.0, request["end"] - time.monotonic()))
        raise ChildError("no answer in 0 s")

    names = ["runs, a", "runs, b"]
    cases = [{"name": name, "section": "runs", "model": name} for name in names]
    report = gpu_check.Report(tmp_path, {"devices": ["A"], "tensorflow": "2"}, names)
    end = time.monotonic() + 0.05
    assert gpu_check.check(report, cases, {"cpu": False}, ask, end) == 2
    assert asked == [end] and report.results == {} and report.problems() == []


def test_every_question_is_asked_the_most_important_first() -> None:
    cases, reduced = list_cases(cpu=False), list_cases(cpu=True)
    assert len({case.name for case in cases}) == len(cases) == 3 * 2 * 3 + 4 + 3 + 2 * 2
    sections = list(dict.fromkeys(case.section for case in cases))
    assert sections == ["runs", "placement", "input", "speed"]
    assert set(gpu_cases.PRECISIONS) == set(PRECISIONS) - {"auto"}
    for field in ("section", "model", "precision", "xla"):
        values = {getattr(case, field) for case in reduced}
        assert values == {getattr(case, field) for case in cases}
    assert set(reduced) <= set(cases)


def test_trainings_are_judged() -> None:
    case = Case("runs", "mlp", "mixed_float16", True)
    good = {"losses": [1.0, 0.5], "devices": ["/device:GPU:0"], "precision": "mixed_float16"}
    good |= {"xla": True}
    assert judge_training(case, good, "GPU") == []
    for wrong, said in (
        ({"losses": [1.0, float("nan")]}, "finite"),
        ({"losses": [1.0, 1.0]}, "fall"),
        ({"devices": ["/device:CPU:0"]}, "GPU devices"),
        ({"precision": "float32"}, "precision expected mixed_float16"),
        ({"xla": False}, "xla expected True"),
    ):
        (problem,) = judge_training(case, good | wrong, "GPU")
        assert said in problem


def test_copies_and_waits_are_judged() -> None:
    plain, scaled = Case("placement", "mlp"), Case("placement", "mlp", "mixed_float16")
    none = {"kernels": 800, "to_host": 2, "to_host_bytes": 16, "to_device": 9, "to_device_bytes": 9}
    assert judge_placement(plain, [], none, 8)["problems"] == []
    boolean = ["copied to the host: bool while/body/finite"]
    assert judge_placement(scaled, boolean, none | {"to_host": 10}, 8)["problems"] == []
    assert judge_placement(plain, boolean, none, 8)["problems"] == boolean
    (problem,) = judge_placement(plain, [], none | {"to_host": 10}, 8)["problems"]
    assert problem == "copies to the host in 8 steps expected 2 at most, received 10"
    (problem,) = judge_placement(plain, [], none | {"to_device_bytes": 10**6}, 8)["problems"]
    assert "524288 at most, received 1000000" in problem
    assert judge_input({"slowdown": 1.05}, 1.1)["problems"] == []
    assert "received 1.300" in judge_input({"slowdown": 1.3}, 1.1)["problems"][0]


def test_what_leaves_the_device_is_found() -> None:
    """The second CPU device stands for a GPU, the first for the host."""
    with tf.device("CPU:1"):
        v, x = tf.Variable(tf.ones([8, 8])), tf.ones([8, 8])

    def make(stays: bool) -> list[str]:
        @tf.function(autograph=False)
        def run(x: Any, steps: Any) -> Any:
            def body(i: Any, t: Any) -> Any:
                t = tf.matmul(t, v)
                with tf.device("CPU:1" if stays else "CPU:0"):
                    t = tf.sin(t)
                return i + 1, t * 0.5

            return tf.while_loop(lambda i, t: i < steps, body, [tf.constant(0), x])[1]

        with tf.device("CPU:1"):
            operations = operations_of_loops(partitions_of(lambda: run(x, tf.constant(3))))
        assert len(operations) > 5
        return find_misplaced(operations, "CPU:1")

    assert make(stays=True) == []
    computed, copied = sorted(make(stays=False), key=lambda what: what.startswith("copied"))
    assert computed.startswith("computed on the host: Sin float32 while/body/")
    assert copied.startswith("copied to the host: float32 while/body/")


def _plane(name: str, events: list[tuple[str, str]]) -> Any:
    """A plane of one stream, as the profiler writes it: (name, details) of each event."""
    names = dict(enumerate(dict.fromkeys(name for name, _ in events)))
    numbers = {name: number for number, name in names.items()}
    made = [
        SimpleNamespace(metadata_id=numbers[n], stats=[SimpleNamespace(str_value=d, ref_value=0)])
        for n, d in events
    ]
    metadata = {number: SimpleNamespace(name=name) for number, name in names.items()}
    lines = [
        SimpleNamespace(name="Stream #13", events=made),
        SimpleNamespace(name="Ops", events=made),
    ]
    return SimpleNamespace(
        name=name,
        lines=lines,
        event_metadata=metadata,
        stat_metadata={0: SimpleNamespace(name="")},
    )


def test_copies_of_a_trace_are_counted() -> None:
    details = "kind_src:device kind_dst:pageable size:{} dest:0 async:1"
    events = [("gemm", ""), ("MemcpyD2H", details.format(4)), ("MemcpyH2D", details.format(400))]
    events += [("MemcpyH2D", details.format(100)), ("Memset", "size:9"), ("relu", "")]
    events += [("MemcpyD2D", details.format(7))]
    space = SimpleNamespace(planes=[_plane("/device:GPU:0", events), _plane("/host:CPU", events)])
    assert count_copies(space) == {
        "kernels": 2,
        "to_host": 1,
        "to_device": 2,
        "to_host_bytes": 4,
        "to_device_bytes": 500,
    }


def test_without_gpus_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ask = gpu_cases.answers
    monkeypatch.setattr(gpu_check, "_driver_gpus", lambda: 0)
    assert gpu_check.main(["--folder", str(tmp_path)], ask=ask) == 0
    assert "no GPU on this machine: nothing was checked" in capsys.readouterr().out
    monkeypatch.setattr(gpu_check, "_driver_gpus", lambda: 2)
    assert gpu_check.main(["--folder", str(tmp_path)], ask=ask) == 1
    said = capsys.readouterr().err
    assert "2 GPU(s) expected, as nvidia-smi lists, TensorFlow sees none" in said
