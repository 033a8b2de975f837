"""What is measured: the sets, and the work that every system does on them."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring.repeat import repeat_set
from records.decoding.input_config import InputConfig
from records.opened import open_set
from records.roles import Data
from records.sets.find import find_directory
from records.sets.schema import IMAGE, TABULAR, TEXT, TOKENS, Schema
from train.settings.prepare import prepare

DATASETS = ("fetal_health", "brain_tumor_mri", "song_lyrics")
# Batches of the input questions, examples.
_BATCH_SIZES = {TABULAR: 256, IMAGE: 64, TOKENS: 64}


@dataclasses.dataclass(frozen=True)
class Question:
    """One training that is measured."""

    model: str
    # The least ratio to the best `fit` that this project promises itself, or None.
    goal: float | None = None
    # Fields of `TrainConfig` that differ from what a run takes by default.
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    examples: int | None = None  # most examples taken; None takes all
    repeats: int = 1  # how often an epoch holds each of them
    # The model is one of the report's, at its batch size: its way to train is measured too.
    report: bool = False


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure."""

    repetitions: int  # rounds of every question
    seconds: float  # least duration of a warm repetition; training repetitions last longer
    train: dict[str, tuple[Question, ...]]  # trainings beside `fit` on one replica, by modality
    replicas: dict[str, tuple[Question, ...]]  # the same on two replicas
    # Every setting of the tuned peers, and the questions that a quick run leaves out.
    thorough: bool
    # Files of `peers/requirements`, without their ending, that may be started; None for every
    # installed one.
    peers: tuple[str, ...] | None = None
    # Where a part says, one sentence each, what it left out, and why.
    skipped: list[str] = dataclasses.field(default_factory=list)
    step_ms: tuple[float, ...] = ()  # times of a step, ms, of further emulated accelerators
    # By modality, how many examples input questions take.
    most_examples: dict[str, int] = dataclasses.field(default_factory=dict)


# A recurrent step takes about 50 ms and a frozen backbone 15 ms a picture on two processors:
# a part of those sets gives the same rates in seconds.
QUICK = Effort(
    repetitions=2,
    seconds=0.1,
    train={
        TABULAR: (Question("mlp"),),
        IMAGE: (Question("efficientnet_lite0", examples=64),),
        TOKENS: (Question("gru", examples=256),),
    },
    replicas={TABULAR: (), IMAGE: (), TOKENS: ()},
    thorough=False,
    most_examples={IMAGE: 256, TOKENS: 4096},
)
# 54 steps of the small MLP take 4 ms, and `fit` spends as much once an epoch: the set is repeated,
# so that steps are compared, not ends of epochs.
_LONG = 16
_BATCH_32, _BATCH_256 = {"global_batch_size": 32}, {"global_batch_size": 256}
# Compiling it takes a minute, a step of 64 whole pictures several seconds. No network: random
# weights, whose arithmetic is the same. `fit` does not augment.
_B0 = Question(
    "efficientnet_b0",
    1.0,
    {"freeze": False, "weights": "random", "image_size": 64, "augment": False} | _BATCH_32,
    examples=128,
)
# The report's transfer learning, whose backbone `fit` runs in every step: few pictures, as above.
_RESNET = Question(
    "resnet50", settings={"freeze": True, "weights": "random"} | _BATCH_32, examples=64, report=True
)
FULL = Effort(
    repetitions=5,
    seconds=1.0,
    train={
        TABULAR: (
            Question("mlp_small", 2.0, _BATCH_32, repeats=_LONG),
            Question("mlp_small", 1.3, _BATCH_256, repeats=_LONG),
            Question("mlp_report", 1.0, _BATCH_32, report=True),
            Question("mlp_report_best", 1.0, _BATCH_32, report=True),
            Question("mlp"),
        ),
        IMAGE: (_B0, Question("efficientnet_lite0", examples=1024), _RESNET),
        TOKENS: (
            Question("lstm", 1.0, examples=1024),
            Question("lstm", settings=_BATCH_32, examples=512, report=True),
            Question("gru", examples=1024),
        ),
    },
    replicas={
        TABULAR: (
            Question("mlp_small", 3.5, _BATCH_256, repeats=_LONG),
            Question("mlp_report_best", 1.2, _BATCH_256, repeats=4),
        ),
        IMAGE: (),
        TOKENS: (),
    },
    thorough=True,
)


