"""What a trial, a run or a prediction has opened and made is gone after it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorflow.python.framework.func_graph import FuncGraph

from records.opened import open_set
from records.roles import Data
from tests.support.settings import make_settings
from train import predict, run, sweep
from train.devices.strategy import make_cluster
from train.search.folds_at_once import train_folds

PROCESS = psutil.Process()


def _alive() -> dict[str, int]:
    gc.collect()
    kinds: dict[str, type] = {"sets": Data, "graphs": FuncGraph}
    # `type`: TensorFlow's lazy modules would be imported by `isinstance`.
    found = {name: sum(type(o) is kind for o in gc.get_objects()) for name, kind in kinds.items()}
    return found | {"files": PROCESS.num_fds(), "threads": threading.active_count()}


def test_a_trial_leaves_no_files_no_examples_and_no_graphs(synthetic_data_dir: Path) -> None:
    opened = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    settings = make_settings(model="mlp_small", folds=2, epochs=1, xla=False)

    def trial() -> dict[str, int]:
        train_folds(settings, opened, make_cluster("one_device"), lambda epoch, found: None)
        return _alive()

    assert trial() == trial()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["trials", "epochs", "predictions"])
def test_long_use_needs_no_more_and_more(
    what: str, finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """20 trials, 200 epochs and 20 predictions: a tenth of the memory at most in the second half.

    Without XLA, whose compiled programs TensorFlow keeps for the life of a process.
    """
    data = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}", "--no-xla"]
    table = tmp_path / "in.csv"
    columns = _columns(finished_runs["fetal_health"])
    table.write_text("\n".join([",".join(columns), ",".join("1" * len(columns))]) + "\n")

    def trials(i: int) -> None:
        flags = ["--model=mlp_small", "--epochs=1", "--folds=2", f"--sweep-dir={tmp_path / 's'}"]
        sweep.main([*data, *flags, f"--trials={10 * (i + 1)}"])

    def epochs(i: int) -> None:
        flags = ["--model=mlp_small", "--epochs=100", "--early-stopping=0"]
        run.main([*data, *flags, f"--run-dir={tmp_path / str(i)}"])

    def predictions(i: int) -> None:
        for _ in range(10):
            arguments = [str(finished_runs["fetal_health"]), str(table)]
            assert predict.main([*arguments, f"--output={tmp_path / 'out.csv'}"]) == 0

    work: dict[str, Callable[[int], Any]] = {
        "trials": trials,
        "epochs": epochs,
        "predictions": predictions,
    }
    measured = []
    for i in range(2):
        work[what](i)
        measured.append((_alive(), PROCESS.memory_info().rss))
    (first, before), (second, after) = measured
    assert second["files"] <= first["files"] and second["threads"] <= first["threads"]
    assert second["sets"] <= first["sets"]
    assert after < 1.1 * before


def _columns(run_dir: Path) -> list[str]:
    from train.folders.model_input import ModelInput

    return list(ModelInput.read(run_dir, "").feature_names)
