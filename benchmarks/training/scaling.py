"""Several replicas on one machine: what remains of the speed of one, at the same global batch.

The logical devices and the worker processes share the processors that one device has alone, so
nothing can become faster: this is a test of overhead, not of speed. What is lost is the cost of
distributing, of adding up gradients and of smaller matrix products.

| system | what trains |
|---|---|
| one device | one process, one replica |
| ours, n devices | one process, MirroredStrategy over n logical CPU devices |
| ours, 2 processes | MultiWorkerMirroredStrategy, two processes on the loopback, a device each |

Each system has a process of its own (devices are fixed at its start); all stay alive and take
turns, and all train the same number of epochs of the same examples in the same order.

Started with a JSON object, this module is such a process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
import time
from typing import Any

from benchmarks.measuring.child import Child, take_request, worker_variables
from benchmarks.measuring.timing import (
    OURS,
    Against,
    Comparison,
    Progress,
    Sample,
    alternate,
    fitting_count,
)
from benchmarks.measuring.work import Effort, Question, Work, open_work
from benchmarks.training.loop import OurLoop, build, steps_per_second
from records.sets.schema import IMAGE, TABULAR
from train.devices.strategy import make_cluster, set_up_devices

ONE = "one device"
# Epochs of about a hundred steps (table) and 41 (head): the ends of epochs must not weigh.
QUESTIONS = {
    TABULAR: Question("mlp", settings={"global_batch_size": 256}, repeats=16),
    IMAGE: Question("efficientnet_lite0", examples=64),
}
# Several replicas may take ten times as long as one.
_SECONDS_SHARE = 0.5
_NOTE = "a test of overhead, not of speed: all share the same processors"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one system is distributed: `devices` of each of `processes`."""

    devices: int = 1
    processes: int = 1

    @property
    def name(self) -> str:
        """The system's name."""
        if self.processes > 1:
            return f"{self.processes} processes"
        return ONE if self.devices == 1 else f"{self.devices} devices"


LAYOUTS = (Layout(), Layout(2), Layout(4), Layout(processes=2))


def measure_scaling(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Answers one question for each layout of several replicas; [] for texts,
    and in quick runs, because starting the processes takes longer than they may.

    Raises:
      ChildError: a process failed.
      ValueError: the layouts did not train the same steps and examples.
    """
    modality = work.schema.modality
    if modality not in QUESTIONS or not effort.thorough:
        return []
    return measure_layouts(work, QUESTIONS[modality], LAYOUTS, effort, progress)


def measure_layouts(
    work: Work,
    question: Question,
    layouts: tuple[Layout, ...],
    effort: Effort,
    show: Progress,
) -> list[Comparison]:
    """Compares every layout with the first, which is one device.

    Raises:
      ChildError, ValueError: as `measure_scaling`.
    """
    show(f"scaling, {question.model}: starting")
    with contextlib.ExitStack() as stack:
        groups = [stack.enter_context(_Group(work, question, layout)) for layout in layouts]
        built = [group.ready() for group in groups]
        seconds = groups[0].train(1).seconds
        epochs = fitting_count(seconds, _SECONDS_SHARE * effort.seconds)
        systems = {g.layout.name: functools.partial(g.train, epochs) for g in groups}
        samples = alternate(
            systems, effort.repetitions, lambda text: show(f"scaling, {question.model}: {text}")
        )
    answers = zip(layouts[1:], built[1:], strict=True)
    return [_answer(work, layout, found, built[0], samples) for layout, found in answers]


def _answer(
    work: Work,
    layout: Layout,
    found: dict[str, Any],
    one: dict[str, Any],
    samples: dict[str, list[Sample]],
) -> Comparison:
    pair = {OURS: samples[layout.name], ONE: samples[ONE]}
    details = found["details"]
    steps = steps_per_second(pair, details["global_batch_size"], details["examples"])
    lost = 1000 / steps[OURS] - 1000 / steps[ONE]
    return Comparison(
        suite="scaling",
        dataset=work.schema.name,
        question=f"{found['name']}, {layout.name}",
        samples=pair,
        note=(
            f"{found['note']}; {_NOTE}; steps/s: ours {steps[OURS]:,.1f}, one device "
            f"{steps[ONE]:,.1f}, {lost:.2f} ms more a step{_xla_note(details, one['details'])}"
        ),
        details=details
        | dataclasses.asdict(layout)
        | {"steps_per_second": steps, "more_ms_per_step": lost, "one_device": one["details"]}
        | {"fingerprint": work.fingerprint},
        against=Against.OURSELVES,
    )


def _xla_note(several: dict[str, Any], one: dict[str, Any]) -> str:
    """What `auto` compiles may differ; then the loss is not all of distributing."""
    if several["xla"] == one["xla"]:
        return ""
    return f" (auto: one device {'with' if one['xla'] else 'without'} XLA, ours the other way)"


class _Group:
    """The processes of one layout; a context manager, which ends them."""

    def __init__(self, work: Work, question: Question, layout: Layout):
        self.layout = layout
        request = {
            "directory": work.schema.directory,
            "question": dataclasses.asdict(question),
            "devices": layout.devices,
            "processes": layout.processes,
        }
        several = layout.processes > 1
        variables = worker_variables(layout.processes) if several else [{}]
        self._children = [Child("benchmarks.training.scaling", request, v) for v in variables]

    def __enter__(self) -> _Group:
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._children:
            child.__exit__()

    def ready(self) -> dict[str, Any]:
        """Waits until all are warm: the name and the details of what they train."""
        self._facts, *_ = [child.answer() for child in self._children]
        return self._facts

    def train(self, epochs: int) -> Sample:
        """All train so many epochs, as long as the slowest takes."""
        for child in self._children:
            child.send(epochs)
        answers = [child.answer() for child in self._children]
        details = self._facts["details"]
        steps = -(-details["examples"] // details["global_batch_size"])
        expected = {"examples": epochs * details["examples"], "steps": epochs * steps}
        for answer in answers:
            trained = {name: answer[name] for name in expected}
            if trained != expected:
                raise ValueError(
                    f"benchmark: {self.layout.name} expected to train {expected}, "
                    f"received {trained}"
                )
        return Sample(expected["examples"], max(answer["seconds"] for answer in answers))


def main() -> None:
    """In the child: builds, warms up, then trains as many epochs as each line says."""
    request = take_request()
    several = request["processes"] > 1
    set_up_devices(None if several else request["devices"], deterministic=False)
    name = "multi_worker" if several else "mirrored" if request["devices"] > 1 else "one_device"
    cluster = make_cluster(name)
    question = Question(**request["question"])
    built = build(open_work(request["directory"]), question, cluster)
    loop = OurLoop(built, cluster)
    loop.warm_up()
    loop.train(1)  # at the pace found
    facts = {"name": built.name, "note": built.note, "details": built.details}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        before, examples, start = loop.steps_trained, 0, time.perf_counter()
        for _ in range(int(line)):
            loop.train(1)
            examples += loop.examples_counted
        seconds = time.perf_counter() - start
        steps = loop.steps_trained - before
        print(json.dumps({"seconds": seconds, "steps": steps, "examples": examples}), flush=True)


if __name__ == "__main__":
    main()
