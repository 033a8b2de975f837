"""The table behind `auto`: XLA on and off, float32 and bfloat16, one replica and two.

Each cell trains in a process of its own: neither Keras's precision nor the devices can change
within one. "ours" is the cell that `auto` chooses (`train.settings.auto`); it should be the
fastest, or hardly slower.
"""

from typing import Any

from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Question, Work
from benchmarks.training.loop import steps_per_second
from benchmarks.training.trainer import Layout, Trainer
from records.sets.schema import IMAGE, TABULAR, TOKENS
from train.settings.auto import choose_hardware
from train.settings.config import TrainConfig
from train.settings.resolve import fill

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
# Of a repetition, by the effort's seconds. A cell costs a start and a compilation besides: short.
_SECONDS = 0.75


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
    found = fill(config, work.schema.modality)
    auto = choose_hardware(
        found["model"], found["freeze"], accelerator=False, num_replicas=replicas
    )
    samples: dict[str, list[Sample]] = {}
    details, label = {}, ""
    for precision in PRECISIONS:
        for xla in (False, True):
            cell = f"{precision.removeprefix('mixed_')}{', XLA' * xla}"
            show(f"choices, {question.model}, {replicas} replicas, {cell}")
            settings: dict[str, Any] = {"precision": precision, "xla": xla}
            with Trainer(work, question, Layout(replicas), **settings) as trainer:
                found = trainer.ready()
                run = trainer.repetitions(OURS, _SECONDS * effort.seconds)
                measured = alternate({OURS: run}, effort.repetitions)[OURS]
            # The cell that `auto` takes is ours: the others show what it gives away.
            samples[OURS if auto == settings else cell] = measured
            size, count = found["details"]["global_batch_size"], found["details"]["examples"]
            steps = [steps_per_second({OURS: [s]}, size, count)[OURS] for s in measured]
            details[cell] = found["details"] | {"steps_per_s": steps}
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
