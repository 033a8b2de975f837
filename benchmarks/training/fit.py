"""Training questions: examples per second of this system's loop beside Keras `fit`.

Both train copies of one model with one optimizer, on the same examples, decoded and in memory,
with one precision; nothing is validated, saved or plotted meanwhile. Of a frozen picture model
the head alone is trained, by both, on the same features, computed once. Ours gets what `auto`
chooses; `fit` the fastest of its settings. Two replicas are measured in a process of their own.

"report" is the report's own way, with its models and its batch of 32: `fit(x, y)` on NumPy arrays
at Keras's defaults, a frozen backbone in every step.
"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from benchmarks.measuring.child import run_child
from benchmarks.measuring.timing import OURS, Comparison, Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Question, Work
from benchmarks.peers import keras_fit
from benchmarks.training.loop import (
    Build,
    OurLoop,
    Train,
    build,
    steps_per_second,
    timed_epochs,
)
from records.sets.schema import TABULAR
from train.devices.strategy import make_cluster

_MOST_ROUNDS = 3  # of pictures and texts, whose epochs take longer than a repetition should
REPORT = "report"
_REPORT_NOTE = "report: fit(x, y) on NumPy arrays at Keras's defaults, the report's own way"


def measure_training(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Answers the training questions for one set, one per model.

    Raises:
      ValueError: the two loops do not train the same number of steps and examples.
      ChildError: the process of two replicas failed.
    """
    modality = work.schema.modality
    found = [_measure_model(work, q, effort, progress) for q in effort.train[modality]]
    return found + [_measure_replicas(work, q, effort, progress) for q in effort.replicas[modality]]


def _measure_model(work: Work, question: Question, effort: Effort, show: Progress) -> Comparison:
    def progress(text: str) -> None:
        show(f"train, {question.model}: {text}")

    progress("building")
    cluster = make_cluster("one_device")
    built = build(work, question, cluster)
    fit_work = make_fit_work(built)
    check_fit(fit_work, work)
    progress("fit at its defaults, warming up")
    own_way = question.report and not built.config.freeze  # else it is measured beside it
    trains: dict[str, Train] = {REPORT if own_way else "fit": keras_fit.make_default(fit_work)}
    trains["fit tuned"], trials = keras_fit.make_tuned(fit_work, effort.thorough, progress)
    progress("ours, warming up")
    loop = OurLoop(built, cluster)
    loop.warm_up()
    systems = timed_epochs({OURS: loop.train} | trains, len(fit_work.labels), effort.seconds)
    notes = [built.note]
    if own_way:
        notes.append(_REPORT_NOTE)
    elif question.report:
        progress("the report's way, warming up")
        pictures = make_report_work(built)
        train = keras_fit.make_report(pictures)
        systems |= timed_epochs({REPORT: train}, len(pictures.labels), effort.seconds / 4)
        notes.append(
            f"{_REPORT_NOTE}, without XLA, the backbone every step: epochs of "
            f"{len(pictures.labels)} pictures, {built.config.weights} weights"
        )
    rounds = effort.repetitions
    if work.schema.modality != TABULAR:
        rounds = min(rounds, _MOST_ROUNDS)
    samples = alternate(systems, rounds, progress)
    steps, told = _tell_steps(built, samples)
    return Comparison(
        suite="train",
        dataset=work.schema.name,
        question=built.name,
        samples=samples,
        note="; ".join([*notes, told]),
        details=built.details | {"fit_tuned": trials, "fingerprint": work.fingerprint} | steps,
        goal=question.goal,
    )


def _tell_steps(
    built: Build, samples: dict[str, list[Sample]]
) -> tuple[dict[str, dict[str, float]], str]:
    """(Steps/s of each system for the details, the same as text)."""
    size = int(built.config.global_batch_size or 0)
    found = steps_per_second(samples, size, built.examples.num_examples)
    told = ", ".join(f"{name} {rate:,.1f}" for name, rate in found.items())
    return {"steps_per_second": found}, f"steps/s: {told}"


def _measure_replicas(work: Work, question: Question, effort: Effort, show: Progress) -> Comparison:
    """Two replicas on two logical CPU devices, both systems in one process."""
    show(f"train, {question.model}, 2 replicas")
    request = {
        "directory": work.schema.directory,
        "question": dataclasses.asdict(question),
        "repetitions": effort.repetitions,
        "seconds": effort.seconds,
    }
    found = run_child("benchmarks.training.replicas", request)
    samples = {n: [Sample(**s) for s in samples] for n, samples in found["samples"].items()}
    return Comparison(
        suite="train",
        dataset=work.schema.name,
        question=f"{found['name']}, 2 replicas",
        samples=samples,
        note=f"{found['note']}; global batch; fit can only run one step a call, without XLA",
        details=found["details"]
        | {"fingerprint": work.fingerprint, "replicas": 2}
        | {"steps_per_second": found["steps_per_second"]},
        goal=question.goal,
    )


def make_fit_work(built: Build) -> keras_fit.FitWork:
    """The same training for `fit`."""
    train = built.examples
    assert train.inputs is not None  # `build` asks for decoded examples
    return keras_fit.FitWork(
        model=built.training.trained,
        optimizer=built.training.optimizer,
        inputs=train.inputs[train.numbers],
        labels=train.subset_labels,
        global_batch_size=int(built.config.global_batch_size or 0),
    )


def make_report_work(built: Build) -> keras_fit.FitWork:
    """The same head for `fit` behind its frozen backbone: the whole model, on pictures."""
    pictures = built.pictures
    assert pictures.inputs is not None  # `build` asks for decoded examples
    return keras_fit.FitWork(
        model=built.training.model,
        optimizer=built.training.optimizer,
        inputs=pictures.inputs[pictures.numbers],
        labels=pictures.subset_labels,
        global_batch_size=int(built.config.global_batch_size or 0),
    )


def check_fit(fit_work: keras_fit.FitWork, work: Work) -> None:
    """Raises ValueError unless the copy that `fit` trains computes what the model computes."""
    copy = keras.models.clone_model(fit_work.model)
    copy.set_weights(fit_work.model.get_weights())
    rows = fit_work.inputs[:8]
    ours, theirs = np.asarray(fit_work.model(rows)), np.asarray(copy(rows))
    if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        difference = float(np.abs(ours - theirs).max())
        raise ValueError(
            f"benchmark: {work.schema.name}: the copy of {fit_work.model.name} for fit "
            f"expected equal outputs, received ones that differ by {difference:.3g}"
        )
