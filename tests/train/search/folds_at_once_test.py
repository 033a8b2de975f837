"""Folds trained together are the runs that `train.run --folds N --fold I` makes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from records.decoding.input_config import InputConfig
from records.opened import open_set
from records.roles import Data, Fold
from tests.support.settings import make_settings
from train.assembly.data import make_fold
from train.devices.strategy import make_cluster
from train.engine.whole_run import train_and_evaluate
from train.measures.metrics import AnyMetrics, metrics_from_logits
from train.search.folds_at_once import can_train_together, train_folds
from train.settings.config import TrainConfig
from train.settings.resolve import resolve

FOLDS = 2


def _config(data_dir: Path, **settings: object) -> TrainConfig:
    return TrainConfig(
        dataset="fetal_health/synthetic",
        data_dir=str(data_dir),
        folds=FOLDS,
        strategy="one_device",
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "mlp_small", "epochs": 3, "xla": True},
        {
            "model": "mlp",
            "hidden": (32, 16),
            "dropout": 0.0,
            "epochs": 4,
            "class_weights": "balanced",
            "early_stopping": 1,
            "monitor": "loss",
            "learning_rate": 0.02,
            "xla": False,
        },
    ],
)
def test_same_as_runs_of_their_own(
    synthetic_data_dir: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    config = _config(synthetic_data_dir, **settings)
    opened = open_set(str(config.dataset), config.data_dir)
    cluster = make_cluster("one_device")
    resolved = resolve(config, opened.schema, cluster)
    assert can_train_together(resolved, opened.schema)
    seen: list[list[AnyMetrics]] = []
    pairs = train_folds(resolved, opened, cluster, lambda epoch, found: seen.append(found))
    for i in range(FOLDS):
        # Without XLA, which would take seconds for each.
        one = dataclasses.replace(config, fold=i, run_dir=str(tmp_path / str(i)), xla=False)
        alone = train_and_evaluate(one)
        assert "test" not in alone, "the split test is not read"
        labels, logits = pairs[i]
        found = metrics_from_logits(logits, labels)
        assert found.loss == pytest.approx(alone["validation"]["loss"], rel=1e-3)
        assert found.accuracy == pytest.approx(alone["validation"]["accuracy"], abs=0.01)
    assert len(seen) <= resolved.epochs and len(seen[0]) == FOLDS


@pytest.mark.parametrize("pooled", [False, True])
def test_every_example_validates_once(synthetic_data_dir: Path, pooled: bool) -> None:
    """Also of all splits together; classes are as even as scikit-learn's."""
    opened = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    schema = opened.schema
    parts = [Data(opened, InputConfig(), 4, Fold(i, 5, 4, pooled)) for i in range(5)]
    assert parts[0].roles() == ("train", "validation")
    total = sum(schema.split_counts.values()) if pooled else schema.split_counts["train"]
    numbers = [part.examples("validation").numbers for part in parts]
    assert np.array_equal(np.sort(np.concatenate(numbers)), np.arange(total))
    for part, own in zip(parts, numbers, strict=True):
        train = part.examples("train").numbers
        assert not set(train) & set(own) and len(train) + len(own) == total
    examples = parts[0].examples("train")
    labels = examples.split_labels
    assert len(labels) == total
    groups = examples.index.group
    for own in numbers:
        others = np.setdiff1d(np.arange(total), own)
        assert not set(groups[own]) & set(groups[others]), "equal rows are parted"
    apart = [Data(opened, InputConfig(), 4, Fold(i, 5, 4, pooled, grouped=False)) for i in (0, 1)]
    first, second = (part.examples("validation").numbers for part in apart)
    assert not set(first) & set(second)
    assert set(groups[first]) & set(groups[np.setdiff1d(np.arange(total), first)]), "none is parted"
    ours = np.stack([np.bincount(labels[own], minlength=3) for own in numbers])
    reference = StratifiedKFold(5).split(labels, labels)
    theirs = np.stack([np.bincount(labels[own], minlength=3) for _, own in reference])
    assert (np.ptp(ours, 0) <= np.ptp(theirs, 0) + 1).all()


def test_flags_make_the_fold() -> None:
    settings = make_settings(folds=4, fold=2, seed=7, pool_splits=True, group_folds=False)
    assert make_fold(settings) == Fold(2, 4, 7, pooled=True, grouped=False)
    assert make_fold(make_settings(folds=4)) == Fold(0, 4, 0, pooled=False, grouped=True)


def test_statistics_are_those_of_the_training_folds(synthetic_data_dir: Path) -> None:
    opened = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    part = Data(opened, InputConfig(), 0, Fold(2, 5))
    train = part.examples("train")
    assert train.inputs is not None
    rows = train.inputs[train.numbers].astype(np.float64)
    mean, variance = part.statistics()
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, rows.var(0), rtol=1e-4)


def test_settings_that_couple_the_folds_are_trained_apart(synthetic_data_dir: Path) -> None:
    schema = open_set("fetal_health/synthetic", str(synthetic_data_dir)).schema
    for settings in ({"clip_norm": 1.0}, {"ema": 0.9}, {"accumulate_steps": 2}):
        found = make_settings(model="mlp", folds=FOLDS, **settings)
        assert not can_train_together(found, schema)
