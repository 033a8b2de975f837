"""`make gpu-check`: what the GPU of this machine does, within 8 minutes, the most important first.

    make gpu-check
    make gpu-check ARGS="--only placement"    # the cases in whose name this stands
    make gpu-check ARGS="--cpu"               # a part on a CPU; says nothing about GPUs

It builds the generated sets first, then asks in this order: does each kind of model train, with and
without XLA, in three precisions; is all of a step on the GPU, and what is copied; does it wait for
input; how fast are EfficientNet-B0 and ResNet-50 at 224 px. Each answer is kept at once in
`runs/gpu_check/gpu_check.json` and on the page beside it. Called again it goes on with what is
left, and asks again what failed. Ends with 1 where a promise is broken, with 2 where cases are
left.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.child import ChildError, start_child
from records.system.writing import write_atomically
from train.commands import CommandError, prepare_synthetic_sets

_REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = _REPOSITORY / "runs" / "gpu_check"
_MINUTES = 8.0
_CASE_SECONDS = 240.0  # a compiler may hang
_CPU_ONLY = "a CPU: this says nothing about GPUs"
# Launches of a step by the audit, which the placement's kernels stand beside.
_AUDIT = _REPOSITORY / "docs" / "notes" / "gpu_audit.md"

Ask = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]


class Report:
    """What was found so far on these devices; the file and the page hold it."""

    def __init__(self, folder: Path, devices: dict[str, Any], names: Sequence[str]):
        """Takes up what an earlier call found on the same devices of the cases of these names."""
        self._folder, self._devices = folder, devices
        self.results: dict[str, dict[str, Any]] = {}
        file = folder / "gpu_check.json"
        if file.exists():
            stored = json.loads(file.read_text(encoding="utf-8"))
            if stored["devices"] == devices:
                self.results = {n: r for n, r in stored["cases"].items() if n in names}

    def passed(self, name: str) -> bool:
        """It was asked before, and no promise was broken."""
        return name in self.results and not self.results[name]["problems"]

    def problems(self) -> list[str]:
        """All that is wrong."""
        return [f"{name}: {p}" for name, one in self.results.items() for p in one["problems"]]

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Keeps a result, and shows it."""
        self.results[name] = result
        said = "; ".join(result["problems"])
        print(f"  {name}: {f'FAILED: {said}' if said else 'passed'}", flush=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        content = {"devices": self._devices, "cases": self.results}
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(self._folder / "gpu_check.json", text.encode())
        write_atomically(self._folder / "gpu_check.md", self._page().encode())

    def _page(self) -> str:
        names = ", ".join(self._devices["devices"]) or _CPU_ONLY
        lines = ["# GPU check", "", f"On {names}, TensorFlow {self._devices['tensorflow']}.", ""]
        lines += ["Broken promises:", "", *(f"- {p}" for p in self.problems() or ["none"]), ""]
        for section, (head, row) in _TABLES.items():
            named = [(n, r) for n, r in self.results.items() if n.startswith(f"{section}, ")]
            rows = [(n.removeprefix(f"{section}, "), r) for n, r in named if len(r) > 2]
            if rows:
                columns = ["case", *head]
                lines += [f"## {section.capitalize()}", "", _line(columns)]
                lines += [_line(["---"] * len(columns))]
                lines += [_line([n, *row(n, r)]) for n, r in rows] + [""]
        return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _of_run(name: str, r: dict[str, Any]) -> list[str]:
    losses = f"{r['losses'][0]:.4f} to {r['losses'][-1]:.4f}"
    return [losses, f"{r['seconds']['step']:.1f} s", _share(r["input_share"])]


def _of_placement(name: str, r: dict[str, Any]) -> list[str]:
    model, precision, *_ = name.split(", ")
    counts = [f"{r[k] / r['steps']:.0f}" for k in ("kernels", "to_device_bytes")]
    page = _AUDIT.read_text(encoding="utf-8") if _AUDIT.exists() else ""
    audited = audited_launches(page, model, precision)
    return [str(len(r["misplaced"])), str(r["to_host"]), str(r["steps"]), *counts, audited]


def _of_input(name: str, r: dict[str, Any]) -> list[str]:
    rates = [f"{r[f'{k}_steps_per_s']:.1f}" for k in ("real", "constant")]
    return [*rates, f"{r['slowdown']:.3f}"]


def _of_speed(name: str, r: dict[str, Any]) -> list[str]:
    beside = "; ".join(f"{k}: {v:,.0f}" for k, v in r["reference"].items())
    rate = f"{r['examples_per_s']:,.0f}"
    flops = [f"{r['flops_per_example'] / 1e9:.2f}", f"{r['flops_per_s'] / 1e12:.2f}"]
    shape = f"{r['global_batch_size']} x {r['image_size']} px"
    return [shape, rate, beside, *flops, _share(r["peak_share"])]


# Of each section: columns after the case, and what fills them.
_TABLES: dict[str, tuple[list[str], Callable[[str, dict[str, Any]], list[str]]]] = {
    "runs": (["loss", "steps took", "waited for input"], _of_run),
    "placement": (
        [
            "misplaced",
            "copies to the host",
            "in steps",
            "kernels a step",
            "bytes to the device a step",
            "launches by the audit",
        ],
        _of_placement,
    ),
    "input": (["steps/s, real input", "constant batch", "time, real over constant"], _of_input),
    "speed": (
        ["batch", "pictures/s", "published", "GFLOP a picture", "TFLOP/s", "of the peak"],
        _of_speed,
    ),
}


def audited_launches(page: str, model: str, precision: str) -> str:
    """Launches of a step without XLA on one replica, from docs/notes/gpu_audit.md."""
    column = ("float32", "mixed_bfloat16", "mixed_float16").index(precision)
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        is_step = cells[:1] == [model] and cells[1] in ("training", "whole")
        if is_step and cells[2:4] == ["1", "off"]:
            return cells[4 + column]
    return ""


def ask_child(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answers of a process of its own: a crash in one case costs no other.

    Raises:
      ChildError: it ended, or gave no answer in time, or before `request["end"]`.
    """
    most, end = _CASE_SECONDS * (3 if request["cpu"] else 1), request.get("end", math.inf)
    with start_child("benchmarks.gpu_cases", request) as child:
        for _ in range(len(request["cases"]) + 1):
            yield child.answer(max(1.0, min(most, end - time.monotonic())))


def check(
    report: Report, cases: list[dict[str, Any]], request: dict[str, Any], ask: Ask, end: float
) -> int:
    """Asks the cases until `end`, of `time.monotonic`; returns how many are left.

    A process takes the cases of one model and section, so that compiled kernels and memory of the
    others are gone.
    """
    left = [case for case in cases if not report.passed(case["name"])]
    while left and time.monotonic() < end:
        kind = [left[0][key] for key in ("section", "model")]
        group = [case for case in left if [case["section"], case["model"]] == kind]
        fields = [{k: v for k, v in case.items() if k != "name"} for case in group]
        answers = ask(request | {"cases": fields, "end": end})
        case = group[0]
        try:
            next(answers)  # the devices, which are known
            for case in group:
                report.add(case["name"], next(answers))
                left.remove(case)
                if time.monotonic() > end:
                    break
        except ChildError as error:
            if time.monotonic() >= end:  # cut short: the next call asks it again
                break
            report.add(case["name"], {"problems": [str(error)]})
            left.remove(case)
        finally:
            answers.close()  # type: ignore[attr-defined]
    return len(left)


def _driver_gpus() -> int:
    """GPUs that the NVIDIA driver lists, whether TensorFlow can use them or not."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return 0
    return sum(line.startswith("GPU") for line in done.stdout.splitlines())


def find_devices(cpu: bool, ask: Ask) -> dict[str, Any] | None:
    """What TensorFlow sees, and the cases for it; None where there is no GPU.

    Raises:
      ValueError: TensorFlow does not see the GPUs that there are.
    """
    (devices,) = ask({"cases": [], "data_dir": "", "cpu": cpu})
    if cpu:
        return devices | {"devices": []}
    if devices["devices"]:
        return devices
    if listed := _driver_gpus():
        raise ValueError(
            f"gpu check: {listed} GPU(s) expected, as nvidia-smi lists, TensorFlow sees none. "
            "Install its CUDA libraries: make gpu-check EXTRAS=test,lint,gpu"
        )
    print(
        "There is no GPU on this machine: nothing was checked. A part of the check on a CPU: "
        "make gpu-check ARGS=--cpu"
    )
    return None


def main(arguments: Sequence[str] | None = None, ask: Ask = ask_child) -> int:
    """Runs the check; `ask` is for tests."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check")
    parser.add_argument("--cpu", action="store_true", help="a part of it on a CPU")
    parser.add_argument("--only", default="", help="the cases in whose name this stands")
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="end after these")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the answers are kept")
    parser.add_argument("--data-dir", type=Path, help="of the generated sets (FOLDER/data)")
    asked = parser.parse_args(arguments)
    data_dir = asked.data_dir or asked.folder / "data"
    try:
        devices = find_devices(asked.cpu, ask)
        if devices is None:
            return 0
        prepare_synthetic_sets(data_dir, asked.folder / "build.log")
    except (ValueError, ChildError, CommandError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    known = devices.pop("cases")
    cases = [case for case in known if asked.only in case["name"]]
    report = Report(asked.folder, devices, [case["name"] for case in known])
    request = {"data_dir": str(data_dir), "cpu": asked.cpu}
    left = check(report, cases, request, ask, time.monotonic() + 60 * asked.minutes)
    print("\n".join(["", *report.problems(), f"page: {asked.folder / 'gpu_check.md'}"]))
    if left:
        print(f"{left} cases are left: the same command goes on with them")
    if not devices["devices"]:
        print(f"on {_CPU_ONLY}")
    return 1 if report.problems() else 2 if left else 0


if __name__ == "__main__":
    sys.exit(main())
