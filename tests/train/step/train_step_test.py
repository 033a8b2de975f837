"""The step against Keras `fit`, and one replica against two.

Each replica count runs in a process of its own: two strategies of different sizes in one process
poison TensorFlow's collectives.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Trains some steps from the same start with our step and, at one replica, with `fit`.
_TRAIN = """
import dataclasses, json, sys
import keras
import numpy as np
from records.decoding.input_config import InputConfig
from records.roles import open_data
from records.ordering.order import Order
from train.settings.config import TrainConfig
from train.settings.resolve import resolve
from train.step.feed import make_feed
from train.assembly.context import RunContext
from train.assembly.training import build_training
from train.devices.strategy import make_cluster

def run(settings):
    data = open_data(settings["dataset"], settings["data_dir"],
                     InputConfig(sequence_length=24, vocab_size=300, image_size=64), seed=3)
    config = TrainConfig(model=settings["model"], dropout=0.0, seed=3, learning_rate=0.01,
                         global_batch_size=settings["batch"], clip_norm=settings.get("clip"),
                         class_weights=settings.get("class_weights", "none"),
                         freeze=False if data.schema.modality == "image" else None,
                         optimizer=settings.get("optimizer", "adamw"), epochs=5,
                         precision=settings.get("precision", "float32"),
                         xla=settings.get("xla", False))
    config = resolve(config, data.schema, cluster)
    config = dataclasses.replace(config, weight_decay=0.01)
    examples = {"train": data.examples("train")}
    training = build_training(RunContext(config, cluster, data, settings["cache"], examples))
    start = [np.array(v) for v in training.model.get_weights()]
    order = Order(examples["train"].num_examples, settings["batch"], 3)
    feed = make_feed(examples["train"], order, cluster, settings["cache"])
    losses, step = [], 0
    feed.start(0)
    previous = 0.0
    first = order.steps_per_epoch - settings["steps"] if settings.get("last") else 0
    feed.start(0, first)
    while step < settings["steps"]:
        chunk = feed.take(settings.get("k", 1))
        training.step.run(chunk, step)
        step += chunk.steps
        total = float(training.step.loss_sum.numpy())
        losses.append(total - previous)
        previous = total
    out = {"losses": losses, "confusion": training.step.confusion.numpy().tolist()}
    ours = training.model.get_weights()
    if settings.get("fit"):
        training.model.set_weights(start)
        optimizer = training.optimizer.__class__.from_config(
            training.optimizer.get_config() | {"global_clipnorm": config.clip_norm})
        training.model.compile(
            optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False)
        numbers, weights = order.examples(0, first, settings["steps"])
        assert weights.min() == 1 or settings.get("last")
        class_weights = np.asarray(training.step.options.objective.class_weights)
        rows = examples["train"].numbers[numbers]
        inputs, labels = examples["train"].inputs, examples["train"].split_labels
        for row, weight in zip(rows, weights):
            real = row[weight == 1]
            training.model.fit(
                inputs[real], labels[real], sample_weight=class_weights[labels[real]],
                batch_size=len(real), epochs=1, shuffle=False, verbose=0)
        reference = training.model.get_weights()
        out["difference"] = max(float(np.abs(a - b).max()) for a, b in zip(ours, reference))
        out["moved"] = max(float(np.abs(a - b).max()) for a, b in zip(start, reference))
    np.savez(settings["weights"], *ours)
    return out


