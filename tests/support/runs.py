"""Whole runs in processes of their own, for tests: start them, kill them, read what they left.

`start` begins an interpreter, as a user does, for processes that are killed or whose start is what
is looked at. `fork_run` is for the others: it saves 5 s of imports each time.
"""

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import models  # noqa: F401 - registers its layers, for `weights`
from tests.support.forks import Forked, fork

REPOSITORY = Path(__file__).resolve().parents[2]
TIMING = ("examples_per_s", "tokens_per_s", "seconds", "flops_per_s", "peak_share")


def start(*arguments: Any, variables: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts `python -m train.run`, or `python -c SOURCE` for arguments that begin with `-c`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user would start it
    command = list(map(str, arguments))
    if command[0] != "-c":
        command = ["-m", "train.run", *command]
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env=environment | (variables or {}),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def fork_run(*arguments: Any, variables: dict[str, str] | None = None) -> Forked:
    """As `start`, of a process that has TensorFlow imported."""
    command = list(map(str, arguments))
    if command[0] != "-c":
        command = ["-m", "train.run", *command]
    return fork(*command, variables=variables)


def finish(
    *processes: subprocess.Popen[str] | Forked, code: int = 0, timeout_s: float = 300
) -> list[str]:
    """Waits for processes that end with `code`; what each printed. None is left behind."""
    printed = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout_s)
            assert process.returncode == code, f"exit code {process.returncode}\n{out}{err}"
            assert "Traceback" not in err, err
            printed.append(out + err)
    finally:
        for process in processes:
            process.kill()
    return printed


def start_workers(count: int, *arguments: Any, begin: Callable[..., Any] = start) -> list[Any]:
    """Starts the workers of a run on this host, by `start` or `fork_run`."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(count)]}
    configs = [
        {"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(count)
    ]
    return [begin(*arguments, variables={"TF_CONFIG": json.dumps(config)}) for config in configs]


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def weights(run_dir: Path) -> list[np.ndarray]:
    """Of the stored model."""
    model = keras.models.load_model(run_dir / "model.keras", compile=False, safe_mode=True)
    return list(model.get_weights())


def history(run_dir: Path) -> list[dict[str, str]]:
    """The rows of `history.csv` without the columns that are times."""
    with open(run_dir / "history.csv") as file:
        return [{k: v for k, v in r.items() if k not in TIMING} for r in csv.DictReader(file)]


def check_same_run(a: Path, b: Path) -> None:
    """Final weights and metric columns are bitwise the same."""
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(x, y)
    assert history(a) == history(b)
