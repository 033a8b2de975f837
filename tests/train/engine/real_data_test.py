"""The recipes of RESULTS.md in short, on the real sets: fewer epochs and folds, looser bounds.

Bounds are on validation examples or folds inside the split train. The recipes are `slow`; in their
place `make test` has the generated sets, and the table's default model on real rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_models import take_tiny_backbone
from train.cross_validate import main as cross_validate
from train.run import main as train

_TEXTS = ["--model=gru", "--sequence-length=30", "--vocab-size=1000", "--epochs=2"]
_PICTURES = ["--model=efficientnet_lite0", "--image-size=32", "--epochs=10"]


@pytest.mark.parametrize(
    ("name", "flags", "least"),
    [("brain_tumor_mri", _PICTURES, 0.38), ("song_lyrics", _TEXTS, 0.50)],
)
def test_pictures_and_texts_are_learned(
    name: str,
    flags: list[str],
    least: float,
    synthetic_data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Generated ones: the head on features of random convolutions, and a recurrent network."""
    take_tiny_backbone(monkeypatch)
    arguments = [f"--dataset={name}/synthetic", f"--data-dir={synthetic_data_dir}"]
    arguments += ["--learning-rate=0.01", "--strategy=one_device", f"--run-dir={tmp_path}"]
    assert train([*arguments, *flags]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["validation"]
    classes = np.sum(found["confusion_matrix"], axis=1)
    assert found["accuracy"] >= least > 1.3 * classes.max() / classes.sum()


@pytest.mark.slow
@pytest.mark.real_data
def test_cross_and_deep_network_learns_real_rows(
    real_data_dir: Callable[..., str], tmp_path: Path
) -> None:
    """One fold of three. Of the mechanism: `tests/models/mlp_test.py`, and the real rows of
    `run_test.py::test_fetal_health_beats_its_goal`.
    """
    arguments = [
        "--dataset=fetal_health/kaggle",
        f"--data-dir={real_data_dir('fetal_health/kaggle')}",
    ]
    arguments += ["--model=dcn", "--epochs=8", "--weight-decay=0.2", "--warmup-epochs=2"]
    arguments += ["--folds=3", "--no-xla", "--strategy=one_device", f"--run-dir={tmp_path}"]
    assert train(arguments) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["validation"]
    assert found["weighted_f1"] >= 0.90


def _validation_accuracy(name: str, shared_data: Path, folder: Path, *flags: str) -> float:
    arguments = [f"--dataset={name}", f"--manual-dir={shared_data / name.partition('/')[0]}"]
    arguments += [f"--data-dir={folder / 'data'}", f"--run-dir={folder / 'run'}"]
    assert train([*arguments, "--strategy=one_device", *flags]) == 0
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    return float(metrics["validation"]["accuracy"])


@pytest.mark.slow
@pytest.mark.real_data
def test_cross_and_deep_network_is_level_with_boosting(shared_data: Path, tmp_path: Path) -> None:
    """3 folds and 15 epochs, where RESULTS.md has 5 and 40."""
    output = tmp_path / "found.json"
    arguments = ["--dataset=fetal_health/kaggle", f"--data-dir={tmp_path / 'data'}"]
    arguments += [f"--manual-dir={shared_data / 'fetal_health'}", f"--output={output}"]
    arguments += ["--model=dcn", "--epochs=15", "--weight-decay=0.2", "--warmup-epochs=2"]
    assert cross_validate([*arguments, "--folds=3", "--seeds", "0", "--strategy=one_device"]) == 0
    systems = json.loads(output.read_text())["systems"]
    f1 = {name: np.mean([row["weighted_f1"] for row in rows]) for name, rows in systems.items()}
    assert f1["dcn"] >= f1["gradient boosting"] - 0.02
    assert f1["dcn"] >= f1["logistic regression"] + 0.02


@pytest.mark.slow
@pytest.mark.real_data
def test_frozen_features_of_pictures(shared_data: Path, tmp_path: Path) -> None:
    """The recipe's first stage, 5 epochs; it reaches 0.8 and more, a quarter would be chance."""
    flags = ["--image-size=96", "--model=efficientnet_lite0", "--epochs=5"]
    name = "brain_tumor_mri/deduplicated"
    assert _validation_accuracy(name, shared_data, tmp_path, *flags) >= 0.70


@pytest.mark.slow
@pytest.mark.real_data
def test_words_in_any_order_and_their_sequence(shared_data: Path, tmp_path: Path) -> None:
    """Three of six epochs on the first 100 words; the most frequent genre makes up 0.25."""
    flags = ["--model=gru", "--epochs=3", "--sequence-length=100"]
    assert _validation_accuracy("song_lyrics/kaggle", shared_data, tmp_path, *flags) >= 0.34
