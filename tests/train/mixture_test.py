"""`--dataset a=0.7 b=0.3`: a run on a mixture, its resume, and the commands that follow it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

import records
import train
from tests.support.runs import check_same_run, finish, fork_run, history
from tests.support.tiny_sets import build_tiny
from train.evaluate import main as evaluate
from train.export import main as export
from train.predict import main as predict
from train.run import main as train_run
from train.run import parse_config

NAMES = ("no", "yes")
FLAGS = ["--model=mlp_small", "--epochs=3", "--no-xla", "--dropout=0", "--global-batch-size=32"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two tables of three columns: 200 rows of train and 20 of test, and 40 rows of train."""
    folder, draw = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    features = {
        "x": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "label": tfds.features.ClassLabel(names=list(NAMES)),
    }

    def rows(count: int, shift: float) -> list[dict[str, Any]]:
        x = draw.normal(shift, 1, (count, 3)).astype(np.float32)
        return [{"x": row, "label": NAMES[int(row[0] > shift)]} for row in x]

    large = {"train": rows(200, 0), "test": rows(20, 0)}
    return [
        build_tiny(folder / "large", features, large, feature_names=["u", "v", "w"]),
        build_tiny(
            folder / "small", features, {"train": rows(40, 3)}, feature_names=["u", "v", "w"]
        ),
    ]


@pytest.fixture(scope="module")
def run(tables: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs of 7 steps with all its checkpoints, one every five steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = [*FLAGS, "--checkpoint-steps=5", "--keep-checkpoints=9", "--strategy=one_device"]
    assert train_run([*flags, *_dataset(tables), f"--run-dir={folder}"]) == 0
    return folder


def _dataset(tables: list[str]) -> list[str]:
    return ["--dataset", f"{tables[0]}=0.7", f"{tables[1]}=0.3"]


def _cut_short(run: Path, copy: Path, step: int) -> Path:
    """The run as it was when it was killed after `step`."""
    shutil.copytree(run, copy)
    for name in ("metrics.json", "model.keras", "history.csv"):
        (copy / name).unlink()
    for file in copy.glob("checkpoints/step-*.npz"):
        if int(file.stem[5:]) > step:
            file.unlink()
    return copy


def test_a_run_killed_in_mid_epoch_ends_with_the_same_bits(
    run: Path, tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = _cut_short(run, tmp_path / "again", 10)
    flags = [*FLAGS, "--checkpoint-steps=5", "--keep-checkpoints=9", "--strategy=one_device"]
    flags += [*_dataset(tables), f"--run-dir={again}"]
    assert train_run([*flags, "--cache=none"]) == 0  # from another place, the same batches
    printed = capsys.readouterr().out
    assert "going on at epoch 2, step 3" in printed
    assert "70 % tiny/1.0.0: 22.4 of the 32 rows of a batch, each of its 180 training" in printed
    assert "30 % tiny/1.0.0: 9.6 of the 32 rows of a batch, each of its 36 training" in printed
    check_same_run(run, again)
    # Other shares are other data, although the sets are the same.
    flags[flags.index(f"{tables[0]}=0.7")] = f"{tables[0]}=0.6"
    assert train_run(flags) == 1
    assert "belongs to a run with other settings" in capsys.readouterr().err


@pytest.mark.slow  # tests/records/ordering/mixture_test.py cuts the batches for replicas
def test_two_replicas_equal_one(run: Path, tables: list[str], tmp_path: Path) -> None:
    two = tmp_path / "two"
    flags = [*FLAGS, *_dataset(tables), "--strategy=mirrored", "--cpu-devices=2"]
    finish(fork_run(*flags, f"--run-dir={two}"))
    for one, other in zip(history(run), history(two), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-5), name


def test_what_follows_a_run(
    run: Path, tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run"))
    stored = json.loads((run / "config.json").read_text())
    assert stored["dataset"] == [f"{tables[0]}=0.7", f"{tables[1]}=0.3"]
    assert stored["data_directory"] == tables
    assert evaluate([str(run), "--resamples=2"]) == 0
    found = json.loads((run / "evaluation-validation" / "evaluation.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    assert found["examples"] == 20 + 4
    assert found["metrics"]["accuracy"] == pytest.approx(metrics["validation"]["accuracy"])
    # Test of the set that has one; asked for again, it is added.
    flags = [*FLAGS, *_dataset(tables), "--strategy=one_device", f"--run-dir={run}"]
    assert train_run([*flags, "--evaluate-test"]) == 0
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert sum(map(sum, test["confusion_matrix"])) == 20
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["u", "v", "w"], [5, 0, 0], [-5, 0, 0]])
    assert predict([str(run), str(path), f"--output={tmp_path / 'said.csv'}"]) == 0
    assert len((tmp_path / "said.csv").read_text().splitlines()) == 3
    assert export([str(run), f"--output={tmp_path / 'exported'}"]) == 0
    capsys.readouterr()
    # A set that is no longer what it was.
    moved = shutil.copytree(run, tmp_path / "moved")
    other = stored | {"data_directory": tables[::-1]}
    (moved / "config.json").write_text(json.dumps(other))
    assert evaluate([str(moved)]) == 1
    assert "expected the data that" in capsys.readouterr().err


def test_fit_takes_a_mixture(tables: list[str]) -> None:
    data = records.open_data({tables[0]: 0.5, tables[1]: 0.5})
    layers = [keras.Input((3,)), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    found = train.fit(model, data, epochs=2, strategy="one_device", xla=False)
    assert len(found.history["val_loss"]) == 2
    with pytest.raises(ValueError, match="a mixture of sets expected shuffle=True"):
        train.fit(model, data, shuffle=False)
    with pytest.raises(ValueError, match="shuffle_block expected with one set"):
        train.fit(model, data, shuffle_block=32)


def test_flags(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = parse_config(["--dataset", "a/x=0.7", "b=0.3"])
    assert config.dataset == ("a/x=0.7", "b=0.3")
    assert parse_config(["--dataset", "a"]).dataset == "a"
    file = tmp_path / "settings.yaml"
    file.write_text("dataset: [a=7, b=3]\n")
    assert parse_config([f"--config={file}"]).dataset == ("a=7", "b=3")
    for flags, expected in (
        (["a", "b=1"], "expected one set, or several different ones with a share each"),
        (["a=1", "a=2"], "expected one set, or several different ones with a share each"),
        (["a=1", "b=0"], "shares of a mixture expected numbers above 0"),
        (["a=1", "b=1", "--folds=5"], "--folds expected with one set"),
        (["a=1", "b=1", "--data-service=x:1"], "--data-service expected with one set"),
        (["a=1", "b=1", "--length-buckets=2"], "--length-buckets expected with one set"),
    ):
        with pytest.raises(SystemExit):
            parse_config(["--dataset", *flags])
        assert expected in capsys.readouterr().err
