"""Hooks of all tests: their order, what is collected as garbage, how much memory they took.

The fixtures, and what TensorFlow is told before its first use, are in `tests.support.fixtures`.
"""

from __future__ import annotations

import gc
import itertools
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def _hands_out() -> bool:
    """Whether this is the process of `pytest -n 2` that hands out the tests and runs none."""
    asked = [value for flag, value in itertools.pairwise(sys.argv) if flag == "-n"]
    return "PYTEST_XDIST_WORKER" not in os.environ and any(value != "0" for value in asked)


# Without TensorFlow it is ready some seconds earlier, and so are the workers that it starts.
if not _hands_out():
    from tests.support.fixtures import (  # noqa: F401
        _blank_pictures,
        _forget_models,
        finished_runs,
        once_per_session,
        real_data_dir,
        run_python,
        s3_server,
        shared_data,
        store,
        synthetic_data_dir,
        terminal,
    )


# Files that take longest, in seconds of one processor, at the head of the queue: a long one that a
# worker began last would let the others wait for it.
LONGEST_FILES = (
    "tests/train/run_test.py",
    "tests/train/keras_fit_test.py",
    "tests/train/targets_test.py",
    "tests/train/export_test.py",
    "tests/train/step/matrix_test.py",
    "tests/models/cnn_test.py",
    "tests/train/step/train_step_test.py",
    "tests/records/pipeline_test.py",
    "tests/faults/training_test.py",
    "tests/train/devices/multi_worker_test.py",
    "tests/faults/records_test.py",
    "tests/train/sweep_test.py",
    "tests/train/engine/resume_test.py",
    "tests/train/step/gpu_audit_test.py",
    "builders/song_lyrics/song_lyrics_dataset_builder_test.py",
    "tests/benchmarks/run_test.py",
    "tests/models/rnn_test.py",
    "tests/train/step/fit_test.py",
    "tests/records/damage/moved_test.py",
    "tests/project/your_own_data_test.py",
    "tests/records/service/service_test.py",
    "tests/train/object_store_test.py",
    "tests/records/stores/mirror_test.py",
    "tests/models/mlp_test.py",
    "tests/faults/names_test.py",
    "tests/records/ordering/order_test.py",
    "tests/train/devices/hosts_test.py",
    "tests/benchmarks/input/libraries_test.py",
    "tests/benchmarks/training/target_test.py",
    "tests/benchmarks/training/fit_test.py",
    "tests/train/search/folds_at_once_test.py",
    "tests/records/loading/stream_test.py",
    "tests/project/from_keras_test.py",
    "tests/project/notebook_test.py",
    "tests/records/describe/describe_test.py",
    "tests/train/cross_validate_test.py",
    "tests/train/results_test.py",
    "tests/train/keras_fit_killed_test.py",
    "tests/records/system/callbacks_test.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; the order within each stays."""
    last = len(LONGEST_FILES)
    rank = {str(REPOSITORY / name): n for n, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: rank.get(str(item.path), last))


def pytest_collection_finish() -> None:
    """Leaves what the imports made, some million objects, out of all garbage collections.

    With what follows of the imports' own, that was a tenth of the processor time of a short file.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tells the controller of pytest-xdist how much memory this process took at most."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["peak_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def pytest_testnodedown(node: Any, error: Any) -> None:
    """Prints what a worker told."""
    peak_kib = getattr(node, "workeroutput", {}).get("peak_kib", 0)
    print(f"\n{node.gateway.id}: {peak_kib / 2**20:.2f} GiB of memory at most")
