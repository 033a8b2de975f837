"""Fixtures of all tests: two CPU devices, real data, synthetic sets built once.

TensorFlow fixes its devices at first use, so they are set here, before any test module is
imported. One process can hold one number of replicas: a second strategy of another size in the
same process poisons TensorFlow's collectives. A test of other sizes uses `run_python`.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from records.system.quiet import import_tensorflow_quietly

gc.disable()  # what is imported stays; until `pytest_collection_finish`
import_tensorflow_quietly()

import keras  # noqa: E402 - after TensorFlow's start-up notes were turned away
import tensorflow as tf  # noqa: E402
from PIL import Image  # noqa: E402
from tensorflow.python.framework.config import disable_op_determinism  # noqa: E402

from records.system import progress  # noqa: E402
from tests.support.forks import fork  # noqa: E402
from tests.support.runs import fork_run, start  # noqa: E402
from tests.support.stores import s3_server, store  # noqa: E402, F401 - fixtures
from tests.support.tiny_models import take_tiny_backbone  # noqa: E402
from train.measures import plots  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
BUILDERS = ("fetal_health", "brain_tumor_mri", "song_lyrics")
LOGICAL_CPU_DEVICES = 2


def _set_logical_cpus(count: int) -> None:
    """Splits the machine's CPU into `count` logical devices; TensorFlow must not have started."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )


_set_logical_cpus(LOGICAL_CPU_DEVICES)


@pytest.fixture(autouse=True, scope="module")
def _forget_models() -> Iterator[None]:
    """Frees the models and traced functions of a file's tests, which refer to one another.

    And undoes what a run in this process turned on for good: files must not depend on their order.
    """
    handler = signal.getsignal(signal.SIGTERM)
    yield
    keras.utils.clear_session(free_memory=False)  # below, once
    keras.config.set_dtype_policy("float32")
    disable_op_determinism()
    signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)
    gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _blank_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leaves out the last step of a run's pictures, which takes a third of a short run: their text.

    Files marked `pictures` draw whole ones, and so does every process that is forked or started.
    """

    def png(figure: Any) -> bytes:
        buffer, size = io.BytesIO(), [int(100 * inches) for inches in figure.get_size_inches()]
        Image.new("RGB", (size[0], size[1])).save(buffer, "PNG")
        return buffer.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("pictures") is None:
            patch.setattr(plots, "to_png", png)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of real data, one folder per builder; skips the test where there is none."""
    directory = Path(os.environ.get("SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not directory.is_dir():
        pytest.skip(f"no real data in {directory}; name its directory in SHARED_DATA")
    return directory.resolve()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Takes the place of stderr for progress lines, is a terminal, and shows each of them."""
    found = _Terminal()
    # Not sys.stderr itself: pytest sets that anew between a fixture and its test.
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=found))
    monkeypatch.setattr(progress, "_SILENT_SECONDS", -1.0)
    monkeypatch.setattr(progress, "_BETWEEN_SECONDS", -1.0)
    return found


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Runs Python source in a process of its own and returns what it printed.

    `run_python(source, *arguments, cpu_devices=1)`: `source` sees `arguments` as `sys.argv[1:]`
    and finds TensorFlow imported as `tf` with that many logical CPU devices. An exit code other
    than 0 fails the test and shows both output streams. With `fresh=True` the process is not forked
    from one that has imported TensorFlow: where its own end is what a test is about.
    """

    def run(
        source: str,
        *arguments: str,
        cpu_devices: int = 1,
        timeout_s: float = 300,
        fresh: bool = False,
    ) -> str:
        preamble = (
            "import tensorflow as tf\n"
            "tf.config.set_logical_device_configuration(\n"
            "    tf.config.list_physical_devices('CPU')[0],\n"
            f"    [tf.config.LogicalDeviceConfiguration()] * {cpu_devices})\n"
        )
        process = (start if fresh else fork_run)("-c", preamble + source, *arguments)
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        if process.returncode != 0:
            pytest.fail(f"exit code {process.returncode}\n{out[-4000:]}\n{err[-8000:]}")
        return out

    return run


@pytest.fixture(scope="session")
def once_per_session(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`once_per_session(name, make)`: the folder that `make(folder)` filled.

    It is called once per test session, whatever the number of pytest-xdist workers. One that fails
    fails each test that asks. Tests share the folder: they treat it as read-only.
    """
    base = tmp_path_factory.getbasetemp()
    # Every worker has a folder of its own inside the session's.
    session_dir = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def once(name: str, make: Callable[[Path], None]) -> Path:
        outcome = session_dir / f"{name}.outcome"
        with open(session_dir / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not outcome.exists():
                try:
                    make(session_dir / name)
                    outcome.write_text("")
                except Exception as error:
                    outcome.write_text(f"{name} could not be made: {error}")
        if failure := outcome.read_text():
            pytest.fail(failure, pytrace=False)
        return session_dir / name

    return once


@pytest.fixture(scope="session")
def synthetic_data_dir(once_per_session: Callable[..., Path]) -> Path:
    """A TFDS data directory with the `synthetic` config of the three builders."""

    def make(data_dir: Path) -> None:
        _build(data_dir, *(f"builders/{name}" for name in BUILDERS), "--config=synthetic")

    return once_per_session("synthetic_data", make)


@pytest.fixture(scope="session")
def real_data_dir(once_per_session: Callable[..., Path], shared_data: Path) -> Callable[..., str]:
    """`real_data_dir("fetal_health/kaggle")`: a TFDS data directory that holds this real set."""

    def prepared(name: str) -> str:
        builder, _, config = name.partition("/")

        def make(data_dir: Path) -> None:
            source = f"--manual_dir={shared_data / builder}"
            _build(data_dir, f"builders/{builder}", f"--config={config}", source)

        return str(once_per_session(f"real_{builder}_{config}", make))

    return prepared


def _build(data_dir: Path, *arguments: str) -> None:
    """Runs `tfds build` as a user would."""
    # Next to this interpreter, links not resolved: that is the environment under test.
    tfds = str(Path(sys.executable).with_name("tfds"))
    process = fork(tfds, "build", *arguments, f"--data_dir={data_dir}")
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"tfds build {' '.join(arguments)}:\n{(out + err)[-6000:]}")


@pytest.fixture(scope="session")
def finished_runs(
    once_per_session: Callable[..., Path],
    synthetic_data_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Run folders by the name of the generated set: a tiny model of each kind, trained briefly.

    That of pictures is an EfficientNet-Lite0 of one block (`take_tiny_backbone`).
    Each worker has a copy of its own: tests may add files to a folder, and change none.
    """
    flags = {
        "fetal_health": ["--model=mlp_small", "--no-xla"],
        "brain_tumor_mri": ["--image-size=32"],
        "song_lyrics": ["--model=gru", "--sequence-length=12", "--vocab-size=300"],
    }

    def make(base: Path) -> None:
        from train.run import main

        for name, own in flags.items():
            arguments = [f"--dataset={name}/synthetic", f"--data-dir={synthetic_data_dir}", *own]
            arguments += ["--epochs=2", "--strategy=one_device", "--evaluate-test"]
            arguments += [f"--run-dir={base / name}"]
            with pytest.MonkeyPatch.context() as patch:
                take_tiny_backbone(patch)
                assert main(arguments) == 0

    copy = tmp_path_factory.mktemp("runs") / "finished"
    shutil.copytree(once_per_session("finished_runs", make), copy)
    return {name: copy / name for name in flags}
