"""The table behind `auto`: XLA on and off, float32 and bfloat16, one replica and two.

Each cell trains in a process of its own: neither Keras's precision nor the devices can change
within one. "ours" is the cell that `auto` chooses (`train.settings.auto`); it should be the
fastest, or hardly slower.

Started with a JSON object, this module is that process.
"""

from __future__ import annotations

import dataclasses
import json

from benchmarks.measuring.child import run_child, take_request
from benchmarks.measuring.timing import OURS, Against, Comparison, Progress, Sample
from benchmarks.measuring.work import Effort, Question, Work, open_work
from benchmarks.training.loop import build, timed_epochs
from records.sets.schema import IMAGE, TABULAR, TOKENS
from train.settings.auto import choose_hardware
from train.settings.config import TrainConfig
from train.settings.resolve import resolve

_BATCH_32 = {"global_batch_size": 32}
_SMALL_B0 = {"freeze": False, "weights": "random", "image_size": 64, "augment": False}
QUESTIONS: dict[str, tuple[Question, ...]] = {
    TABULAR: (
        Question("mlp_small", settings=_BATCH_32, repeats=16),
        Question("mlp", repeats=4),
        Question("mlp_report_best", settings=_BATCH_32),
        Question("mlp_report_best", settings={"global_batch_size": 256}, repeats=4),
    ),
    IMAGE: (
        Question("efficientnet_lite0", examples=64),
        Question("efficientnet_b0", settings=_SMALL_B0 | _BATCH_32, examples=128),
    ),
    TOKENS: (Question("gru", examples=1024), Question("lstm", examples=1024)),
}
PRECISIONS = ("float32", "mixed_bfloat16")
# `auto` may be this much slower than the best cell: repetitions differ by as much.
_LEAST_RATIO = 0.95
# A cell costs a start and a compilation besides: short repetitions.
_SECONDS_SHARE = 0.25


def measure_choices(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """All cells of the set's families.

    Raises:
      ChildError: the process of a cell failed.
    """
    return [
        _measure_family(work, question, replicas, effort, progress)
        for question in QUESTIONS[work.schema.modality]
        for replicas in (1, 2)
    ]


def _measure_family(
    work: Work, question: Question, replicas: int, effort: Effort, show: Progress
) -> Comparison:
    config = TrainConfig(dataset=work.schema.directory, model=question.model, **question.settings)
    config = resolve(config, work.schema)
    auto = choose_hardware(config, accelerator=False, num_replicas=replicas)
    samples: dict[str, list[Sample]] = {}
    details, label = {}, ""
    for precision in PRECISIONS:
        for xla in (False, True):
            cell = f"{precision.removeprefix('mixed_')}{', XLA' * xla}"
            show(f"choices, {question.model}, {replicas} replicas, {cell}")
            request = {
                "directory": work.schema.directory,
                "question": dataclasses.asdict(question),
                "replicas": replicas,
                "settings": {"precision": precision, "xla": xla},
                "repetitions": effort.repetitions,
                "seconds": _SECONDS_SHARE * effort.seconds,
            }
            found = run_child("benchmarks.training.choices", request)
            name = OURS if auto == request["settings"] else cell
            samples[name] = [Sample(**s) for s in found["samples"]]
            details[cell] = found["details"] | {"steps_per_s": found["steps_per_s"]}
            label = found["name"]
    chosen = f"{auto['precision'].removeprefix('mixed_')}{', XLA' * auto['xla']}"
    return Comparison(
        suite="choices",
        dataset=work.schema.name,
        question=f"{label}, {replicas} replica{'s' * (replicas > 1)}",
        samples=samples,
        note=f"auto is {chosen}",
        details={"cells": details, "auto": auto, "replicas": replicas},
        goal=_LEAST_RATIO,
        against=Against.OURSELVES,
    )


def main() -> None:
    """In the child: trains one cell and prints its samples, as JSON."""
    request = take_request()
    # Not at module top: the devices come first.
    from benchmarks.measuring.timing import alternate
    from benchmarks.training.loop import OurLoop
    from train.devices.strategy import make_cluster, set_up_devices

    replicas = request["replicas"]
    set_up_devices(replicas, deterministic=False)
    cluster = make_cluster("mirrored" if replicas > 1 else "one_device")
    question = Question(**request["question"])
    built = build(open_work(request["directory"]), question, cluster, **request["settings"])
    loop = OurLoop(built, cluster)
    loop.warm_up()
    examples = built.examples.num_examples
    systems = timed_epochs({OURS: loop.train}, examples, request["seconds"])
    samples = alternate(systems, request["repetitions"])[OURS]
    steps = loop.order.steps_per_epoch / examples
    found = {
        "name": built.name,
        "details": built.details,
        "samples": [dataclasses.asdict(s) for s in samples],
        "steps_per_s": [s.rate * steps for s in samples],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
