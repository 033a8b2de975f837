"""Our side of a training question: a run's model, step and loop, without what surrounds them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.timing import Sample, whole_epochs
from benchmarks.measuring.work import Question, Work
from benchmarks.peers import keras_fit
from records.examples import AnyOrder, Examples
from records.opened import open_set
from records.ordering.order import Order
from records.roles import Data
from records.sets.schema import IMAGE
from train.assembly.context import RunContext
from train.assembly.training import Training, build_training
from train.devices.strategy import Cluster
from train.settings.config import TrainConfig
from train.settings.resolve import resolve
from train.settings.resolved import Settings
from train.step.feed import make_feed
from train.step.pace import Pace

# The loop begins with one step a call and finds how many steps suit within the second epoch.
WARM_UP_EPOCHS = 2
# A call of `fit` costs about 30 ms besides its epochs: repetitions long enough to hide that.
SECONDS_FACTOR = 3
_HEAD_NOTE = "the head alone, on the features of the frozen backbone"

Train = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class Build:
    """What a run trains, for one question."""

    # question and settings: what is trained.
    question: Question
    settings: Settings
    training: Training  # model, optimizer, step and the examples
    pictures: Examples  # the examples before a frozen backbone made features of them; else the same
    note: str  # what of the set is trained, with which optimizer

    @property
    def name(self) -> str:
        """The question's name in tables."""
        head = " head" if self.settings.freeze else ""
        return f"{self.settings.model}{head}, batch {self.settings.global_batch_size}"

    @property
    def examples(self) -> Examples:
        """What is fed."""
        return self.training.examples["train"]

    def fit_work(self, whole: bool = False) -> keras_fit.FitWork:
        """The same training for `fit`; `whole`: behind the frozen backbone, on pictures."""
        examples = self.pictures if whole else self.examples
        assert examples.inputs is not None  # `build` asks for decoded examples
        return keras_fit.FitWork(
            model=self.training.model if whole else self.training.trained,
            optimizer=self.training.optimizer,
            inputs=examples.inputs[examples.numbers],
            labels=examples.subset_labels,
            global_batch_size=self.settings.global_batch_size,
        )

    @property
    def details(self) -> dict[str, Any]:
        """Settings, JSON-ready."""
        return {
            "examples": self.examples.num_examples,
            "global_batch_size": self.settings.global_batch_size,
            "optimizer": self.settings.optimizer,
            "parameters": self.training.trained.count_params(),
            "precision": self.settings.precision,
            "xla": self.settings.xla,
        }


def build(work: Work, question: Question, cluster: Cluster, **fields: Any) -> Build:
    """Model, optimizer and step of a run, on as many training examples as the question says.

    Features of a frozen backbone are computed for that many pictures and then repeated, so that an
    epoch is as long as in a run: what `fit` does once per epoch must not weigh more. `fields` are
    of `TrainConfig`, besides the question's.
    """
    asked = TrainConfig(
        dataset=work.schema.directory, model=question.model, **(question.settings | fields)
    )
    settings = resolve(asked, work.schema, cluster)
    input_config = work.input_config()
    if work.schema.modality == IMAGE:
        input_config = dataclasses.replace(input_config, image_size=settings.image_size)
    data = Data(open_set(work.schema.directory), input_config, settings.seed)
    pictures = data.examples("train")
    count = pictures.num_examples
    limit = min(count, question.examples or count)
    repeats = 1 if settings.freeze else question.repeats  # pictures of a frozen backbone pass once
    numbers = np.tile(pictures.numbers[:limit], repeats)
    pictures = dataclasses.replace(pictures, numbers=numbers)
    context = RunContext(settings, cluster, data, "device", {"train": pictures})
    training = build_training(context)
    notes = [settings.optimizer]
    if settings.freeze:
        features = training.examples["train"]
        numbers = np.resize(features.numbers, count * question.repeats)
        repeated = dataclasses.replace(features, numbers=numbers)
        training = dataclasses.replace(training, examples={"train": repeated})
        notes.append(_HEAD_NOTE)
    elif limit < count:
        notes.append(f"{limit:,} of {count:,} examples")
    if work.schema.modality == IMAGE and not settings.freeze:
        size = settings.image_size
        notes.append(f"{size} x {size} pixels, {settings.weights} weights")
    if question.repeats > 1:
        notes.append(f"the set {question.repeats} times an epoch")
    return Build(question, settings, training, pictures, ", ".join(notes))


