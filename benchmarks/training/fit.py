"""Training questions: examples per second of this system's loop beside Keras `fit`.

Both train copies of one model with one optimizer, on the same examples, decoded and in memory,
with one precision; nothing is validated, saved or plotted meanwhile. Of a frozen picture model
the head alone is trained, by both, on the same features, computed once. Ours gets what `auto`
chooses; `fit` the fastest of its settings. Two replicas are measured in a process of their own.

"report" is the report's own way, with its models and its batch of 32: `fit(x, y)` on NumPy arrays
at Keras's defaults, a frozen backbone in every step.
"""

from benchmarks.measuring.comparison import OURS, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Question, Work
from benchmarks.peers import keras_fit
from benchmarks.training.loop import (
    SECONDS_FACTOR,
    Build,
    OurLoop,
    Train,
    build,
    steps_per_second,
    timed_epochs,
)
from benchmarks.training.trainer import FIT, Layout, Trainer
from records.sets.schema import TABULAR
from train.devices.strategy import make_cluster

# Of pictures and texts: one epoch of them takes longer than a repetition should.
_MOST_ROUNDS = 3
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
    fit_work = built.fit_work()
    # Before any time is taken: trainings of two different models would be no comparison.
    keras_fit.check_copy(fit_work)
    progress("fit at its defaults, warming up")
    own_way = question.report and not built.settings.freeze  # else it is measured beside it
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
        pictures = built.fit_work(whole=True)
        train = keras_fit.make_report(pictures)
        systems |= timed_epochs({REPORT: train}, len(pictures.labels), effort.seconds / 4)
        notes.append(
            f"{_REPORT_NOTE}, without XLA, the backbone every step: epochs of "
            f"{len(pictures.labels)} pictures, {built.settings.weights} weights"
        )
    rounds = effort.repetitions
    if work.schema.modality != TABULAR:
        # Fewer rounds, not shorter ones: parts of epochs cannot be compared.
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
    size = built.settings.global_batch_size
    found = steps_per_second(samples, size, built.examples.num_examples)
    told = ", ".join(f"{name} {rate:,.1f}" for name, rate in found.items())
    return {"steps_per_second": found}, f"steps/s: {told}"


def _measure_replicas(work: Work, question: Question, effort: Effort, show: Progress) -> Comparison:
    """Two replicas on two logical CPU devices, both systems in one process."""
    show(f"train, {question.model}, 2 replicas")
    names = (OURS, FIT)
    with Trainer(work, question, Layout(2), names) as trainer:
        found = trainer.ready()
        seconds = SECONDS_FACTOR * effort.seconds
        samples = alternate({n: trainer.repetitions(n, seconds) for n in names}, effort.repetitions)
    details = found["details"]
    steps = steps_per_second(samples, details["global_batch_size"], details["examples"])
    return Comparison(
        suite="train",
        dataset=work.schema.name,
        question=f"{found['name']}, 2 replicas",
        samples=samples,
        note=f"{found['note']}; global batch; fit can only run one step a call, without XLA",
        details=details
        | {"fingerprint": work.fingerprint, "replicas": 2, "steps_per_second": steps},
        goal=question.goal,
    )