@dataclasses.dataclass(frozen=True)
class Work:
    """One epoch of one split, as every system has to deliver it."""

    schema: Schema
    split: str  # all of its examples, in whatever order a system gives them
    fingerprint: str  # of the set's content
    # input_shape and input_dtype: one example's input: uint8 [S, S, C], int32 [T], float32 [F].
    input_shape: tuple[int, ...]
    input_dtype: str
    vocab_size: int  # ids at or above it become 1
    global_batch_size: int  # B; a system may leave the last batch smaller

    @property
    def num_examples(self) -> int:
        """Examples of the split."""
        return self.schema.split_counts[self.split]

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, the last one included."""
        return -(-self.num_examples // self.global_batch_size)

    def input_config(self) -> InputConfig:
        """The settings with which this system does the work."""
        if self.schema.modality == IMAGE:
            return InputConfig(image_size=self.input_shape[0])
        if self.schema.modality == TOKENS:
            return InputConfig(sequence_length=self.input_shape[0], vocab_size=self.vocab_size)
        return InputConfig()


def choose_set(dataset: str, data_dir: str | None) -> str:
    """The directory of a set: as named, or, for a bare name, the real one where it is prepared.

    Otherwise the generated config is used, and prepared first where it is missing.

    Raises:
      FileNotFoundError, ValueError: the set is not there and cannot be prepared.
    """
    if dataset not in DATASETS:
        return prepare(dataset, data_dir, None)
    try:
        return find_directory(f"{dataset}/kaggle", data_dir)
    except FileNotFoundError:
        print(f"{dataset}/kaggle is not prepared: measuring {dataset}/synthetic, generated data")
        return prepare(f"{dataset}/synthetic", data_dir, None)


def open_work(directory: str) -> Work:
    """The work on the split `train` of a prepared set.

    Raises:
      ValueError: the set's input is plain text, which no peer reads in the same way, or the set
        is damaged.
    """
    opened = open_set(directory)
    schema = opened.schema
    if schema.modality == TEXT:
        raise ValueError(
            f"benchmark: {schema.name}: input expected a picture, a vector or ids, received "
            f"text ({schema.input_name!r}), which other systems split into words differently"
        )
    # At its defaults, as a run takes them where nothing is asked for.
    config = InputConfig()
    spec = Data(opened, config).spec
    return Work(
        schema=schema,
        split="train",
        fingerprint=opened.fingerprint,
        input_shape=tuple(spec.shape),
        input_dtype=spec.dtype.name,
        vocab_size=config.vocab_size,
        global_batch_size=_BATCH_SIZES[schema.modality],
    )


@contextlib.contextmanager
def view(work: Work) -> Iterator[Work]:
    """The same work on links to the set's files, in a folder that goes at the end.

    What an earlier run or question decoded beside the shards is not there, so that a cold epoch is
    one, and what is decoded now stays out of the user's folder.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder:
        target = Path(folder, *work.schema.name.split("/"))
        target.mkdir(parents=True)
        for file in Path(work.schema.directory).iterdir():
            if file.is_file():
                # Links: a set may have gigabytes, and nothing writes into its files.
                (target / file.name).symlink_to(file.resolve())
        yield open_work(str(target))


@contextlib.contextmanager
def shortened(work: Work, effort: Effort) -> Iterator[Work]:
    """The same work on a set of the split's first examples alone, where the effort says so."""
    count = effort.most_examples.get(work.schema.modality, work.num_examples)
    if count >= work.num_examples:
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder:
        yield open_work(repeat_set(work.schema, work.split, count, folder))
