"""Questions about the step itself, of the three default models and the smallest one.

| question | measured |
|---|---|
| real input | epochs with the real feed, against the same calls on one constant batch there |
| host overhead | a call's fixed cost (planning, starting, reading back) within the call's time |
| frozen backbone | epochs of the head on cached features, against the backbone in every step |

Real and constant epochs take turns in short pairs. The constant batch is the first of the epoch;
each constant epoch replays the very calls of a real one: as many steps each, texts cut to the
same lengths, so that it does the same arithmetic and leaves out the input alone.
"""

import dataclasses
import time

import numpy as np
import tensorflow as tf

from benchmarks.measuring.comparison import OURS, PAIRED, Against, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate, fitting_count
from benchmarks.measuring.work import Effort, Question, Work
from benchmarks.training.loop import Build, OurLoop, Train, build, timed_epochs
from records.sets.schema import IMAGE, TABULAR, TOKENS
from train.assembly.data import make_training_order
from train.devices.strategy import Cluster, make_cluster
from train.step.feed import Chunk, make_feed
from train.step.train_step import TrainStep

# The default model of each kind of data; parts of the large sets, as in the training questions.
_MODELS = {
    TABULAR: Question("mlp"),
    IMAGE: Question("efficientnet_lite0", examples=256),
    TOKENS: Question("gru", examples=2048),
}
# Epochs of many calls: else the end of the epoch, not the pace, would set the steps of a call.
_LONG_MODELS = {
    TABULAR: (
        Question("mlp_small", settings={"global_batch_size": 32}, repeats=120),
        Question("mlp", repeats=120),
    ),
    IMAGE: (Question("efficientnet_lite0", examples=256, repeats=30),),
    TOKENS: (Question("gru", examples=2048),),
}
# Time with real input over time without: the 95 % interval has to reach down to this.
_MOST_SLOWDOWN = 1.02
_LEAST_SHARE = 0.99  # of a call's time is the steps'
_MOST_CALL_SECONDS = 1.0  # a signal (Ctrl-C, a preemption) is answered between two calls
_MOST_CALLS = 200  # enough for a median; small models make thousands in the time allowed
_FROZEN_PICTURES, _FROZEN_GOAL = 64, 50.0


