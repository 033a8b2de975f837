"""What `make gpu-check` asks, each question one case; runs them in a process of its own.

python -m benchmarks.gpu_cases '{"cases": [...], "data_dir": ..., "cpu": true}'

prints the GPUs, then a JSON object for each case.
"""

from __future__ import annotations

import csv
import dataclasses
import gc
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from benchmarks.gpu_trace import (
    count_copies,
    find_misplaced,
    operations_of_loops,
    partitions_of,
    trace_of,
)
from benchmarks.input.accelerator_rates import KINDS
from benchmarks.measuring.child import take_request
from benchmarks.measuring.work import Question, open_work
from benchmarks.training.loop import Build, build
from benchmarks.training.steps import Calls
from records.sets.find import find_directory
from train.commands import SETS
from train.devices.peaks import find_peak, gpu_names
from train.devices.strategy import Cluster, make_cluster, set_up_devices
from train.engine.whole_run import train_and_evaluate
from train.settings.config import TrainConfig

_SET_OF = {model: name for name, model in SETS.items()}
# Some dozens of steps, enough for the training loss to fall.
_SHORT: dict[str, dict[str, Any]] = {
    "mlp": {"epochs": 5},
    "efficientnet_lite0": {"epochs": 10},
    "gru": {"epochs": 3, "sequence_length": 64, "length_buckets": 1},
}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Time with real input over time with a constant batch. The promise is 1.00; the rest is noise of a
# few seconds. A CPU makes the input with the processors that train.
MOST_SLOWDOWN, MOST_ON_CPU = 1.1, 2.0
_ROUNDS, _ROUND_SECONDS = 5, 0.5
_STEPS = 8  # of a call that is traced
# Read after each call: the loss; and what the host needs to start the next one.
_READ_PER_CALL = 2
_MOST_STEP_BYTES = 2**16  # to the device, the audit's limit for what is no batch
# The reference rates were measured with 256; 128 of EfficientNet-B0 fit into 16 GB.
_SPEED_BATCH, _SPEED_CALLS = 128, 5
_MODEL_NAMES = {"efficientnet_b0": "EfficientNet-B0", "resnet50": "ResNet-50"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
      section: "runs", "placement", "input" or "speed": what is asked.
      model, precision, xla: of what.
    """

    section: str
    model: str
    precision: str = "float32"
    xla: bool = False

    @property
    def name(self) -> str:
        """Of the case in the result."""
        xla = "XLA" if self.xla else "no XLA"
        return f"{self.section}, {self.model}, {self.precision}, {xla}"


def list_cases(cpu: bool) -> list[Case]:
    """All, in the order of their importance; on a CPU a part in which each value occurs."""
    models = list(_SET_OF)
    runs = [Case("runs", m, p, x) for m in models for x in (False, True) for p in PRECISIONS]
    speed = [Case("speed", m, "mixed_float16", x) for x in (False, True) for m in _MODEL_NAMES]
    if cpu:
        kept = {(0, "float32"), (1, "mixed_bfloat16"), (1, "mixed_float16")}
        runs = [c for c in runs if (c.xla, c.precision) in kept]
        runs = [c for c in runs if c.model == "mlp" or c.precision != "mixed_bfloat16"]
        speed = [c for c in speed if not c.xla]
    placement = [Case("placement", m) for m in models]
    placement.insert(1, Case("placement", models[0], "mixed_float16"))  # with a loss scale
    return [*runs, *placement, *(Case("input", m) for m in models), *speed]


def answer(case: Case, data_dir: str, cpu: bool) -> dict[str, Any]:
    """Runs a case: its figures, and `problems`, the promises that it broke."""
    keras.utils.clear_session()
    gc.collect()
    return _SECTIONS[case.section](case, data_dir, cpu)


def _train(case: Case, data_dir: str, cpu: bool) -> dict[str, Any]:
    """A short training: finite, falling losses, on the right device, as asked."""
    with tempfile.TemporaryDirectory() as folder:
        asked = TrainConfig(
            dataset=f"{_SET_OF[case.model]}/synthetic",
            data_dir=data_dir,
            model=case.model,
            precision=case.precision,
            xla=case.xla,
            strategy="one_device",
            run_dir=f"{folder}/run",
            **_SHORT[case.model],
        )
        found = train_and_evaluate(asked)
        with open(f"{folder}/run/history.csv", encoding="utf-8", newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
    kept = ("devices", "precision", "xla", "seconds", "input_share", "flops_per_s", "peak_share")
    result = {key: found[key] for key in kept} | {"losses": losses}
    return result | {"problems": judge_training(case, result, "CPU" if cpu else "GPU")}


def judge_training(case: Case, result: dict[str, Any], kind: str) -> list[str]:
    """What is wrong with a finished training on devices of a kind."""
    problems, losses = [], result["losses"]
    if not all(map(math.isfinite, losses)):
        problems.append(f"losses expected finite, received {losses}")
    elif losses[-1] >= losses[0]:
        problems.append(f"losses expected to fall, received {losses}")
    if not all(kind in device for device in result["devices"]):
        problems.append(f"expected {kind} devices, received {result['devices']}")
    for key in ("precision", "xla"):
        if result[key] != getattr(case, key):
            problems.append(f"{key} expected {getattr(case, key)}, received {result[key]}")
    return problems


def _build(case: Case, data_dir: str, examples: int, **fields: Any) -> tuple[Build, Cluster]:
    """The step of a case; pictures with the whole network."""
    set_up_devices(None, True)
    cluster = make_cluster("one_device")
    name = _SET_OF.get(case.model, "brain_tumor_mri")
    work = open_work(find_directory(f"{name}/synthetic", data_dir))
    settings = {"precision": case.precision, "xla": case.xla} | fields
    if name == "brain_tumor_mri":
        settings |= {"freeze": False, "weights": "random"}
    repeats = -(-examples // work.num_examples)
    question = Question(case.model, settings=settings, repeats=repeats, examples=examples)
    return build(work, question, cluster), cluster


def _place(case: Case, data_dir: str, cpu: bool) -> dict[str, Any]:
    """Where the operations of a step are, and what the device copies in a call of `_STEPS`."""
    batch = 4 if cpu else 32
    small = {"image_size": 32 if cpu else 64} if case.model == "efficientnet_lite0" else {}
    built, cluster = _build(case, data_dir, _STEPS * batch, global_batch_size=batch, **small)
    calls = Calls(built, "device", cluster, _STEPS)
    (chunk, *_) = calls.chunks()
    step = built.training.step

    def call() -> None:
        step.run(chunk, 0)
        step.loss_sum.numpy()

    operations = operations_of_loops(partitions_of(call))
    misplaced = find_misplaced(operations, "CPU:0" if cpu else "GPU:0")
    copies = count_copies(trace_of(call))
    found = judge_placement(case, misplaced, copies, chunk.steps)
    if not operations:
        found["problems"].append("operations of a step expected in the graphs, found none")
    return found | {"operations": len(operations)}


def judge_placement(
    case: Case, misplaced: list[str], copies: dict[str, int], steps: int
) -> dict[str, Any]:
    """The audit finds no copy to the host in a step, but for the boolean of a loss scale."""
    scaled = case.precision == "mixed_float16"
    problems = [what for what in misplaced if not (scaled and ": bool " in what)]
    most = _READ_PER_CALL + steps * scaled
    if copies["to_host"] > most:
        problems.append(
            f"copies to the host in {steps} steps expected {most} at most, received "
            f"{copies['to_host']}"
        )
    if copies["to_device_bytes"] > steps * _MOST_STEP_BYTES:
        problems.append(
            f"bytes to the device in {steps} steps expected {steps * _MOST_STEP_BYTES} at most, "
            f"received {copies['to_device_bytes']}"
        )
    return {"steps": steps, "misplaced": misplaced, "problems": problems} | copies


def _compare_input(case: Case, data_dir: str, cpu: bool) -> dict[str, Any]:
    """Steps/s from the host's memory, beside the same calls on a batch that lies on the device."""
    small = {"image_size": 32} if cpu and case.model == "efficientnet_lite0" else {}
    built, cluster = _build(case, data_dir, 256 if cpu else 4096, **small)
    calls = Calls(built, "memory", cluster, 64)
    seconds: dict[str, list[float]] = {"real": [], "constant": []}
    calls.real(1)
    calls.constant(1)
    epochs = max(1, round(_ROUND_SECONDS / _seconds(calls.constant, 1)))
    for _ in range(_ROUNDS):
        seconds["real"].append(_seconds(calls.real, epochs))
        seconds["constant"].append(_seconds(calls.constant, epochs))
    steps = epochs * calls.order.steps_per_epoch
    result = {f"{k}_steps_per_s": steps / statistics.median(v) for k, v in seconds.items()}
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    most = MOST_ON_CPU if cpu else MOST_SLOWDOWN
    return judge_input(result | {"slowdown": statistics.median(ratios)}, most)


def judge_input(result: dict[str, Any], most: float) -> dict[str, Any]:
    """The device never waits for input."""
    problems = []
    if result["slowdown"] > most:
        problems.append(
            f"time with real input over time with a constant batch expected {most} at most, "
            f"received {result['slowdown']:.3f}"
        )
    return result | {"problems": problems}


def _seconds(run: Any, count: int) -> float:
    start = time.perf_counter()
    run(count)
    return time.perf_counter() - start


def _measure_speed(case: Case, data_dir: str, cpu: bool) -> dict[str, Any]:
    """Pictures/s of the whole training step at 224 px, beside published rates, and FLOP/s."""
    batch, size = (4, 32) if cpu else (_SPEED_BATCH, 224)
    count = 2 * batch if cpu else 16 * batch
    built, cluster = _build(case, data_dir, count, global_batch_size=batch, image_size=size)
    calls = Calls(built, "device", cluster, 1 if cpu else 16)
    calls.real(1)
    seconds = [_seconds(calls.real, 1) for _ in range(1 if cpu else _SPEED_CALLS)]
    step, (chunk, *_) = built.training.step, calls.chunks()
    rate, per_example = count / statistics.median(seconds), step.count_flops(chunk, 0) / batch
    device = "" if cpu else gpu_names()[0]
    peak = find_peak(device, case.precision)
    known = [k for k in KINDS if k.accelerator in device and k.model == _MODEL_NAMES[case.model]]
    loss = float(step.loss_sum.numpy())
    return {
        "examples_per_s": rate,
        "image_size": size,
        "global_batch_size": batch,
        "flops_per_example": per_example,
        "flops_per_s": per_example * rate,
        "peak_share": None if peak is None else per_example * rate / peak,
        "reference": {f"{k.name} ({k.source})": k.rate for k in known},
        "problems": [] if math.isfinite(loss) else [f"loss expected finite, received {loss}"],
    }


_SECTIONS = {
    "runs": _train,
    "placement": _place,
    "input": _compare_input,
    "speed": _measure_speed,
}


def answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The devices and the cases there are; then what each case of the request found."""
    cases = [dataclasses.asdict(c) | {"name": c.name} for c in list_cases(request["cpu"])]
    yield {"devices": gpu_names(), "tensorflow": tf.__version__, "cases": cases}
    for fields in request["cases"]:
        start = time.perf_counter()
        try:
            found = answer(Case(**fields), request["data_dir"], request["cpu"])
        except Exception as error:  # the next case says something all the same
            found = {"problems": [f"{type(error).__name__}: {str(error)[:500]}"]}
        yield found | {"took_s": time.perf_counter() - start}


if __name__ == "__main__":
    for found in answers(take_request()):
        print(json.dumps(found), flush=True)
