"""A model of the user's own: what its function must give, training, predictions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import models
from models.own import build_own
from train.assembly.predictions import predict_split
from train.engine.whole_run import train_and_evaluate
from train.folders.finished_run import open_run
from train.settings.config import TrainConfig

SOURCE = '''
import keras

class Net(keras.Model):
    """A subclass without `get_config`: Keras can write its weights alone."""

    def __init__(self, width, classes):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()
        self.hidden = keras.layers.Dense(width, activation="relu")
        self.last = keras.layers.Dense(classes)

    def call(self, x, training=False):
        return self.last(self.hidden(self.norm(x, training=training)))

def table(spec, num_classes):
    return Net(16, num_classes)

def narrow(spec, num_classes):
    return keras.Sequential([keras.Input(spec.shape), keras.layers.Dense(num_classes - 1)])

def of_one_argument(spec):
    return Net(16, 3)

def softmax(spec, num_classes):
    inner = keras.Sequential([keras.layers.Dense(num_classes, activation="softmax")])
    return keras.Sequential([keras.Input(spec.shape), inner])

def wide(spec, num_classes):
    return keras.Sequential([keras.Input((99,)), keras.layers.Dense(num_classes)])

made = narrow(keras.Input((4,)), 3)

def no_model(spec, num_classes):
    return "model"
'''


@pytest.fixture(scope="module", autouse=True)
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "net_of_test.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    del sys.modules["net_of_test"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net_of_test:missing", "that Python can import .* no attribute 'missing'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("net_of_test:narrow", r"logits \[B, 3\] \(no softmax\), received \[None, 2\]"),
        ("net_of_test:of_one_argument", r"expected a function of \(spec, num_classes\)"),
        ("net_of_test:softmax", "expected logits, .* probabilities of the layer 'dense"),
        ("net_of_test:wide", r"expected a model of one input float32 \[B, 4\], which the set has"),
        (
            "net_of_test:made",
            r"expected a function of \(spec, num_classes\), received a model itself",
        ),
        ("net_of_test:no_model", "expected a keras.Model, received str"),
    ],
)
def test_what_a_function_must_give(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_own(name, tf.TensorSpec([4], tf.float32), 3)


def test_a_flag_of_our_models_is_refused(synthetic_data_dir: Path, tmp_path: Path) -> None:
    asked = TrainConfig(
        dataset="fetal_health/synthetic",
        data_dir=str(synthetic_data_dir),
        model="net_of_test:table",
        hidden=(8,),
        run_dir=str(tmp_path / "run"),
    )
    with pytest.raises(ValueError, match="--hidden expected with a model of this project"):
        train_and_evaluate(asked)


def test_from_training_to_predictions(synthetic_data_dir: Path, tmp_path: Path) -> None:
    asked = TrainConfig(
        dataset="fetal_health/synthetic",
        data_dir=str(synthetic_data_dir),
        model="net_of_test:table",
        epochs=3,
        learning_rate=1e-2,
        run_dir=str(tmp_path / "run"),
        strategy="one_device",
    )
    found = train_and_evaluate(asked)
    assert found["model"] == "net_of_test:table"
    assert found["validation"]["accuracy"] > 0.7, "it learned: the largest class has less"
    run = open_run(tmp_path / "run")
    assert not (run.path / "model.keras").exists() and (run.path / "model.weights.h5").exists()
    # The same model out of the folder: its predictions are as right as those of the run.
    _, examples, found_again = predict_split(run, "validation", str(synthetic_data_dir))
    right = float(np.mean(found_again.argmax(1) == examples.subset_labels))
    assert right == found["validation"]["accuracy"]


def test_names() -> None:
    assert models.is_own("a.b:c") and not models.is_own("mlp")
    assert models.check_model("a.b:c", "text").modality == "own"
