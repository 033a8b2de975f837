"""`make gpu-check`: tries strategies, precisions and XLA on the GPUs present; says what passed.

python -m train.gpu_check --data-dir data --run-dir runs/gpu_check
python -m train.gpu_check --cpu    # a part of the same on CPU devices; says nothing about GPUs
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from records.system.command import run_as_command
from records.system.quiet import import_tensorflow_quietly
from records.system.versions import versions
from train.settings.commands import (
    SETS,
    CommandError,
    prepare_synthetic_sets,
    python_command,
    run_command,
)
from train.settings.config import normalise_flags

_MODELS = {model: name for name, model in SETS.items()}
# Short runs: some dozens of steps of each, enough for the training loss to fall.
_SHORT = {
    "mlp": ("--epochs", "5"),
    "efficientnet_lite0": ("--epochs", "10"),
    "gru": ("--epochs", "3", "--sequence-length", "64"),
}
_PROFILED_STEPS = "10,20"
_OUTPUT = "gpu_check.json"
# (strategy, precision, XLA): each value occurs at least once.
_CPU_CASES = (
    ("one_device", "float32", False),
    ("mirrored", "float32", True),
    ("one_device", "mixed_bfloat16", True),
    ("mirrored", "mixed_float16", False),
)


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
        flags = ["--dataset", f"{_MODELS[self.model]}/synthetic", "--model", self.model]
        flags += ["--strategy", self.strategy, "--precision", self.precision, *_SHORT[self.model]]
        if self.xla is not None:
            flags.append("--xla" if self.xla else "--no-xla")
        return flags + (["--profile", _PROFILED_STEPS] if self.profile else [])


def list_cases(models: list[str], cpu: bool) -> list[Case]:
    """All combinations on GPUs; on CPU devices a part that holds every value once."""
    if cpu:
        rows = [(m, c) for m in models for c in _CPU_CASES[: 4 if m == "mlp" else 2]]
        cases = [Case(model, *case) for model, case in rows]
        return cases + [Case(models[0], "auto", "auto", None, profile=True)]
    strategies = ("one_device", "mirrored")
    precisions = ("float32", "mixed_bfloat16", "mixed_float16")
    combinations = itertools.product(models, strategies, precisions, (False, True))
    profiled = [Case(model, "auto", "auto", None, profile=True) for model in models]
    return [Case(*combination) for combination in combinations] + profiled


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.gpu_check", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("--data-dir", type=Path, default=Path("data"), help="prepared sets (default: data)")
    add("--run-dir", type=Path, default=Path("runs/gpu_check"), help="default: runs/gpu_check")
    add("--cpu", action="store_true", help="a part of the check on two logical CPU devices")
    add("--models", nargs="+", choices=list(_MODELS), default=list(_MODELS), help="default: all")
    return parser.parse_args(normalise_flags(arguments))


def main(arguments: list[str] | None = None) -> int:
    """Runs the check; returns 0 if everything passed or there is no GPU, else 1."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    gpus = [] if options.cpu else find_gpus()
    if not gpus and not options.cpu:
        if driver := _driver_lists_gpus():
            print(
                f"gpu check: nvidia-smi lists {driver} GPU(s), TensorFlow sees none. Install "
                "its CUDA libraries: make gpu-check EXTRAS=test,lint,gpu",
                file=sys.stderr,
            )
            return 1
        print("There is no GPU on this machine: nothing was checked.")
        print("(--cpu runs a part of the check on CPU devices: make gpu-check ARGS=--cpu)")
        return 0
    return run_as_command(
        lambda: _check(options, gpus),
        errors=(CommandError, OSError, ValueError),
        interrupted="\ngpu-check interrupted",
        tensorflow=False,
    )


