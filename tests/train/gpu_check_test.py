"""`make gpu-check`: short trainings of every strategy, precision and XLA on the GPUs present.

    make gpu-check
    make gpu-check ARGS="--cpu -k mlp"    # a part on CPU devices; says nothing about GPUs

A test is one training in a process of its own. What each found is written to
`runs/gpu_check/gpu_check.json` after each, with the logs beside it.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from records.system.versions import versions
from records.system.writing import write_atomically
from train.commands import SETS, CommandError, python_command, run_command
from train.run import parse_config

FOLDER = Path(__file__).resolve().parents[2] / "runs" / "gpu_check"
_SET_OF = {model: name for name, model in SETS.items()}
# Short runs: some dozens of steps of each, enough for the training loss to fall.
_SHORT = {
    "mlp": ("--epochs", "5"),
    "efficientnet_lite0": ("--epochs", "10"),
    "gru": ("--epochs", "3", "--sequence-length", "64"),
}
_PROFILED_STEPS = "10,20"
# (strategy, precision, XLA): each value occurs at least once.
_CPU_CASES = (
    ("one_device", "float32", False),
    ("mirrored", "float32", True),
    ("one_device", "mixed_bfloat16", True),
    ("mirrored", "mixed_float16", False),
)
_CPU_ONLY = "CPU devices only: says nothing about GPUs"


@dataclasses.dataclass(frozen=True)
class Case:
    """One short training.

    Attributes:
      model: a model of `SETS`.
      strategy, precision: as `train.run` takes them.
      xla: compile, do not, or (None) what `auto` chooses.
      profile: write a trace and read the input share out of it.
    """

    model: str
    strategy: str
    precision: str
    xla: bool | None
    profile: bool = False

    @property
    def name(self) -> str:
        """Also the name of its run folder."""
        xla = {True: "xla", False: "no-xla", None: "auto"}[self.xla]
        parts = [self.model, self.strategy, self.precision, xla]
        return "-".join(parts + ["profile"] * self.profile)

    def flags(self) -> list[str]:
        """What `train.run` is called with, folders left out."""
        flags = ["--dataset", f"{_SET_OF[self.model]}/synthetic", "--model", self.model]
        flags += ["--strategy", self.strategy, "--precision", self.precision, *_SHORT[self.model]]
        if self.xla is not None:
            flags.append("--xla" if self.xla else "--no-xla")
        return flags + (["--profile", _PROFILED_STEPS] if self.profile else [])


def list_cases(cpu: bool) -> list[Case]:
    """All combinations on GPUs; on CPU devices a part that holds every value once."""
    models = list(_SET_OF)
    if cpu:
        rows = [(m, c) for m in models for c in _CPU_CASES[: 4 if m == "mlp" else 2]]
        cases = [Case(model, *case) for model, case in rows]
        return [*cases, Case(models[0], "auto", "auto", None, profile=True)]
    strategies = ("one_device", "mirrored")
    precisions = ("float32", "mixed_bfloat16", "mixed_float16")
    combinations = itertools.product(models, strategies, precisions, (False, True))
    profiled = [Case(model, "auto", "auto", None, profile=True) for model in models]
    return [Case(*combination) for combination in combinations] + profiled


def find_gpus() -> list[dict[str, Any]]:
    """Name and compute capability of each GPU that TensorFlow can use."""
    found = []
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(str(n) for n in details.get("compute_capability", ()))
        found.append({"name": details.get("device_name", gpu.name), "capability": capability})
    return found


def driver_gpus() -> int:
    """GPUs that the NVIDIA driver lists, whether TensorFlow can use them or not."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return 0
    return sum(line.startswith("GPU") for line in done.stdout.splitlines())


def find_problems(case: Case, result: dict[str, Any], cpu: bool) -> list[str]:
    """What is wrong with a finished case; [] where it passed."""
    problems = []
    losses = result["losses"]
    if not all(math.isfinite(loss) for loss in losses):
        problems.append(f"losses expected finite, received {losses}")
    elif losses[-1] >= losses[0]:
        problems.append(f"losses expected to fall, received {losses}")
    kind = "CPU" if cpu else "GPU"
    if not all(kind in device for device in result["devices"]):
        problems.append(f"expected {kind} devices, received {result['devices']}")
    asked = {"precision": case.precision, "xla": case.xla}
    for key, value in asked.items():
        if value not in (None, "auto") and result[f"ran_{key}"] != value:
            problems.append(f"{key} expected {value}, received {result[f'ran_{key}']}")
    if case.profile and not result["trace_conclusion"]:
        problems.append("--profile expected a trace that can be read, received none")
    return problems


def read_figures(case: Case, folder: Path) -> dict[str, Any]:
    """What a finished run says of itself."""
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    result = {key: found[key] for key in ("replicas", "devices", "seconds", "input_share")}
    result |= {"ran_precision": found["precision"], "ran_xla": found["xla"], "losses": losses}
    result["validation_accuracy"] = found["validation"]["accuracy"]
    if case.profile:
        profile = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
        result["trace_conclusion"] = profile.get("trace_conclusion")
    return result