asked = json.loads(sys.argv[1])
cluster = make_cluster(sys.argv[2])
print("RESULT" + json.dumps([run(settings) for settings in asked]))
"""

MLP: dict[str, Any] = {"dataset": "fetal_health/synthetic", "model": "mlp_small", "batch": 32}
GRU: dict[str, Any] = {"dataset": "song_lyrics/synthetic", "model": "gru", "batch": 16}


Found = tuple[dict[str, Any], list[np.ndarray]]
Train = Callable[..., list[Found]]


@pytest.fixture
def train(run_python: Callable[..., str], tmp_path: Path, synthetic_data_dir: Path) -> Train:
    """Trains in a process of its own: `train(devices, *settings)` -> (printed, weights) of each."""

    def run(devices: int, *asked: dict[str, Any]) -> list[Found]:
        files = [str(tmp_path / f"{devices}-{n}.npz") for n in range(len(asked))]
        cases = [
            {"cache": "device", "data_dir": str(synthetic_data_dir), "weights": file} | settings
            for file, settings in zip(files, asked, strict=True)
        ]
        strategy = "mirrored" if devices > 1 else "one_device"
        printed = run_python(_TRAIN, json.dumps(cases), strategy, cpu_devices=devices)
        line = next(x for x in printed.splitlines() if x.startswith("RESULT"))
        weights = []
        for file in files:
            with np.load(file) as stored:
                weights.append([stored[name] for name in stored.files])
        return list(zip(json.loads(line[6:]), weights, strict=True))

    return run


# SGD without clipping for the embedding: `fit` does not add up the gradients of a repeated word
# before it squares them, for Adam's second moments and for the norm; ours are added up first.
def test_one_replica_equals_keras_fit(train: Train) -> None:
    common: dict[str, Any] = {
        "steps": 12,
        "k": 7,
        "fit": True,
        "class_weights": "balanced",
        "last": True,
    }
    for found, _ in train(1, common | MLP | {"clip": 0.5}, common | GRU | {"optimizer": "sgd"}):
        assert found["moved"] > 1e-3, "the weights must have moved"
        assert found["difference"] < 1e-5


def test_two_replicas_equal_one_step_by_step(train: Train) -> None:
    common: dict[str, Any] = {"steps": 30, "clip": 0.5, "class_weights": "balanced", "last": True}
    cases = (common | MLP, common | GRU)
    for (one, weights_one), (two, weights_two) in zip(
        train(1, *cases), train(2, *cases), strict=True
    ):
        assert len(one["losses"]) == 30
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert two["confusion"] == one["confusion"]
        for a, b in zip(weights_one, weights_two, strict=True):
            assert np.abs(a - b).max() < 1e-4


def test_steps_per_call_cache_and_xla_do_not_change_the_result(train: Train) -> None:
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
        *train(1, *(common | options for options in one)),
        *train(2, *(common | options for options in two)),
    ]
    for (found, other), options in zip(others, one[1:] + two, strict=True):
        assert sum(found["losses"]) == pytest.approx(sum(reference["losses"]), rel=1e-5), options
        for a, b in zip(weights, other, strict=True):
            assert np.abs(a - b).max() < 1e-4, options


_OVERFLOW = """
import json, sys
import numpy as np
from records.roles import open_data
from records.ordering.order import Order
from train.settings.config import TrainConfig
from train.settings.resolve import resolve
from train.step.feed import make_feed
from train.assembly.context import RunContext
from train.assembly.training import build_training
from train.devices.strategy import make_cluster

data = open_data("fetal_health/synthetic", sys.argv[1])
cluster = make_cluster("mirrored")
examples = {"train": data.examples("train")}
inputs = examples["train"].inputs
poisoned = int(examples["train"].numbers[Order(examples["train"].num_examples, 32).examples(
    0, 0)[0][0, 31]])  # a row that only replica 1 sees, in the first step
asked = TrainConfig(model="mlp", global_batch_size=32, learning_rate=0.01, seed=0,
                    precision="mixed_float16", xla=False)
settings = resolve(asked, data.schema, cluster)
training = build_training(RunContext(settings, cluster, data, "device", examples))
inputs[poisoned] = 1e30
feed = make_feed(examples["train"], Order(examples["train"].num_examples, 32), cluster, "device")
before = [np.array(v) for v in training.model.get_weights()]
scale = float(training.scale.scale.numpy())
feed.start(0)
training.step.run(feed.take(1), 0)
after = training.model.get_weights()
same = all(np.array_equal(a, b) for a, b in zip(before, after))
halved = float(training.scale.scale.numpy()) == scale / 2
inputs[poisoned] = 0
training.step.run(feed.take(1), 1)
moved = any(not np.array_equal(a, b) for a, b in zip(after, training.model.get_weights()))
finite = all(np.isfinite(w).all() for w in training.model.get_weights())
print("RESULT" + json.dumps([same, halved, moved, finite]))
"""


def test_overflow_on_one_replica_skips_the_step_everywhere(
    run_python: Callable[..., str], synthetic_data_dir: Path
) -> None:
    printed = run_python(_OVERFLOW, str(synthetic_data_dir), cpu_devices=2)
    line = next(x for x in printed.splitlines() if x.startswith("RESULT"))
    assert json.loads(line[6:]) == [True, True, True, True], "same, halved, moved, finite"