def _check(options: argparse.Namespace, gpus: list[dict[str, Any]]) -> int:
    """Runs all cases, writes `gpu_check.json` after each, prints the table."""
    logs = options.run_dir / "logs"
    prepare_synthetic_sets(
        options.data_dir, logs / "build.log", [_MODELS[m] for m in options.models]
    )
    cases = list_cases(options.models, options.cpu)
    results: list[dict[str, Any]] = []
    for number, case in enumerate(cases, start=1):
        results.append(run_case(case, f"{number}/{len(cases)}", options))
        content = {
            "format": 1,
            "devices": gpus or "CPU devices only: says nothing about GPUs",
            "versions": versions(),
            "complete": number == len(cases),
            "cases": results,
        }
        text = json.dumps(content, indent=2) + "\n"
        temporary = options.run_dir / f".{_OUTPUT}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(options.run_dir / _OUTPUT)
    passed = sum(not r["problems"] for r in results)
    print("\n".join(table_lines(results)))
    devices = ", ".join(g["name"] for g in gpus) or "CPU devices only: says nothing about GPUs"
    print(f"{passed} of {len(results)} passed on: {devices}")
    if len(gpus) == 1:
        print("mirrored ran on one GPU, with one replica: several GPUs were not checked")
    print(f"written: {options.run_dir / _OUTPUT}")
    return 0 if passed == len(results) else 1


def run_case(case: Case, number: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one case in a fresh run folder: its settings, figures and `problems`."""
    folder = options.run_dir / case.name
    if (folder / "config.json").exists():
        shutil.rmtree(folder)
    flags = [*case.flags(), "--data-dir", str(options.data_dir), "--run-dir", str(folder)]
    flags += ["--cpu-devices", "2"] if options.cpu else []
    result: dict[str, Any] = dataclasses.asdict(case)
    log = options.run_dir / "logs" / f"{case.name}.log"
    try:
        run_command(f"{number} {case.name}", python_command("train.run", *flags), log)
    except CommandError as error:
        return result | {"problems": [error.last_line], "log": str(log)}
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    result |= {key: found[key] for key in ("replicas", "devices", "seconds", "input_share")}
    result |= {"ran_precision": found["precision"], "ran_xla": found["xla"], "losses": losses}
    result["validation_accuracy"] = found["validation"]["accuracy"]
    if case.profile:
        profile = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
        result["trace_conclusion"] = profile.get("trace_conclusion")
    return result | {"problems": find_problems(case, result, options.cpu)}


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


def table_lines(results: list[dict[str, Any]]) -> list[str]:
    """One line per case, then the problems and what the traces say."""
    head = f"{'model':20}{'strategy':12}{'precision':16}{'XLA':6}{'replicas':>8}{'input':>8}"
    lines = ["", f"{head}{'steps':>9}  "]
    for one in results:
        xla = {True: "on", False: "off", None: "auto"}[one["xla"]]
        text = f"{one['model']:20}{one['strategy']:12}{one['precision']:16}{xla:6}"
        if "seconds" in one:
            text += f"{one['replicas']:8}{100 * one['input_share']:6.1f} %"
            text += f"{one['seconds']['step']:7.1f} s"
        else:
            text += " " * 25
        lines.append(f"{text}  {'FAILED' if one['problems'] else 'passed'}")
        lines += [f"    {problem}" for problem in one["problems"]]
        if one.get("trace_conclusion"):
            lines.append(f"    profile ({one['ran_precision']}): {one['trace_conclusion']}")
    return [*lines, "input: share of the training time in which the devices waited for input", ""]


def find_gpus() -> list[dict[str, Any]]:
    """Name and compute capability of each GPU that TensorFlow can use."""
    import_tensorflow_quietly()
    import tensorflow as tf

    found = []
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(str(n) for n in details.get("compute_capability", ()))
        found.append({"name": details.get("device_name", gpu.name), "capability": capability})
    return found


def _driver_lists_gpus() -> int:
    """GPUs that the NVIDIA driver lists, whether TensorFlow can use them or not."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return 0
    return sum(line.startswith("GPU") for line in done.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
