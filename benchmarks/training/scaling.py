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
"""

import contextlib
import dataclasses
import functools
from typing import Any

from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate, fitting_count
from benchmarks.measuring.work import Effort, Question, Work
from benchmarks.training.loop import steps_per_second
from benchmarks.training.trainer import Layout, Trainer
from records.sets.schema import IMAGE, TABULAR

# Epochs of about a hundred steps (table) and 41 (head): the ends of epochs must not weigh.
QUESTIONS = {
    TABULAR: Question("mlp", settings={"global_batch_size": 256}, repeats=16),
    IMAGE: Question("efficientnet_lite0", examples=64),
}
# Several replicas may take ten times as long as one.
_SECONDS_SHARE = 0.5
_NOTE = "a test of overhead, not of speed: all share the same processors"


ONE = Layout()
LAYOUTS = (ONE, Layout(2), Layout(4), Layout(processes=2))


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
        groups = [stack.enter_context(Trainer(work, question, layout)) for layout in layouts]
        built = [group.ready() for group in groups]
        # All train as many epochs as one device does in that time.
        # The other layouts are slower: their repetitions last longer, never shorter.
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
    pair = {OURS: samples[layout.name], ONE.name: samples[ONE.name]}
    details = found["details"]
    steps = steps_per_second(pair, details["global_batch_size"], details["examples"])
    lost = 1000 / steps[OURS] - 1000 / steps[ONE.name]
    return Comparison(
        suite="scaling",
        dataset=work.schema.name,
        question=f"{found['name']}, {layout.name}",
        samples=pair,
        note=(
            f"{found['note']}; {_NOTE}; steps/s: ours {steps[OURS]:,.1f}, one device "
            f"{steps[ONE.name]:,.1f}, {lost:.2f} ms more a step{_xla_note(details, one['details'])}"
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
