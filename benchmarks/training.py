"""Training questions: examples per second of this system's loop beside Keras `fit`.

Both train copies of one model with one optimizer, on the same examples, decoded and in memory,
one device, one precision; nothing is validated, saved or plotted meanwhile. Of a frozen picture
model the head alone is trained, by both, on the same features, computed once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.peers import keras_fit
from benchmarks.timing import OURS, Comparison, Sample, alternate, fitting_count
from benchmarks.work import Effort, Work
from records.data import Data
from records.order import Order
from records.schema import IMAGE
from train.config import TrainConfig
from train.feed import Feed, Pace
from train.setup import Training, build_training, resolve, resolve_hardware
from train.strategy import Cluster, make_cluster

# The loop begins with calls of one step and finds its pace within the second epoch.
_WARM_UP_EPOCHS = 2
# A call of `fit` costs about 30 ms besides its epochs: repetitions long enough to hide that.
_SECONDS_FACTOR = 4
_HEAD_NOTE = "the head alone, for both on the same features of the frozen backbone"

Progress = Callable[[str], None]
Train = Callable[[int], None]


def measure_training(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Answers the training questions for one set, one per model.

    Raises:
      ValueError: the two loops do not train the same number of steps and examples.
    """
    models = effort.models[work.schema.modality]
    return [_measure_model(work, model, effort, progress) for model in models]


def _measure_model(work: Work, model: str, effort: Effort, show: Progress) -> Comparison:
    def progress(text: str) -> None:
        show(f"train, {model}: {text}")

    progress("building")
    cluster = make_cluster("one_device")
    config = resolve(TrainConfig(dataset=work.schema.directory, model=model), work.schema)
    hardware = resolve_hardware(config, cluster)
    training, note = _build(work, config, hardware, cluster, effort)
    fit_work = _fit_work(training, config)
    _check_fit(fit_work, work)
    progress("fit at its defaults, warming up")
    trains: dict[str, Train] = {"fit": keras_fit.make_default(fit_work)}
    trains["fit tuned"], trials = keras_fit.make_tuned(fit_work, effort.tune, progress)
    progress("ours, warming up")
    loop = OurLoop(training, config, cluster)
    loop.train(_WARM_UP_EPOCHS)
    loop.check(_WARM_UP_EPOCHS)
    samples = _measure({OURS: loop.train} | trains, len(fit_work.labels), effort, progress)
    return Comparison(
        suite="train",
        dataset=work.schema.name,
        question=f"{model} head" if config.freeze else model,
        samples=samples,
        note=note,
        details={
            "examples": len(fit_work.labels),
            "global_batch_size": config.global_batch_size,
            "optimizer": config.optimizer,
            "parameters": training.trained.count_params(),
            **hardware,
            "fit_tuned": trials,
            "fingerprint": work.fingerprint,
        },
    )


def _measure(
    trains: dict[str, Train], num_examples: int, effort: Effort, progress: Progress
) -> dict[str, list[Sample]]:
    """Measures repetitions of whole epochs that last `effort.seconds` for each system."""
    counts: dict[str, int] = {}
    for name, train in trains.items():
        start = time.perf_counter()
        train(1)
        counts[name] = fitting_count(time.perf_counter() - start, _SECONDS_FACTOR * effort.seconds)

    def run(name: str) -> Sample:
        start = time.perf_counter()
        trains[name](counts[name])
        return Sample(counts[name] * num_examples, time.perf_counter() - start)

    systems = {name: lambda name=name: run(name) for name in trains}
    return alternate(systems, effort.repetitions, progress)


def _build(
    work: Work, config: TrainConfig, hardware: dict[str, Any], cluster: Cluster, effort: Effort
) -> tuple[Training, str]:
    """Model, optimizer and step of a run, on as many training examples as `effort` says.

    Features of a frozen backbone are computed for that many pictures and then repeated, so that
    an epoch is as long as in a run: what `fit` does once per epoch must not weigh more.
    """
    input_config = work.input_config()
    if work.schema.modality == IMAGE:
        input_config = dataclasses.replace(input_config, image_size=int(config.image_size or 0))
    data = Data(work.schema, input_config, config.seed)
    train = data.examples("train")
    count = train.num_examples
    limit = min(count, effort.train_examples[work.schema.modality] or count)
    train = dataclasses.replace(train, numbers=train.numbers[:limit])
    training = build_training(config, hardware, data, "device", {"train": train}, cluster)
    if config.freeze:
        features = training.examples["train"]
        repeated = dataclasses.replace(features, numbers=np.resize(features.numbers, count))
        return dataclasses.replace(training, examples={"train": repeated}), _HEAD_NOTE
    return training, "" if limit == count else f"epochs of {limit:,} of {count:,} examples"


def _fit_work(training: Training, config: TrainConfig) -> keras_fit.FitWork:
    train = training.examples["train"]
    assert train.inputs is not None  # `_build` asks for decoded examples
    return keras_fit.FitWork(
        model=training.trained,
        optimizer=training.optimizer,
        inputs=train.inputs[train.numbers],
        labels=train.subset_labels,
        global_batch_size=int(config.global_batch_size or 0),
    )


def _check_fit(fit_work: keras_fit.FitWork, work: Work) -> None:
    """Raises ValueError unless the copy that `fit` trains computes what the model computes."""
    copy = keras.models.clone_model(fit_work.model)
    copy.set_weights(fit_work.model.get_weights())
    rows = fit_work.inputs[:8]
    ours, theirs = np.asarray(fit_work.model(rows)), np.asarray(copy(rows))
    if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        difference = float(np.abs(ours - theirs).max())
        raise ValueError(
            f"benchmarks/training: {work.schema.name}: the copy of {fit_work.model.name} for fit "
            f"expected equal outputs, received ones that differ by {difference:.3g}"
        )


class OurLoop:
    """The steps of `train.loop` without what surrounds them: checkpoints, validation, files."""

    def __init__(self, training: Training, config: TrainConfig, cluster: Cluster):
        """Puts the examples on the device, as a run does."""
        examples = training.examples["train"]
        self.order = Order(examples.num_examples, int(config.global_batch_size or 0), config.seed)
        self._feed = Feed(examples, self.order, cluster, training.level)
        self._step, self._optimizer = training.step, training.optimizer
        self._pace = Pace()
        self._epoch = 0

    def train(self, epochs: int) -> None:
        """Trains whole epochs and reads loss and confusion matrix after each."""
        for _ in range(epochs):
            self._step.reset_totals()
            self._feed.start(self._epoch)
            self._run_steps()
            self._step.confusion.numpy()
            self._epoch += 1

    def _run_steps(self) -> None:
        number = self._epoch * self.order.steps_per_epoch
        chunk = self._feed.take(self._pace.steps)
        while chunk is not None:
            with self._pace.timed(chunk.steps):
                self._step.run(chunk, number)
                following = self._feed.take(self._pace.steps)
                self._step.loss_sum.numpy()  # waits for the device
            number += chunk.steps
            chunk = following

    def check(self, epochs: int) -> None:
        """Raises ValueError unless the epochs so far trained every example once each."""
        steps = int(self._optimizer.iterations.numpy())
        counted = int(self._step.confusion.numpy().sum())
        expected = (epochs * self.order.steps_per_epoch, self.order.num_examples)
        if (steps, counted) != expected:
            raise ValueError(
                f"benchmarks/training: steps and examples per epoch expected {expected}, received "
                f"{(steps, counted)}"
            )
