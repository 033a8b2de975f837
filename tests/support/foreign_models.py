"""Compiled Keras models as users bring them to `train.fit`, with data; a run to be killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import train

L = keras.layers
N, VALIDATION, BATCH = 150, 37, 32  # the last batches are filled up: 150 = 4 * 32 + 22
_RNG = np.random.default_rng(0)
CLASS = _RNG.integers(0, 3, N)
PICTURES = _RNG.integers(0, 256, (N, 8, 8, 3)).astype(np.uint8)
TABLE, OTHER = _RNG.normal(size=(N, 5)), _RNG.normal(size=(N, 4))
NUMBER = TABLE[:, :1] * 2 + OTHER[:, :1]
IDS = _RNG.integers(0, 50, (N, 12))
WEIGHT = _RNG.random(N)


def residual_cnn(rate: float) -> keras.Model:
    inputs = L.Input((8, 8, 3))
    x = L.Rescaling(1 / 255)(inputs)
    if rate:
        x = L.RandomContrast(0.1, value_range=(0, 1))(L.RandomFlip()(x))
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(x)))
    y = L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(L.SpatialDropout2D(rate)(y)))
    x = L.ReLU()(L.Add()([L.Conv2D(8, 1)(x), y]))
    model = keras.Model(inputs, L.Dense(3)(L.Dropout(rate)(L.GlobalAveragePooling2D()(x))))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    return model


def two_branches(rate: float) -> keras.Model:
    a, b = L.Input((5,), name="a"), L.Input((4,), name="b")
    decay = keras.regularizers.L2(1e-2)
    left = L.Dense(8, "relu", kernel_regularizer=decay)(L.GaussianNoise(rate)(a))
    both = L.Concatenate()([left, L.Dropout(rate)(L.Dense(8)(b))])
    model = keras.Model({"a": a, "b": b}, L.Dense(1)(both))
    metrics = ["mae", keras.metrics.RootMeanSquaredError(name="rmse")]
    model.compile("adam", "mse", metrics=metrics)
    return model


class Gated(keras.Model):
    """A subclass with a `call` and random numbers of its own."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.first, self.gate, self.last = L.Dense(16, "relu"), L.Dense(16, "sigmoid"), L.Dense(3)
        self.rate, self.drop = rate, L.Dropout(rate)
        if rate:
            self.seeds = keras.random.SeedGenerator(7)

    def call(self, x: Any, training: bool = False) -> Any:
        hidden = self.first(x)
        if training and self.rate:
            noise = keras.random.normal(keras.ops.shape(hidden), seed=self.seeds)
            hidden = hidden + self.rate * keras.ops.cast(noise, hidden.dtype)
        return self.last(self.drop(hidden * self.gate(hidden), training=training))


def gated(rate: float = 0.0) -> keras.Model:
    model = Gated(rate)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2), loss, metrics=["accuracy"])
    return model


def transformer(rate: float) -> keras.Model:
    ids = L.Input((12,), dtype="int64")  # int32 lies in the host's memory
    x = L.Embedding(50, 16)(ids)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 8, dropout=rate)(x, x))
    x = L.LayerNormalization()(x + L.Dense(16)(L.Dropout(rate)(L.Dense(32, "gelu")(x))))
    outputs = L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(x))
    model = keras.Model(ids, outputs)
    # Weighted, and an embedding whose untouched rows Keras leaves as they are.
    model.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    return model


def power_loss(y: Any, predicted: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y - predicted) ** 1.5, -1)


class ShareFarOff(keras.metrics.Metric):
    """A metric with a state of its own."""

    def __init__(self, name: str = "far_off") -> None:
        super().__init__(name=name)
        self.far = self.add_weight(name="far", initializer="zeros")
        self.all = self.add_weight(name="all", initializer="zeros")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        far = keras.ops.cast(keras.ops.abs(y - predicted)[:, 0] > 0.5, "float32")
        weight = keras.ops.ones_like(far) if sample_weight is None else sample_weight
        self.far.assign_add(keras.ops.sum(far * weight))
        self.all.assign_add(keras.ops.sum(weight))

    def result(self) -> Any:
        return self.far / self.all


def own_loss_and_metric(rate: float) -> keras.Model:
    inputs = L.Input((5,))
    # float32 under every policy: the metric takes differences of it.
    last = L.Dense(1, dtype="float32")
    model = keras.Model(inputs, last(L.AlphaDropout(rate)(L.Dense(8, "relu")(inputs))))
    metrics = [ShareFarOff(), keras.metrics.AUC(name="auc")]
    model.compile(keras.optimizers.Nadam(1e-2, clipnorm=1.0), power_loss, metrics=metrics)
    return model


# (model of a rate of dropout, inputs, targets, sample weights)
CASES: dict[str, tuple[Callable[[float], keras.Model], Any, Any, Any]] = {
    "residual cnn": (residual_cnn, PICTURES, CLASS, None),
    "two branches": (two_branches, {"a": TABLE, "b": OTHER}, NUMBER, None),
    "gated": (gated, TABLE, CLASS, None),
    "transformer": (transformer, IDS, CLASS, WEIGHT),
    "own loss and metric": (own_loss_and_metric, TABLE, (NUMBER > 0) * 1.0, None),
}


def make(case: str, rate: float = 0.0, seed: int = 1) -> keras.Model:
    """A case's model; its initial weights come from `seed`."""
    keras.utils.set_random_seed(seed)
    model = CASES[case][0](rate)
    model.jit_compile = False  # Keras would compile by XLA, which takes most of a test's time
    return model


class _Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if int(self.model.optimizer.iterations.numpy()) >= 9:  # of 5 steps an epoch
            os.kill(os.getpid(), signal.SIGKILL)


def run_foreign(
    case: str, policy: str, replicas: int, xla: bool, run_dir: str | Path, seed: int, kill: bool
) -> dict[str, list[float]]:
    """Trains a case with dropout for three epochs; `kill` ends the process in the second."""
    keras.config.set_dtype_policy(policy)
    model = make(case, 0.2, seed)
    _, x, y, weight = CASES[case]
    validation = (tf.nest.map_structure(lambda a: a[:VALIDATION], x), y[:VALIDATION])
    return train.fit(
        model,
        (x, y) if weight is None else (x, y, weight),
        validation_data=validation,
        batch_size=BATCH,
        epochs=3,
        callbacks=[_Kill()] if kill else [],
        run_dir=str(run_dir),
        steps_per_call=2,
        checkpoint_steps=3,
        strategy="one_device" if replicas == 1 else "mirrored",
        xla=xla,
    ).history