@dataclasses.dataclass
class Report:
    """What was found so far, on which devices."""

    devices: Any
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        """Takes up a case and writes the file."""
        self.results.append(result)
        content = {"devices": self.devices, "versions": versions(), "cases": self.results}
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(FOLDER / "gpu_check.json", text.encode())

    def lines(self) -> Iterator[str]:
        """The table: a line for each case, and what the traces say."""
        head = f"{'model':20}{'strategy':12}{'precision':16}{'XLA':6}{'replicas':>8}{'input':>8}"
        yield f"{head}{'steps':>9}"
        for one in self.results:
            xla = {True: "on", False: "off", None: "auto"}[one["xla"]]
            text = f"{one['model']:20}{one['strategy']:12}{one['precision']:16}{xla:6}"
            if "seconds" in one:
                text += f"{one['replicas']:8}{100 * one['input_share']:6.1f} %"
                text += f"{one['seconds']['step']:7.1f} s"
            yield f"{text}  {'FAILED' if one['problems'] else 'passed'}"
            if one.get("trace_conclusion"):
                yield f"    profile ({one['ran_precision']}): {one['trace_conclusion']}"
        yield "input: share of the training time in which the devices waited for input"
        names = ", ".join(g["name"] for g in self.devices) if self.devices != _CPU_ONLY else ""
        yield f"on: {names or _CPU_ONLY}"
        if len(self.devices) == 1:
            yield "mirrored ran on one GPU, with one replica: several GPUs were not checked"
        yield f"written: {FOLDER / 'gpu_check.json'}"


def make_report(cpu: bool) -> Report:
    """An empty report; skips where there is no GPU, fails where TensorFlow lacks its libraries."""
    gpus = [] if cpu else find_gpus()
    if not gpus and not cpu:
        if listed := driver_gpus():
            pytest.fail(
                f"nvidia-smi lists {listed} GPU(s), TensorFlow sees none. Install its CUDA "
                "libraries: make gpu-check EXTRAS=test,lint,gpu"
            )
        pytest.skip(
            "There is no GPU on this machine: nothing was checked. A part of the check on CPU "
            "devices: make gpu-check ARGS=--cpu"
        )
    return Report(gpus or _CPU_ONLY)


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    found = make_report(request.config.getoption("--cpu"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    yield found
    capture: Any = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("", *found.lines(), sep="\n")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = list_cases(metafunc.config.getoption("--cpu"))
        metafunc.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.mark.gpu
def test_trains(
    case: Case, report: Report, synthetic_data_dir: Path, request: pytest.FixtureRequest
) -> None:
    cpu, folder = request.config.getoption("--cpu"), FOLDER / case.name
    if (folder / "config.json").exists():  # only a run folder is removed
        shutil.rmtree(folder)
    flags = [*case.flags(), "--data-dir", str(synthetic_data_dir), "--run-dir", str(folder)]
    flags += ["--cpu-devices", "2"] if cpu else []
    result: dict[str, Any] = dataclasses.asdict(case)
    log = FOLDER / "logs" / f"{case.name}.log"
    try:
        run_command(case.name, python_command("train.run", *flags), log)
    except CommandError as error:
        result["problems"] = [error.last_line]
    else:
        result |= read_figures(case, folder)
        result["problems"] = find_problems(case, result, cpu)
    report.add(result)
    assert not result["problems"], f"log: {log}"


def test_every_combination_is_asked() -> None:
    cases, reduced = list_cases(cpu=False), list_cases(cpu=True)
    assert len({case.name for case in cases}) == len(cases) == 3 * 2 * 3 * 2 + 3
    for field in ("model", "strategy", "precision", "xla"):
        values = {getattr(case, field) for case in reduced}
        assert values == {getattr(case, field) for case in cases}
    for case in [*cases, *reduced]:
        config = parse_config(case.flags())
        assert (config.strategy, config.precision) == (case.strategy, case.precision)
        assert config.xla == case.xla


def test_what_ran_is_judged() -> None:
    case = Case("mlp", "mirrored", "mixed_float16", True)
    good = {"losses": [1.0, 0.5], "devices": ["/job:localhost/device:GPU:0"]}
    good |= {"ran_precision": "mixed_float16", "ran_xla": True}
    assert find_problems(case, good, cpu=False) == []
    for wrong, said in (
        ({"losses": [1.0, float("nan")]}, "finite"),
        ({"losses": [1.0, 1.0]}, "fall"),
        ({"devices": ["/job:localhost/device:CPU:0"]}, "GPU devices"),
        ({"ran_precision": "float32"}, "precision expected mixed_float16"),
        ({"ran_xla": False}, "xla expected True"),
    ):
        (problem,) = find_problems(case, good | wrong, cpu=False)
        assert said in problem
    profiled = Case("mlp", "auto", "auto", None, profile=True)
    assert find_problems(profiled, good | {"trace_conclusion": None}, cpu=False)
    assert not find_problems(profiled, good | {"trace_conclusion": "No"}, cpu=False)


def test_without_gpus_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.find_gpus", list)
    monkeypatch.setattr(f"{__name__}.driver_gpus", lambda: 0)
    with pytest.raises(pytest.skip.Exception, match="no GPU"):
        make_report(cpu=False)
    monkeypatch.setattr(f"{__name__}.driver_gpus", lambda: 2)
    with pytest.raises(pytest.fail.Exception, match=r"lists 2 GPU\(s\), TensorFlow sees none"):
        make_report(cpu=False)
    assert "nothing about GPUs" in make_report(cpu=True).devices


def test_a_failed_case_is_written_and_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(f"{__name__}.FOLDER", tmp_path)
    found = make_report(cpu=True)
    case = Case("mlp", "auto", "auto", None)
    found.add(dataclasses.asdict(case) | {"problems": ["error: out of memory"]})
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    assert written["cases"][0]["problems"] == ["error: out of memory"]
    assert any("FAILED" in line for line in found.lines())
