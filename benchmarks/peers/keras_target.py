"""Keras `fit` until a target: what a run of ours trains, with a `history.csv` like its own.

Model, initial weights, optimizer, examples and validation examples are those of the run; the
pictures and texts are decoded by this project's fast reader, so that the ways to train are what
differs.
"""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from records.opened import open_set
from records.sets.schema import IMAGE
from train.assembly.data import open_context
from train.assembly.training import build_training, make_optimizer
from train.devices.strategy import make_cluster
from train.settings.config import TrainConfig
from train.settings.resolve import resolve
from train.settings.resolved import Settings

# More steps a call gain nothing more.
_MOST_STEPS_PER_EXECUTION = 64

Arrays = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The run as Keras sees it: a model that is not compiled, and (inputs, labels) by role."""

    settings: Settings
    model: keras.Model
    train: Arrays
    validation: Arrays
    is_picture: bool


def train_cached(config: TrainConfig) -> None:
    """`fit` as its guides recommend: `tf.data` from memory, several steps a call.

    The features of a frozen backbone are computed once, and the head is trained on them
    (keras.io/guides/transfer_learning, "typical transfer-learning workflow", its second one).
    """
    parts = _open(config)
    if parts.settings.freeze:
        features, head = models.split_frozen(parts.model)
        train, validation = (
            (_predict(features, pictures, parts.settings), labels)
            for pictures, labels in (parts.train, parts.validation)
        )
        parts = dataclasses.replace(parts, model=head, train=train, validation=validation)
    size = parts.settings.global_batch_size
    count = len(parts.train[1])
    _compile(parts, steps_per_execution=min(_MOST_STEPS_PER_EXECUTION, -(-count // size)))
    train = tf.data.Dataset.from_tensor_slices(parts.train).shuffle(count, seed=parts.settings.seed)
    validation = tf.data.Dataset.from_tensor_slices(parts.validation)
    train, validation = (d.batch(size).prefetch(tf.data.AUTOTUNE) for d in (train, validation))
    parts.model.fit(
        train,
        validation_data=validation,
        epochs=parts.settings.epochs,
        shuffle=False,  # the dataset does it
        verbose=0,
        callbacks=[_make_logger(config)],
    )


def train_arrays(config: TrainConfig) -> None:
    """The report's own way: `fit(x, y)` on NumPy arrays at Keras's defaults.

    A frozen backbone is run in every step.
    """
    parts = _open(config)
    _compile(parts)
    parts.model.fit(
        *parts.train,
        validation_data=parts.validation,
        batch_size=parts.settings.global_batch_size,
        epochs=parts.settings.epochs,
        verbose=0,
        callbacks=[_make_logger(config)],
    )


def _make_logger(config: TrainConfig) -> keras.callbacks.CSVLogger:
    """Writes a row an epoch into `history.csv` of the run folder, as a run of ours does."""
    folder = Path(config.run_dir or "")
    folder.mkdir(parents=True, exist_ok=True)
    return keras.callbacks.CSVLogger(folder / "history.csv")


def _open(config: TrainConfig) -> _Parts:
    """Opens the set as a run does, which checks its files first, and builds the run's model."""
    opened = open_set(str(config.dataset))
    cluster = make_cluster("one_device")
    # Compiled models read texts without cuDNN, as `fit` will compile it.
    asked = dataclasses.replace(config, precision="float32", xla=True)
    settings = resolve(asked, opened.schema, cluster)
    context = open_context(settings, opened, cluster)
    examples = context.examples
    # Not frozen yet, or the features would be computed here: how `fit` gets them is its own time.
    model = build_training(context.with_settings(dataclasses.replace(settings, freeze=False))).model
    if settings.freeze:
        models.freeze_backbone(model)
    roles = {name: examples[name] for name in ("train", "validation")}
    arrays = {n: (np.asarray(e.inputs)[e.numbers], e.subset_labels) for n, e in roles.items()}
    is_picture = opened.schema.modality == IMAGE
    return _Parts(settings, model, arrays["train"], arrays["validation"], is_picture)


def _predict(features: keras.Model, pictures: np.ndarray, settings: Settings) -> np.ndarray:
    """float32 [N, D] of uint8 [N, S, S, C]."""
    features.compile(jit_compile=False)
    return features.predict(pictures, batch_size=settings.global_batch_size, verbose=0)


def _compile(parts: _Parts, **options: Any) -> None:
    # The schedule of the learning rate counts steps.
    steps = -(-len(parts.train[1]) // parts.settings.global_batch_size)
    parts.model.compile(
        optimizer=make_optimizer(parts.settings, steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # "auto" compiles with XLA wherever it can. On CPUs that makes convolutions and the head
        # on features slower (`train.settings.auto`): there `fit` does without, as its user would.
        jit_compile=False if parts.is_picture else "auto",
        **options,
    )
