"""The step against Keras `fit`, and one replica against two."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from records.decoding.input_config import InputConfig
from records.ordering.order import Order
from records.roles import open_data
from train.assembly.context import RunContext
from train.assembly.training import Training, build_training
from train.devices.strategy import make_cluster
from train.settings.config import TrainConfig
from train.settings.resolve import resolve
from train.step.feed import Chunk, make_feed
from train.step.objective import Objective
from train.step.train_step import StepOptions, TrainStep

MLP: dict[str, Any] = {"dataset": "fetal_health/synthetic", "model": "mlp_small", "batch": 32}
GRU: dict[str, Any] = {"dataset": "song_lyrics/synthetic", "model": "gru", "batch": 16}

Found = tuple[dict[str, Any], list[np.ndarray]]


def _train(data_dir: Path, strategy: str, settings: dict[str, Any]) -> Found:
    """Trains some steps with our step and, where asked for, from the same start with `fit`.

    Returns:
      (the sums of each call and the differences, the weights of our step).
    """
    settings = {"cache": "device"} | settings
    inputs = InputConfig(sequence_length=24, vocab_size=300, image_size=64)
    data = open_data(settings["dataset"], str(data_dir), inputs, seed=3)
    asked = TrainConfig(
        model=settings["model"],
        dropout=0.0,
        seed=3,
        learning_rate=0.01,
        global_batch_size=settings["batch"],
        clip_norm=settings.get("clip"),
        class_weights=settings.get("class_weights", "none"),
        optimizer=settings.get("optimizer", "adamw"),
        epochs=5,
        xla=settings.get("xla", False),
    )
    cluster = make_cluster(strategy)
    config = dataclasses.replace(resolve(asked, data.schema, cluster), weight_decay=0.01)
    examples = {"train": data.examples("train")}
    training = build_training(RunContext(config, cluster, data, settings["cache"], examples))
    start = [np.array(v) for v in training.model.get_weights()]
    order = Order(examples["train"].num_examples, settings["batch"], 3)
    feed = make_feed(examples["train"], order, cluster, settings["cache"])
    losses: list[float] = []
    step, previous = 0, 0.0
    first = order.steps_per_epoch - settings["steps"] if settings.get("last") else 0
    feed.start(0)
    feed.start(0, first)
    while step < settings["steps"]:
        chunk = feed.take(settings.get("k", 1))
        assert chunk is not None
        training.step.run(chunk, step)
        step += chunk.steps
        total = float(training.step.loss_sum.numpy())
        losses.append(total - previous)
        previous = total
    found: dict[str, Any] = {"losses": losses}
    found["confusion"] = training.step.confusion.numpy().tolist()
    ours = training.model.get_weights()
    if settings.get("fit"):
        training.model.set_weights(start)
        numbers, weights = order.examples(0, first, settings["steps"])
        assert weights.min() == 1 or settings.get("last")
        reference = _fit(training, examples["train"], config.clip_norm, numbers, weights)
        found["difference"] = max(
            float(np.abs(a - b).max()) for a, b in zip(ours, reference, strict=True)
        )
        found["moved"] = max(
            float(np.abs(a - b).max()) for a, b in zip(start, reference, strict=True)
        )
    return found, ours


def _fit(
    training: Training, examples: Any, clip_norm: float | None, numbers: Any, weights: Any
) -> list[np.ndarray]:
    """The weights after Keras's `fit` on the rows of these batches, without those of weight 0."""
    optimizer = training.optimizer.__class__.from_config(
        training.optimizer.get_config() | {"global_clipnorm": clip_norm}
    )
    training.model.compile(
        optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    objective: Any = training.step.options.objective
    class_weights = np.asarray(objective.class_weights)
    rows = examples.numbers[numbers]
    inputs, labels = examples.inputs, examples.split_labels
    for row, weight in zip(rows, weights, strict=True):
        real = row[weight == 1]
        training.model.fit(
            inputs[real],
            labels[real],
            sample_weight=class_weights[labels[real]],
            batch_size=len(real),
            epochs=1,
            shuffle=False,
            verbose=0,
        )
    return training.model.get_weights()


# SGD without clipping for the embedding: `fit` does not add up the gradients of a repeated word
# before it squares them, for Adam's second moments and for the norm; ours are added up first.
def test_one_replica_equals_keras_fit(synthetic_data_dir: Path) -> None:
    common: dict[str, Any] = {
        "steps": 12,
        "k": 7,
        "fit": True,
        "class_weights": "balanced",
        "last": True,
    }
    for own in (MLP | {"clip": 0.5}, GRU | {"optimizer": "sgd"}):
        found, _ = _train(synthetic_data_dir, "one_device", common | own)
        assert found["moved"] > 1e-3, "the weights must have moved"
        assert found["difference"] < 1e-5


def test_two_replicas_equal_one_step_by_step(synthetic_data_dir: Path) -> None:
    common: dict[str, Any] = {"steps": 30, "clip": 0.5, "class_weights": "balanced", "last": True}
    for own in (MLP, GRU):
        one, weights_one = _train(synthetic_data_dir, "one_device", common | own)
        two, weights_two = _train(synthetic_data_dir, "mirrored", common | own)
        assert len(one["losses"]) == 30
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert two["confusion"] == one["confusion"]
        for a, b in zip(weights_one, weights_two, strict=True):
            assert np.abs(a - b).max() < 1e-4


def test_steps_per_call_cache_and_xla_do_not_change_the_result(synthetic_data_dir: Path) -> None:
    common: dict[str, Any] = {"steps": 12, "last": True, **MLP}
    one: list[dict[str, Any]] = [
        {"cache": "device"},
        {"cache": "device", "k": 12},
        {"cache": "memory"},
        {"cache": "none"},
        {"cache": "device", "k": 5, "xla": True},
    ]
    two: list[dict[str, Any]] = [{"cache": "memory"}, {"cache": "device", "k": 5, "xla": True}]
    (reference, weights), *others = [
        *(_train(synthetic_data_dir, "one_device", common | options) for options in one),
        *(_train(synthetic_data_dir, "mirrored", common | options) for options in two),
    ]
    for (found, other), options in zip(others, one[1:] + two, strict=True):
        assert sum(found["losses"]) == pytest.approx(sum(reference["losses"]), rel=1e-5), options
        for a, b in zip(weights, other, strict=True):
            assert np.abs(a - b).max() < 1e-4, options


@pytest.fixture
def _float32_after() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def test_overflow_on_one_replica_skips_the_step_everywhere(
    synthetic_data_dir: Path, _float32_after: None
) -> None:
    data = open_data("fetal_health/synthetic", str(synthetic_data_dir))
    cluster = make_cluster("mirrored")
    examples = {"train": data.examples("train")}
    inputs, order = examples["train"].inputs, Order(examples["train"].num_examples, 32)
    assert inputs is not None and cluster.num_replicas == 2
    # A row that only replica 1 sees, in the first step.
    poisoned = int(examples["train"].numbers[order.examples(0, 0)[0][0, 31]])
    asked = TrainConfig(
        model="mlp",
        global_batch_size=32,
        learning_rate=0.01,
        seed=0,
        precision="mixed_float16",
        xla=False,
    )
    settings = resolve(asked, data.schema, cluster)
    training = build_training(RunContext(settings, cluster, data, "device", examples))
    assert training.scale is not None
    inputs[poisoned] = 1e30
    feed: Any = make_feed(examples["train"], order, cluster, "device")
    before = [np.array(v) for v in training.model.get_weights()]
    scale = float(training.scale.scale.numpy())
    feed.start(0)
    training.step.run(feed.take(1), 0)
    after = training.model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), "same"
    assert float(training.scale.scale.numpy()) == scale / 2, "halved"
    inputs[poisoned] = 0
    training.step.run(feed.take(1), 1)
    weights = training.model.get_weights()
    assert any(not np.array_equal(a, b) for a, b in zip(after, weights, strict=True)), "moved"
    assert all(np.isfinite(w).all() for w in weights), "finite"


