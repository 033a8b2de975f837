"""Moving averages and fine-tuning in whole runs: what is stored, and going on in each stage."""

import json
import signal
import time
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.support.runs import check_same_run, finish, history, start
from train.devices.strategy import make_cluster
from train.engine.checkpoint import read_checkpoint
from train.engine.state import State
from train.run import main


def test_the_stored_model_is_the_moving_average(synthetic_data_dir: Path, tmp_path: Path) -> None:
    flags = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}", "--no-xla"]
    assert main([*flags, "--epochs=2", "--ema=0.9", f"--run-dir={tmp_path}"]) == 0
    model = keras.models.load_model(tmp_path / "model.keras", compile=False)
    found = read_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    last = {a.tobytes() for a in found[0]["model"] if a.size > 8}
    averages = {a.tobytes() for a in found[0]["optimizer"] if a.size > 8}
    trained = [np.asarray(v) for v in model.trainable_variables if v.shape.num_elements() > 8]
    assert len(trained) >= 6
    assert all(a.tobytes() in averages and a.tobytes() not in last for a in trained)


def test_there_is_no_average_before_the_first_update(tmp_path: Path) -> None:
    """Keras begins it with zeros: a stage's first validation must see the weights themselves."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.build(model.trainable_variables)
    training: Any = types.SimpleNamespace(trained=model, optimizer=optimizer)
    folder: Any = types.SimpleNamespace(checkpoints=tmp_path)
    state = State(training, make_cluster("one_device"), folder, 2)
    start_weights = model.get_weights()
    with state.averaged():
        np.testing.assert_array_equal(model.get_weights()[0], start_weights[0])
    for _ in range(2):
        optimizer.apply([np.ones((3, 2)), np.ones(2)], model.trainable_variables)
    last = model.get_weights()
    with state.averaged():
        np.testing.assert_allclose(model.get_weights()[0], last[0] + 0.5, rtol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[0], last[0])


FINE_TUNE = [
    "--dataset=brain_tumor_mri/synthetic",
    "--image-size=64",
    "--epochs=2",
    "--unfreeze-from=blocks_14_depthwise_conv",
    "--fine-tune-epochs=3",
    "--checkpoint-steps=4",
    "--mixup=0.2",
    "--ema=0.9",
]


@pytest.mark.slow
def test_a_run_killed_while_fine_tuning_ends_the_same(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    flags = [*FINE_TUNE, f"--data-dir={synthetic_data_dir}", "--evaluate-test"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(*flags, f"--run-dir={whole}"))
    rows = history(whole)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    assert float(rows[2]["learning_rate"]) <= 1e-4 < 1e-3
    for stage in ("checkpoints", "checkpoints/fine_tuning"):
        process = start(*flags, f"--run-dir={killed}")
        deadline = time.monotonic() + 200
        while not list((killed / stage).glob("step-*.npz")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert list((killed / stage).glob("step-*.npz"))
    assert not (killed / "metrics.json").exists()
    (printed,) = finish(start(*flags, f"--run-dir={killed}"))
    assert printed.count("going on at") == 2, "the head's end, and the middle of fine-tuning"
    check_same_run(whole, killed)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.3
