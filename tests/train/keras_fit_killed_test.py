"""`train.fit` killed in mid-epoch, in a process of its own, goes on to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.foreign_models import CASES, run_foreign
from tests.support.runs import fork_run
from train.engine.checkpoint import read_checkpoint

_KILLED = """
import json, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], 2 * [tf.config.LogicalDeviceConfiguration()])
from tests.support.foreign_models import run_foreign
run_foreign(*json.loads(sys.argv[1]), kill=True)
"""
_QUICK = "gated", 2, "mixed_bfloat16", False
_CELLS = [
    pytest.param(
        case,
        policy,
        replicas,
        xla,
        # The quick one has dropout and random numbers of its own, and no XLA.
        marks=() if (case, replicas, policy, xla) == _QUICK else pytest.mark.slow,
    )
    for case in CASES
    for policy in ("float32", "mixed_bfloat16")
    for replicas in (1, 2)
    for xla in (False, True)
    # BatchNorm at several replicas is refused with XLA.
    if not (xla and replicas == 2 and case == "residual cnn")
]


def _checkpoint(folder: Path) -> tuple[dict[str, list[np.ndarray]], Any]:
    found = read_checkpoint(folder / "checkpoints")
    assert found is not None
    return found


@pytest.mark.parametrize(("case", "policy", "replicas", "xla"), _CELLS)
def test_killed_it_goes_on_to_the_bit(
    case: str, policy: str, replicas: int, xla: bool, tmp_path: Path
) -> None:
    """The whole run's history, weights, state of the optimizer and of random numbers."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    cell = case, policy, replicas, xla
    process = fork_run("-c", _KILLED, json.dumps([*cell, str(killed), 1]))
    history = run_foreign(*cell, whole, seed=1, kill=False)
    _, err = process.communicate(timeout=600)
    assert process.returncode == -9, err
    _, stood = _checkpoint(killed)
    assert (stood["epoch"], stood["step"]) == (1, 1)
    # Other initial weights: all that counts is in the checkpoint.
    assert run_foreign(*cell, killed, seed=2, kill=False) == history
    for name, group in _checkpoint(whole)[0].items():
        for a, b in zip(group, _checkpoint(killed)[0][name], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