def measure_steps(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Answers the questions that fit the set's kind of input; in quick runs some of tables."""
    modality = work.schema.modality
    if not effort.thorough and modality != TABULAR:
        return []
    cluster = make_cluster("one_device")
    found = [
        _measure_real_input(work, _MODELS[modality], level, cluster, effort, progress)
        for level in ("device", "memory")
    ]
    models = _LONG_MODELS[modality] if effort.thorough else _LONG_MODELS[modality][:1]
    found += [_measure_overhead(work, q, cluster, progress) for q in models]
    if modality == IMAGE:
        found.append(_measure_frozen(work, cluster, effort, progress))
    return found


class Calls:
    """Epochs of calls of one fixed length, with real input or on one constant batch."""

    def __init__(self, built: Build, level: str, cluster: Cluster, limit: int):
        """Warms up nothing; `limit` is K, the most steps of a call."""
        self._step, self._limit = built.training.step, limit
        self.order = make_training_order(built.settings, built.examples)
        compiled = built.settings.xla
        self._feed = make_feed(built.examples, self.order, cluster, level, one_length=compiled)
        self._epoch = 0
        self._recorded: list[Chunk] = []

    def real(self, epochs: int) -> None:
        """Trains epochs with the feed, as `train.engine.loop` does: one chunk ahead."""
        for _ in range(epochs):
            self._step.reset_totals()
            self._feed.start(self._epoch)
            chunk = self._feed.take(self._limit)
            while chunk is not None:
                self._step.run(chunk, 0)
                following = self._feed.take(self._limit)
                self._step.loss_sum.numpy()
                chunk = following
            self._step.confusion.numpy()
            self._epoch += 1

    def chunks(self) -> list[Chunk]:
        """The calls of one epoch, on rows that lie on the device."""
        self._recorded = self._recorded or self._record()
        return self._recorded

    def constant(self, epochs: int) -> None:
        """Trains `chunks` again and again."""
        recorded = self.chunks()
        for _ in range(epochs):
            self._step.reset_totals()
            for chunk in recorded:
                self._step.run(chunk, 0)
                self._step.loss_sum.numpy()
            self._step.confusion.numpy()

    def _record(self) -> list[Chunk]:
        """An epoch's chunks, all of whose rows are those of its first batch."""
        self._feed.start(self._epoch)
        chunks, constant = [], None
        while (chunk := self._feed.take(self._limit)) is not None:
            inputs, labels, rows, weights, keys = chunk.arrays
            if constant is None:
                first = rows[0]
                constant = tf.gather(inputs, first), tf.gather(labels, first)
                # Every step gathers all rows of the constant batch, in order.
                same = tf.tile(tf.range(len(first), dtype=rows.dtype)[None], [len(rows), 1])
            arrays = (*constant, same, tf.identity(weights), tf.identity(keys))
            # Counts, lengths and steps stay those of the real chunk: so does the arithmetic.
            chunks.append(dataclasses.replace(chunk, arrays=arrays))
        self._epoch += 1
        return chunks


def _measure_real_input(
    work: Work,
    question: Question,
    level: str,
    cluster: Cluster,
    effort: Effort,
    show: Progress,
) -> Comparison:
    name = f"{question.model}, real input, {level}"
    show(f"step, {name}: building")
    built = build(work, question, cluster)
    limit = _find_pace(built, cluster)
    calls = Calls(built, level, cluster, limit)
    seconds = max(_seconds(run, 1) for run in (calls.real, calls.constant) for _ in range(2))
    epochs = fitting_count(seconds, effort.seconds)
    total = epochs * calls.order.num_examples
    systems = {
        OURS: lambda: Sample(total, _seconds(calls.real, epochs)),
        "constant batch": lambda: Sample(total, _seconds(calls.constant, epochs)),
    }
    # Three pairs a repetition, 15 in all by default: an interval needs more than a median.
    pairs = 3 * effort.repetitions
    samples = alternate(systems, pairs, lambda text: show(f"step, {name}: {text}"))
    return Comparison(
        suite="step",
        dataset=work.schema.name,
        question=name,
        samples=samples,
        quantity=PAIRED,
        note=f"{built.note}, K at most {limit}, {pairs} pairs",
        details=built.details | {"chunk_steps": limit, "pairs": pairs},
        goal=_MOST_SLOWDOWN,
        against=Against.LIMIT,
    )


def _seconds(run: Train, epochs: int) -> float:
    start = time.perf_counter()
    run(epochs)
    return time.perf_counter() - start


def _find_pace(built: Build, cluster: Cluster) -> int:
    """K, which the loop found once it was warm: the middle of what it held after some epochs."""
    order = make_training_order(built.settings, built.examples)
    loop = OurLoop(built, cluster, order)
    loop.warm_up()
    found = []
    for _ in range(5):
        loop.train(1)
        found.append(loop.pace.steps)
    return int(np.median(found))


def _measure_overhead(
    work: Work, question: Question, cluster: Cluster, show: Progress
) -> Comparison:
    """The fixed cost of a call, from calls of no step, within calls of the length chosen.

    It is exact on a CPU, whose calls run in turn; on a GPU the host's part overlaps the steps, and
    this is an upper bound.
    """
    show(f"step, {question.model}, host overhead")
    built = build(work, question, cluster)
    limit = _find_pace(built, cluster)
    step = built.training.step
    order = make_training_order(built.settings, built.examples)
    feed = make_feed(built.examples, order, cluster, "device", one_length=built.settings.xla)
    whole: list[float] = []
    fixed: list[float] = []
    steps: list[int] = []
    epoch = 0
    feed.start(epoch)
    began = time.perf_counter()
    while time.perf_counter() - began < 5 and len(whole) < _MOST_CALLS:
        t0 = time.perf_counter()
        chunk = feed.take(limit)
        t1 = time.perf_counter()
        if chunk is None:
            epoch += 1
            feed.start(epoch)
            continue
        step.run(chunk, 0)
        step.loss_sum.numpy()
        t2 = time.perf_counter()
        # The same arguments and no step: what is left is the fixed cost.
        step.run(dataclasses.replace(chunk, steps=0), 0)
        step.loss_sum.numpy()
        t3 = time.perf_counter()
        if chunk.steps >= min(limit, feed.chunk_steps):  # the end of an epoch cuts calls short
            whole.append(t2 - t0)
            fixed.append(t1 - t0 + t3 - t2)
            steps.append(chunk.steps)
    calls = slice(1, None) if len(whole) > 1 else slice(None)  # the first waits for the plan
    return _overhead_answer(work, built, whole[calls], fixed[calls], steps[calls])


def _overhead_answer(
    work: Work, built: Build, whole: list[float], fixed: list[float], steps: list[int]
) -> Comparison:
    call, overhead = float(np.median(whole)), float(np.median(fixed))
    size = built.settings.global_batch_size
    pairs = zip(whole, fixed, steps, strict=True)
    examples = [(n * size, w, max(w - f, 1e-9)) for w, f, n in pairs]
    in_time = "" if call < _MOST_CALL_SECONDS else "; TOO LONG, signals wait"
    return Comparison(
        suite="step",
        dataset=work.schema.name,
        question=f"{built.name}, host overhead",
        samples={
            OURS: [Sample(n, w) for n, w, _ in examples],
            "steps alone": [Sample(n, s) for n, _, s in examples],
        },
        note=(
            f"{built.note}; a call of {np.median(steps):.0f} steps takes {1000 * call:.0f} ms, "
            f"{1000 * overhead:.2f} ms of it whatever it does{in_time}"
        ),
        details=built.details
        | {"chunk_steps": int(np.median(steps)), "call_seconds": call, "fixed_seconds": overhead},
        goal=_LEAST_SHARE,
        against=Against.LIMIT,
    )


def _measure_frozen(work: Work, cluster: Cluster, effort: Effort, show: Progress) -> Comparison:
    """The same head on cached features, and behind the frozen backbone in every step."""
    question = Question("efficientnet_lite0", examples=_FROZEN_PICTURES)
    show(f"step, {question.model}, frozen backbone: building")
    built = build(work, question, cluster)
    cached = OurLoop(built, cluster)
    cached.warm_up()
    training = built.training
    with cluster.strategy.scope():
        # An optimizer belongs to the variables it was built for: the whole model gets one of its
        # own.
        optimizer = type(training.optimizer).from_config(training.optimizer.get_config())
        optimizer.build(training.model.trainable_variables)
        spec, options = built.pictures.spec, training.step.options
        step = TrainStep(training.model, optimizer, cluster, spec, options, None)
    examples = {"train": built.pictures}
    whole = dataclasses.replace(
        training, trained=training.model, step=step, optimizer=optimizer, examples=examples
    )
    every_step = OurLoop(dataclasses.replace(built, training=whole), cluster)
    every_step.warm_up()
    systems = timed_epochs({OURS: cached.train}, built.examples.num_examples, effort.seconds)
    trains: dict[str, Train] = {"backbone every step": every_step.train}
    systems |= timed_epochs(trains, built.pictures.num_examples, effort.seconds / 4)
    samples = alternate(
        systems, effort.repetitions, lambda text: show(f"step, frozen backbone: {text}")
    )
    return Comparison(
        suite="step",
        dataset=work.schema.name,
        question=f"{built.name}, frozen backbone",
        samples=samples,
        note=f"the backbone every step: epochs of {_FROZEN_PICTURES} pictures, same rate",
        details=built.details | {"pictures": _FROZEN_PICTURES},
        goal=_FROZEN_GOAL,
        against=Against.OURSELVES,
    )
