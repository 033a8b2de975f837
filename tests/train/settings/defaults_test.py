"""What a run has without flags, by the size of its set; and what its last line says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from records.opened import open_set
from records.sets.schema import Schema
from tests.support.settings import make_settings
from train.engine.console import describe_course
from train.settings.config import TrainConfig
from train.settings.resolve import fill


@pytest.fixture(scope="module")
def schema(synthetic_data_dir: Path) -> Schema:
    return open_set("fetal_health/synthetic", str(synthetic_data_dir)).schema


@pytest.mark.parametrize(
    ("modality", "counts", "asked", "expected"),
    [
        # The three report sets keep their recipes, also in folds.
        ("tabular", {"train": 1701, "test": 425}, {}, (60, 0)),
        ("tabular", {"train": 1701, "test": 425}, {"folds": 5, "pool_splits": True}, (60, 0)),
        ("image", {"train": 2302, "validation": 254, "test": 314}, {}, (40, 15)),
        ("text", {"train": 22_698, "validation": 2837, "test": 2837}, {}, (6, 3)),
        ("text", {"train": 22_698}, {"epochs": 8}, (8, 3)),
        # Small texts and tables train longer, large tables shorter, where it can be seen.
        ("text", {"train": 1200}, {}, (40, 20)),
        ("text", {"train": 60}, {}, (60, 30)),
        ("tabular", {"train": 150}, {}, (200, 0)),
        ("tabular", {"train": 32_000}, {}, (32, 10)),
        ("tabular", {"train": 32_000, "validation": 500}, {}, (32, 0)),
        ("tabular", {"train": 1_000_000}, {}, (20, 10)),
        ("tabular", {"train": 1_000_000}, {"epochs": 60, "early_stopping": 0}, (60, 0)),
        ("tokens", {"train": 1200}, {"early_stopping": 0}, (40, 0)),
    ],
)
def test_epochs_and_patience(
    schema: Schema,
    modality: str,
    counts: dict[str, int],
    asked: dict[str, Any],
    expected: tuple[int, int],
) -> None:
    schema = dataclasses.replace(schema, modality=modality, split_counts=counts)
    found = fill(TrainConfig(**asked), modality, schema)
    assert (found["epochs"], found["early_stopping"]) == expected


@pytest.mark.parametrize(
    ("losses", "asked", "expected"),
    [
        ([1.1, 1.0, 0.95, 0.9], {}, "still falling (0.9500 to 0.9000 at the end): try --epochs 8"),
        ([0.5, 0.32, 0.4, 0.484], {}, "best at epoch 2: 0.3200, 0.4840 at the end; the model has"),
        ([0.5, 0.32, 0.4, 0.484], {}, "--early-stopping 10 --monitor loss keeps the best"),
        (
            [0.5, 0.32, 0.4, 0.484],
            {"early_stopping": 3, "monitor": "accuracy"},
            "the weights of the best epoch by accuracy (--monitor loss takes this one)",
        ),
        (
            [0.5, 0.32, 0.4, 0.484],
            {"early_stopping": 3, "monitor": "loss", "model": "gru"},
            "the best epoch; on few texts TF-IDF may be ahead: train.baseline measures it",
        ),
        ([0.5, 0.32, 0.3201, 0.3202], {}, "best at epoch 2: 0.3200, 0.3202 at the end"),
        ([0.02, 0.016, 0.015, 0.014], {}, "best at epoch 4: 0.0140, 0.0140 at the end"),
        ([0.5], {}, "best at epoch 1: 0.5000, 0.5000 at the end"),
    ],
)
def test_the_last_line_says_how_the_loss_went(
    losses: list[float], asked: dict[str, Any], expected: str
) -> None:
    rows = [{"epoch": i, "val_loss": loss} for i, loss in enumerate(losses, 1)]
    said = describe_course(rows, make_settings("text" if "model" in asked else "tabular", **asked))
    assert expected in said and ("TF-IDF" in said) == ("model" in asked)
