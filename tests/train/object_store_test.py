"""A run on data in a bucket ends with the bits of a run on the same data on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from records.describe import __main__ as describe
from records.sets.find import find_directory
from records.verify import __main__ as verify
from tests.support.stores import Store
from train import evaluate
from train.run import main

NAME = "fetal_health/synthetic"


@pytest.fixture
def bucket(store: Store, synthetic_data_dir: Path) -> str:
    """The address of a data folder in a bucket."""
    source = Path(find_directory(NAME, str(synthetic_data_dir)))
    store.upload(source, f"data/{NAME}/{source.name}")
    return f"{store.url}/data"


def test_a_run_from_a_bucket(
    bucket: str, finished_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    flags = [
        f"--dataset={NAME}",
        "--model=mlp_small",
        "--epochs=2",
        "--no-xla",
        "--strategy=one_device",
    ]
    assert main([*flags, f"--data-dir={bucket}", f"--run-dir={run}", "--evaluate-test"]) == 0
    weights = [
        keras.models.load_model(r / "model.keras").get_weights()
        for r in (run, finished_runs["fetal_health"])
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    stored = json.loads((run / "config.json").read_text())
    assert stored["data_directory"].startswith(f"{bucket}/{NAME}/")
    # Found again by its address alone.
    assert evaluate.main([str(run), "--split=test", "--resamples=20"]) == 0
    written = "".join(p.read_text() for p in run.rglob("*.json")) + "".join(capsys.readouterr())
    assert "OFTHETEST" not in written, "no credentials"


def test_commands_that_read_sets(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert describe.main([NAME, f"--data-dir={bucket}", f"--output={tmp_path}/figures"]) == 0
    assert f"  {bucket}/{NAME}/" in capsys.readouterr().out
    assert verify.main([bucket]) == 0
    assert "sound: nothing is wrong" in capsys.readouterr().out
