"""The head on features computed once trains as it does behind the backbone run at every step."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from records.decoding.input_config import InputConfig
from records.roles import Data, open_data
from tests.support.tiny_models import take_tiny_backbone
from train.assembly.context import RunContext
from train.assembly.training import build_training, make_optimizer
from train.devices.strategy import make_cluster
from train.settings.config import TrainConfig
from train.settings.resolve import resolve
from train.step import features
from train.step.feed import Feed, make_feed
from train.step.train_step import TrainStep

SIZE = 64
HARDWARE = {"precision": "float32", "xla": False}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    take_tiny_backbone(monkeypatch)


@pytest.fixture(scope="module")
def data_dir(synthetic_data_dir: Path, tmp_path_factory: Any) -> Path:
    """A copy of the pictures, into whose folder features are written."""
    target = tmp_path_factory.mktemp("features")
    source, without = synthetic_data_dir / "brain_tumor_mri", shutil.ignore_patterns("decoded")
    shutil.copytree(source, target / "brain_tumor_mri", ignore=without)
    return target


def _open(data_dir: Path, size: int = SIZE) -> Data:
    data = open_data("brain_tumor_mri/synthetic", str(data_dir), InputConfig(image_size=size))
    return data


def _train_epoch(step: TrainStep, feed: Feed) -> float:
    feed.start(0)
    number = 0
    while (chunk := feed.take(8)) is not None:
        step.run(chunk, number)
        number += chunk.steps
    return float(step.loss_sum.numpy())


def test_the_head_on_kept_features_trains_as_behind_the_backbone(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _open(data_dir)
    asked = TrainConfig(
        model="efficientnet_lite0",
        image_size=SIZE,
        global_batch_size=32,
        seed=1,
        precision="float32",
        xla=False,
    )
    cluster = make_cluster("one_device")
    settings = resolve(asked, data.schema, cluster)
    assert settings.freeze
    pictures = {"train": data.examples("train")}
    context = RunContext(settings, cluster, data, "memory", pictures)
    training = build_training(context)
    assert "kept by an earlier run" not in capsys.readouterr().out
    head = training.model.get_layer("head")
    start = head.get_weights()
    feed = make_feed(training.examples["train"], training.order, cluster, training.level)
    found = _train_epoch(training.step, feed)
    trained = head.get_weights()

    head.set_weights(start)
    optimizer = make_optimizer(settings, training.order.steps_per_epoch)
    optimizer.build(training.model.trainable_variables)
    options = training.step.options
    whole = TrainStep(training.model, optimizer, cluster, data.spec, options, None)
    pictures_feed = make_feed(pictures["train"], training.order, cluster, "memory")
    assert found == pytest.approx(_train_epoch(whole, pictures_feed), rel=1e-4)
    for a, b in zip(trained, head.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    assert max(np.abs(a - b).max() for a, b in zip(start, trained, strict=True)) > 5e-3

    again = build_training(context)
    assert "kept by an earlier run" in capsys.readouterr().out
    np.testing.assert_array_equal(training.examples["train"].inputs, again.examples["train"].inputs)


def test_other_weights_or_sizes_are_other_features(data_dir: Path) -> None:
    keys = []
    for size, change in ((SIZE, 0.0), (SIZE, 1e-3), (96, 0.0)):
        spec = _open(data_dir, size).spec
        config = models.ModelConfig("efficientnet_lite0", weights="random")
        model = models.build_model(config, spec, 4, seed=0)
        backbone, _ = models.split_frozen(model)
        weights = backbone.get_weights()
        weights[-1] = weights[-1] + change
        backbone.set_weights(weights)
        keys.append(features._backbone_key(backbone))
        assert keys[-1] == features._backbone_key(backbone)
    assert len(set(keys)) == 3


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any) -> np.ndarray:
        raise OSError("read-only")

    monkeypatch.setattr(features.disk_cache, "write", refuse)
    data = _open(data_dir)
    part = dataclasses.replace(data.examples("test"), numbers=np.arange(20))
    config = models.ModelConfig("efficientnet_lite0", weights="random")
    model = models.build_model(config, data.spec, 4, seed=0)
    backbone, _ = models.split_frozen(model)
    cluster = make_cluster("one_device")
    found = features.extract_features(
        backbone, {"test": part}, data.content_key(), cluster, "memory", 8
    )
    assert "not kept for the next run: read-only" in capsys.readouterr().out
    assert part.inputs is not None and found["test"].inputs is not None
    expected = np.asarray(backbone(part.inputs[:20], training=False))
    np.testing.assert_allclose(found["test"].inputs[:20], expected, rtol=1e-3, atol=1e-4)
    assert not found["test"].inputs[20:].any()
