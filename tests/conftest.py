"""Settings and fixtures of all tests: two CPU devices, real data, synthetic sets built once.

TensorFlow fixes its devices at first use, so they are set here, before any test module is
imported. One process can hold one number of replicas: a second strategy of another size in the
same process poisons TensorFlow's collectives. A test of other sizes uses `run_python`.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from records.system.quiet import import_tensorflow_quietly

import_tensorflow_quietly()

import tensorflow as tf  # noqa: E402 - after its start-up notes were turned away

REPOSITORY = Path(__file__).resolve().parents[1]
BUILDERS = ("fetal_health", "brain_tumor_mri", "song_lyrics")
LOGICAL_CPU_DEVICES = 2


def _set_logical_cpus(count: int) -> None:
    """Splits the machine's CPU into `count` logical devices; TensorFlow must not have started."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )


_set_logical_cpus(LOGICAL_CPU_DEVICES)


def pytest_addoption(parser: pytest.Parser) -> None:
    """A flag of `make gpu-check`."""
    parser.addoption("--cpu", action="store_true", help="gpu-check on CPU devices, a part of it")


def _child_environment() -> dict[str, str]:
    """The environment of a child process: the checkout importable, bytecode written."""
    environment = dict(os.environ)
    # Without bytecode files each import of TensorFlow takes 10 s instead of 3.5 s.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    paths = [str(REPOSITORY), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of real data, one folder per builder; skips the test where there is none."""
    directory = Path(os.environ.get("SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not directory.is_dir():
        pytest.skip(f"no real data in {directory}; name its directory in SHARED_DATA")
    return directory.resolve()


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Runs Python source in a process of its own and returns what it printed.

    `run_python(source, *arguments, cpu_devices=1)`: `source` sees `arguments` as `sys.argv[1:]`
    and finds TensorFlow imported as `tf` with that many logical CPU devices. An exit code other
    than 0 fails the test and shows both output streams.
    """

    def run(source: str, *arguments: str, cpu_devices: int = 1, timeout_s: float = 300) -> str:
        preamble = (
            "import tensorflow as tf\n"
            "tf.config.set_logical_device_configuration(\n"
            "    tf.config.list_physical_devices('CPU')[0],\n"
            f"    [tf.config.LogicalDeviceConfiguration()] * {cpu_devices})\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", preamble + source, *arguments],
            cwd=REPOSITORY,
            env=_child_environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            pytest.fail(
                f"exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
            )
        return done.stdout

    return run


@pytest.fixture(scope="session")
def synthetic_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data directory with the `synthetic` config of the three builders.

    Built by one `tfds build` per test session, whatever the number of pytest-xdist workers.
    Tests share it: treat it as read-only.
    """
    base = tmp_path_factory.getbasetemp()
    # Every worker has a folder of its own inside the session's.
    session_dir = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    data_dir = session_dir / "synthetic_data"
    with open(session_dir / "synthetic_data.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = session_dir / "synthetic_data.outcome"
        if not outcome.exists():
            outcome.write_text(_build_synthetic(data_dir))
    error = outcome.read_text()
    if error:
        pytest.fail(f"tfds build of the synthetic sets failed:\n{error}", pytrace=False)
    return data_dir


def _build_synthetic(data_dir: Path) -> str:
    """Runs `tfds build` as a user would; returns "" or the end of its output if it failed."""
    command = [
        # Next to this interpreter, links not resolved: that is the environment under test.
        str(Path(sys.executable).with_name("tfds")),
        "build",
        *(f"builders/{name}" for name in BUILDERS),
        "--config=synthetic",
        f"--data_dir={data_dir}",
    ]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        # Not `_child_environment`: the builders must be found without PYTHONPATH.
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return "" if done.returncode == 0 else f"{' '.join(command)}\n{done.stdout[-6000:]}"


@pytest.fixture(scope="session")
def finished_runs(
    synthetic_data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Run folders by the name of the generated set: a tiny model of each kind, trained briefly.

    Tests may add files to a folder, and change none.
    """
    from train.run import main

    base = tmp_path_factory.mktemp("finished_runs")
    flags = {
        "fetal_health": ["--model=mlp_small"],
        "brain_tumor_mri": ["--image-size=32"],
        "song_lyrics": ["--model=gru", "--sequence-length=12", "--vocab-size=300"],
    }
    for name, own in flags.items():
        arguments = [f"--dataset={name}/synthetic", f"--data-dir={synthetic_data_dir}", *own]
        arguments += ["--epochs=2", "--strategy=one_device", "--evaluate-test"]
        arguments += [f"--run-dir={base / name}"]
        assert main(arguments) == 0
    return {name: base / name for name in flags}
