"""A model of the user's own: `train.fit` beside `train.run --model package.module:function`.

Both take the same function's model, optimizer, batches and compiler setting, through their own
door, in one process, in turn. A sample is what the run's history says of its second epoch: the
training alone, without start, compilation and validation. Epochs are long (the set is repeated), so
that what an epoch's end costs does not weigh.
"""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

import train
from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.repeat import repeat_set
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Work
from records.sets.schema import TABULAR
from train.engine.whole_run import train_and_evaluate
from train.settings.config import TrainConfig

COMMAND = "train.run --model"
# 5 s and more an epoch on two processors.
_ROWS, _QUICK_ROWS = 480_000, 2_000
_RATE, _BATCH = 1e-3, 32
_GOAL = 0.97


def build(spec: Any, num_classes: int) -> keras.Model:
    """A small MLP, of which the time between steps is a large share."""
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu")]
    scale = keras.layers.Rescaling(0.01)
    return keras.Sequential(
        [keras.Input(spec.shape), scale, *layers, keras.layers.Dense(num_classes)]
    )


def measure_own_model(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """One question for a table; [] for other sets: there a step hides what surrounds it."""
    if work.schema.modality != TABULAR:
        return []
    rows = _ROWS if effort.thorough else _QUICK_ROWS
    with tempfile.TemporaryDirectory(prefix="own_model") as folder:
        large = repeat_set(work.schema, work.split, rows, folder)
        systems = {
            OURS: _second_epoch(lambda run_dir: _by_fit(work, large, run_dir), rows),
            COMMAND: _second_epoch(lambda run_dir: _by_command(large, run_dir), rows),
        }
        samples = alternate(systems, effort.repetitions, lambda s: progress(f"own model: {s}"))
    return [
        Comparison(
            suite="own_model",
            dataset=work.schema.name,
            question=f"MLP of the user's own, batch {_BATCH}",
            samples=samples,
            note=f"ours: train.fit; both take the same function's model; {rows:,} rows",
            details={"rows": rows, "global_batch_size": _BATCH, "fingerprint": work.fingerprint},
            goal=_GOAL,
            against=Against.OURSELVES,
        )
    ]


def _by_fit(work: Work, directory: str, run_dir: str) -> None:
    spec = keras.KerasTensor(work.input_shape)
    model = build(spec, work.schema.num_classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(_RATE), loss, metrics=["accuracy"])
    common: dict[str, Any] = {"strategy": "one_device", "xla": False, "deterministic": False}
    train.fit(model, directory, batch_size=_BATCH, epochs=2, run_dir=run_dir, **common)


def _by_command(directory: str, run_dir: str) -> None:
    train_and_evaluate(
        TrainConfig(
            dataset=directory,
            model=f"{__name__}:{build.__name__}",
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