class OurLoop:
    """The steps of `train.engine.loop` without checkpoints, validation and files."""

    def __init__(self, built: Build, cluster: Cluster, order: AnyOrder | None = None):
        """Puts the examples on the device, as a run does.

        By default texts are not grouped by length: so other systems can do the same work.
        """
        training, settings = built.training, built.settings
        size = settings.global_batch_size
        self.order = order or Order(built.examples.num_examples, size, settings.seed)
        # XLA compiles for each length of texts: then a chunk has one length only.
        compiled = settings.xla
        level = training.level
        self._feed = make_feed(built.examples, self.order, cluster, level, one_length=compiled)
        self._step, self._optimizer = training.step, training.optimizer
        self.pace = Pace()
        self._epoch = 0
        self._cluster = cluster

    def train(self, epochs: int) -> None:
        """Trains whole epochs and reads loss and confusion matrix after each."""
        for _ in range(epochs):
            self._step.reset_totals()
            self._feed.start(self._epoch)
            self._run_steps()
            # As a run does after every epoch: reading it waits for the device.
            self._step.confusion.numpy()
            self._epoch += 1

    def _run_steps(self) -> None:
        number = self._epoch * self.order.steps_per_epoch
        steps = self._agreed_steps()
        chunk = self._feed.take(steps)
        while chunk is not None:
            with self.pace.timed(chunk.steps):
                self._step.run(chunk, number)
                following = self._feed.take(steps)
                self._step.loss_sum.numpy()  # waits for the device
            number += chunk.steps
            chunk = following
            if chunk is not None:
                steps = self._agreed_steps()

    def _agreed_steps(self) -> int:
        """Steps of a call: all workers make the same ones, by the chief's clock."""
        return int(self._cluster.exchange(self.pace.steps)[0, 0])

    @property
    def steps_trained(self) -> int:
        """Updates of the optimizer since it was made."""
        return int(self._optimizer.iterations.numpy())

    @property
    def examples_counted(self) -> int:
        """Examples in the confusion matrix of the last epoch, of all replicas."""
        return int(self._step.confusion.numpy().sum())

    def warm_up(self) -> None:
        """Compiles, finds the pace, and checks that every example was trained once an epoch.

        Raises:
          ValueError: it was not.
        """
        self.train(WARM_UP_EPOCHS)
        steps, counted = self.steps_trained, self.examples_counted
        expected = (WARM_UP_EPOCHS * self.order.steps_per_epoch, self.order.num_examples)
        if (steps, counted) != expected:
            raise ValueError(
                f"benchmark: steps and examples per epoch expected {expected}, received "
                f"{(steps, counted)}"
            )


def steps_per_second(
    samples: Mapping[str, Sequence[Sample]], global_batch_size: int, num_examples: int
) -> dict[str, float]:
    """Median steps/s of each system whose epochs of `num_examples` end in a smaller batch."""
    # The smaller batch at the end of an epoch is a step like the others.
    per_example = -(-num_examples // global_batch_size) / num_examples
    return {
        name: float(np.median([s.rate for s in of_one])) * per_example
        for name, of_one in samples.items()
    }


def timed_epochs(
    trains: dict[str, Train], num_examples: int, seconds: float
) -> dict[str, Callable[[], Sample]]:
    """Repetitions of whole epochs, for each system so many that they last `seconds` and more."""
    return {
        name: whole_epochs(train, num_examples, SECONDS_FACTOR * seconds)
        for name, train in trains.items()
    }
