"""What a checkpoint says of the input is small, and a checkpoint of another order is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from records.ordering.buckets import make_order
from records.ordering.order import Order
from train.engine.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from train.engine.state import assign_values
from train.run import main


def test_the_state_of_the_input_is_under_a_kilobyte() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 30_000)
    bucketed = make_order(30_000, 64, 2**60, lengths=lengths, length_buckets=12)
    for order in (Order(10**11, 1024, 2**60, True, 10**9), bucketed):
        state = json.dumps(order.state | {"epoch": 10**9, "step": 10**9})
        assert len(state) < 1024
        assert json.loads(state)["seed"] == 2**60


def test_a_checkpoint_of_another_order_is_refused(
    synthetic_data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}"]
    command += [f"--run-dir={tmp_path}", "--epochs=1", "--cache=memory", "--no-xla"]
    assert main(command) == 0
    (tmp_path / "metrics.json").unlink()  # as after a run that was killed
    found = read_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    arrays, state = found
    assert state["order"]["global_batch_size"] > 0
    state["order"]["shuffle_block"] = 512
    write_checkpoint(tmp_path / "checkpoints", 10**9, arrays, state)
    capsys.readouterr()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "order of examples expected" in error and "'shuffle_block': 512" in error


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ([np.zeros([2, 3])], "expected 2 variables, received 1"),
        ([np.zeros([2, 3]), np.zeros(4)], r"b:0 expected shape \(3,\), received \(4,\)"),
    ],
)
def test_weights_of_another_model_are_refused(arrays: list[np.ndarray], error: str) -> None:
    variables = [tf.Variable(tf.ones([2, 3]), name="a"), tf.Variable(tf.ones(3), name="b")]
    with pytest.raises(CheckpointError, match=f"{error}.*another model.*another --run-dir"):
        assign_values(variables, arrays)


def test_order_states_differ_where_orders_do() -> None:
    order = Order(1000, 32, 1)
    changes: list[dict[str, Any]] = [{"seed": 2}, {"shuffle_block": 64}, {"global_batch_size": 16}]
    for change in changes:
        assert dataclasses.replace(order, **change).state != order.state