@pytest.mark.parametrize(("dtype", "seen"), [("uint8", 11.0), ("float32", 10.75)])
def test_a_model_of_whole_numbers_gets_augmented_pictures_rounded(dtype: str, seen: float) -> None:
    cluster = make_cluster("one_device")
    pictures, rows = np.full((4, 2, 2, 1), 10, np.uint8), np.arange(4).reshape(1, 4)
    weights = np.ones((1, 4), np.float32)
    arrays = tuple(tf.constant(a) for a in (pictures, np.zeros(4, np.int64), rows, weights, rows))
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1), dtype=dtype),
            keras.layers.Rescaling(1.0),
            keras.layers.Flatten(),
            keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros"),
        ]
    )
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    options = StepOptions(
        Objective(np.ones(2, np.float32)),
        clip_norm=None,
        clip_value=None,
        xla=False,
        seed=0,
        augment=lambda x, keys: tf.cast(x, tf.float32) + 0.75,
    )
    step = TrainStep(model, optimizer, cluster, tf.TensorSpec([2, 2, 1], tf.uint8), options, None)
    step.run(Chunk(arrays, weights.sum(1), np.zeros(1, np.int32), 1), 0)
    # The gradient of softmax cross-entropy at equal logits is half the input.
    np.testing.assert_allclose(model.get_weights()[0][:, 0], seen / 2, rtol=1e-6)
