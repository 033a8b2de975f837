"""A model of the user's own: `train.fit` beside `train.run --model package.module:function`.

Both take the same function's model, optimizer, batches and compiler setting, through their own
door, in one process, in turn. A sample is what the run's history says of its second epoch: the
training alone, without start, compilation and validation. Epochs are long (the set is repeated), so
that what an epoch's end costs does not weigh.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

import records
import train
from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.repeat import repeat_set
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Work
from records.sets.schema import IMAGE, TABULAR
from train.engine.whole_run import train_and_evaluate
from train.settings.config import TrainConfig

COMMAND = "train.run --model"
_RATE, _BATCH, _PIXELS = 1e-3, 32, 64
_GOAL = 0.97


def build_mlp(spec: Any, num_classes: int) -> keras.Model:
    """A step of 0.3 ms: what surrounds the arithmetic, metrics among it, is a large share."""
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu")]
    scale = keras.layers.Rescaling(0.01)
    return keras.Sequential(
        [keras.Input(spec.shape), scale, *layers, keras.layers.Dense(num_classes)]
    )


def build_cnn(spec: Any, num_classes: int) -> keras.Model:
    """A residual network with BatchNorm, of some milliseconds a step."""
    given = keras.Input(spec.shape, dtype=spec.dtype)
    x = keras.layers.Rescaling(1 / 255)(given)
    for width in (16, 32, 64):
        x = keras.layers.Conv2D(width, 3, 2, "same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        inner = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = keras.layers.Add()([x, inner])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(given, keras.layers.Dense(num_classes)(x))


@dataclasses.dataclass(frozen=True)
class _Case:
    """A model, and as many examples as make an epoch of 5 s and more on two processors."""

    name: str
    build: Callable[[Any, int], keras.Model]
    rows: int
    quick_rows: int
    metrics: tuple[str, ...] = ("accuracy",)
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)


# `train.fit` leaves pictures as they are.
_PICTURES = {"image_size": _PIXELS, "augment": False}
_CASES = {
    TABULAR: (
        _Case("MLP", build_mlp, 480_000, 2_000),
        _Case("MLP, without metrics", build_mlp, 480_000, 2_000, ()),
    ),
    IMAGE: (_Case("residual CNN", build_cnn, 8_000, 500, flags=_PICTURES),),
}


def measure_own_model(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """One question for each model; [] for texts."""
    return [_compare(case, work, effort, progress) for case in _CASES.get(work.schema.modality, ())]


def _compare(case: _Case, work: Work, effort: Effort, progress: Progress) -> Comparison:
    rows = case.rows if effort.thorough else case.quick_rows
    with tempfile.TemporaryDirectory(prefix="own_model") as folder:
        large = repeat_set(work.schema, work.split, rows, folder)
        systems = {
            OURS: _second_epoch(lambda run_dir: _by_fit(case, large, run_dir), rows),
            COMMAND: _second_epoch(lambda run_dir: _by_command(case, large, run_dir), rows),
        }
        samples = alternate(systems, effort.repetitions, lambda s: progress(f"own model: {s}"))
    return Comparison(
        suite="own_model",
        dataset=work.schema.name,
        question=f"{case.name} of the user's own, batch {_BATCH}",
        samples=samples,
        note=f"ours: train.fit; both take the same function's model; {rows:,} examples",
        details={"rows": rows, "global_batch_size": _BATCH, "fingerprint": work.fingerprint},
        goal=_GOAL,
        against=Against.OURSELVES,
    )


def _by_fit(case: _Case, directory: str, run_dir: str) -> None:
    data = records.open_data(directory, config=records.InputConfig(image_size=_PIXELS))
    model = case.build(data.spec, data.schema.num_classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(_RATE), loss, metrics=[*case.metrics])
    common: dict[str, Any] = {"strategy": "one_device", "xla": False, "deterministic": False}
    train.fit(model, data, batch_size=_BATCH, epochs=2, run_dir=run_dir, **common)


def _by_command(case: _Case, directory: str, run_dir: str) -> None:
    train_and_evaluate(
        TrainConfig(
            dataset=directory,
            model=f"{__name__}:{case.build.__name__}",
            **case.flags,
            optimizer="adam",
            schedule="constant",
            learning_rate=_RATE,
            early_stopping=0,
            global_batch_size=_BATCH,
            epochs=2,
            run_dir=run_dir,
            strategy="one_device",
            xla=False,
            deterministic=False,
        )
    )


def _second_epoch(run: Callable[[str], None], rows: int) -> Callable[[], Sample]:
    def repetition() -> Sample:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            run(f"{folder}/run")
            with open(Path(folder, "run", "history.csv")) as file:
                row = list(csv.DictReader(file))[-1]
        return Sample(rows, rows / float(row["examples_per_s"]))

    return repetition
