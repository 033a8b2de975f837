"""A run on data in a bucket ends with the bits of a run on the same data on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from records.describe import __main__ as describe
from records.sets.find import find_directory
from records.stores.address import parse_address
from records.stores.cache import FOLDER_VARIABLE
from records.verify import __main__ as verify
from tests.support.runs import check_same_run
from tests.support.stores import Store
from train import evaluate, export
from train.folders.run_copy import fetch_run
from train.run import main
from train.step.predictor import Predictor

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
    asked = json.loads((run / "metrics.json").read_text())["stores"]
    assert asked.keys() == {"requests", "bytes", "sent", "retries"} and asked["requests"] > 10
    stored = json.loads((run / "config.json").read_text())
    assert stored["data_directory"].startswith(f"{bucket}/{NAME}/")
    # Found again by its address alone.
    assert evaluate.main([str(run), "--split=test", "--resamples=20"]) == 0
    written = "".join(p.read_text() for p in run.rglob("*.json")) + "".join(capsys.readouterr())
    assert "OFTHETEST" not in written, "no credentials"


def test_a_run_in_a_bucket_goes_on_on_a_fresh_machine(
    store: Store,
    synthetic_data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, outputs = f"{store.url}/runs/one", Predictor.outputs
    flags = [f"--dataset={NAME}", "--model=mlp_small", "--epochs=2", "--no-xla"]
    flags += ["--strategy=one_device", f"--data-dir={synthetic_data_dir}"]
    assert main([*flags, f"--run-dir={tmp_path / 'whole'}"]) == 0
    flags += [f"--run-dir={run}"]

    called = []

    def interrupted(self: Predictor) -> Any:
        called.append(1)
        if len(called) == 2:
            signal.raise_signal(signal.SIGTERM)
        return outputs(self)

    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "outputs", interrupted)
        assert main(flags) == 130
    assert len([name for name in store.names() if "/checkpoints/step-" in name]) == 1
    assert evaluate.main([run]) == 1
    told = "".join(capsys.readouterr())
    assert f"-> {run}\n  written to {tmp_path}/cache/runs/" in told
    assert f"{run} expected a finished run" in told and f"--run-dir {run}\n" in told
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "fresh"))
    assert main(flags) == 0
    assert "going on at epoch 2, step 48" in capsys.readouterr().out
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "third"))
    check_same_run(tmp_path / "whole", fetch_run(parse_address(run, "test")))
    assert main(flags) == 0
    assert f"{run} is a finished run of these settings" in capsys.readouterr().out
    assert evaluate.main([run, "--resamples=20"]) == 0
    found = json.loads(store.get("runs/one/evaluation-validation/evaluation.json"))
    assert found["examples"] > 0
    events = [name for name in store.names() if "/tensorboard/train/events" in name]
    assert len(events) == 2, "one of each machine"
    assert all(b"epoch_loss" in store.get(name) for name in events)
    written = b"".join(map(store.get, store.names())) + "".join(capsys.readouterr()).encode()
    assert b"OFTHETEST" not in written, "no credentials"
    with pytest.raises(SystemExit):
        export.main([run])
    assert "--output expected with a RUN in a store" in capsys.readouterr().err


def test_commands_that_read_sets(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert describe.main([NAME, f"--data-dir={bucket}", f"--output={tmp_path}/figures"]) == 0
    assert f"  {bucket}/{NAME}/" in capsys.readouterr().out
    assert verify.main([bucket]) == 0
    assert "sound: nothing is wrong" in capsys.readouterr().out


_READER = """
import sys
sys.modules["tensorflow"] = None  # as in an environment of its own: TensorFlow's has no clients
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
found = EventMultiplexer()
found.AddRunsFromDirectory(sys.argv[1])
found.Reload()
print(sorted(found.Runs()), len(found.GetAccumulator("train").Tensors("epoch_loss")))
"""


@pytest.mark.slow
def test_tensorboard_reads_the_logs_there(store: Store, finished_runs: dict[str, Path]) -> None:
    store.upload(finished_runs["fetal_health"] / "tensorboard", "run/tensorboard")
    command = [sys.executable, "-c", _READER, f"{store.url}/run/tensorboard"]
    environment = os.environ | {"S3_ENDPOINT": os.environ["AWS_ENDPOINT_URL"]}
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert printed.stdout.strip() == "['.', 'final', 'test', 'train', 'validation'] 2"
