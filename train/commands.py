"""Runs this project's commands as processes of their own, quietly: a line each, the rest in a log.

A process per run: TensorFlow keeps its devices, precision and strategy for the life of a process.
Its import alone sets up nothing, and takes 6 s: forks of one process share it.
"""

import atexit
import functools
import gc
import importlib
import multiprocessing
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from records.system.quiet import import_tensorflow_quietly
from records.system.tfds_command import tfds_program

REPOSITORY = Path(__file__).resolve().parents[1]
# One per kind of data, with the model that the demo and the check train on it.
SETS = {"fetal_health": "mlp", "brain_tumor_mri": "efficientnet_lite0", "song_lyrics": "gru"}
_LAST_LINES = 25
# What a training or a benchmark imports sooner or later.
_SHARED = ("tensorflow_datasets", "matplotlib.pyplot", "sklearn.metrics", "train.engine.whole_run")


class CommandError(RuntimeError):
    """A command that failed; the message holds the command and the end of what it printed."""

    def __init__(self, command: Sequence[str], code: int, log: Path):
        """Reads the end of the log."""
        # The first line of a log is the command itself, which the message names anyway.
        end = log.read_text(encoding="utf-8").splitlines()[1:][-_LAST_LINES:]
        said = [line.strip() for line in end if line.strip()]
        # An error's own message.
        self.last_line = said[-1] if said else f"exit code {code}"
        which = f"exit code {code} of: {format_command(command)}"
        super().__init__("\n".join([*end, which, f"log: {log}"]))


def python_command(module: str, *arguments: str) -> list[str]:
    """`python -m module ...` with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def format_command(command: Sequence[str]) -> str:
    """The command as it is typed; programs of this environment by their path from here."""
    program = Path(command[0])
    if program.is_absolute():
        program = Path(os.path.relpath(program))
    return shlex.join([str(program), *command[1:]])


def run_command(title: str, command: Sequence[str], log: Path, *, fork: bool = False) -> float:
    """Runs a command and shows `title` and the seconds it took, which it returns.

    Everything it prints goes into `log`. `fork`: a `python_command` as a fork of this process,
    which imports TensorFlow the first time; nothing of it may have been used here.

    Raises:
      CommandError: the exit code is not 0, or the program cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # With PYTHONDONTWRITEBYTECODE, importing TensorFlow takes about 10 s.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    # Lines reach the log and the terminal when they are printed, not when a buffer is full.
    environment |= {"PYTHONUNBUFFERED": "1"}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Elsewhere libraries may hang after a fork, or there is none.
    fork = fork and sys.platform == "linux"
    if fork:
        _import_once()
    start = time.perf_counter()
    # In a log of CI a title without an end says which command hangs.
    if not sys.stdout.isatty():
        print(f"{title} ...", flush=True)
    with open(log, "w", encoding="utf-8") as file:
        file.write(f"$ {format_command(command)}\n")
        try:
            code = _follow(title, _start(command, environment, fork), file, start)
        except OSError as error:
            file.write(f"{error}\n")
            # What a shell gives for a program that it cannot start.
            code = 127
    seconds = time.perf_counter() - start
    clear = "\r\033[K" if sys.stdout.isatty() else ""
    if code:
        print(f"{clear}{title}: failed after {seconds:.0f} s", flush=True)
        raise CommandError(command, code, log)
    print(f"{clear}{title}: {seconds:.0f} s", flush=True)
    return seconds


@functools.cache
def _import_once() -> None:
    start = time.perf_counter()
    import_tensorflow_quietly()
    for name in _SHARED:
        importlib.import_module(name)
    gc.freeze()  # a collection in a fork would copy each page that it looks at
    print(f"importing TensorFlow, once for all: {time.perf_counter() - start:.0f} s", flush=True)


class _Fork:
    """A command as a fork of this process, with the parts of `subprocess.Popen` in use here."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]):
        """Starts `[python, "-m", MODULE, ...]`."""
        pipe = os.pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_run_module, args=(list(command[2:]), environment, *pipe)
        )
        self._process.start()
        os.close(pipe[1])
        self.stdout = os.fdopen(pipe[0], encoding="utf-8", errors="replace")

    def __enter__(self) -> "_Fork":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait()

    def wait(self) -> int | None:
        """Its exit code."""
        self._process.join()
        return self._process.exitcode


def _run_module(argv: list[str], environment: dict[str, str], unused: int, output: int) -> None:
    """In the fork: what the interpreter does with `-m MODULE ...`."""
    os.close(unused)
    atexit._clear()  # what this process's parent left for its own end
    for name, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(output, number)
        # The streams of before may hold lines back; these give each away.
        stream = os.fdopen(number, "w", 1, encoding="utf-8", errors="replace", closefd=False)
        setattr(sys, name, stream)
    os.environ.update(environment)
    sys.argv = argv
    try:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    finally:  # a fork does not call exit functions by itself
        atexit._run_exitfuncs()


def _start(
    command: Sequence[str], environment: dict[str, str], fork: bool
) -> "_Fork | subprocess.Popen[str]":
    if fork:
        return _Fork(command, environment)
    return subprocess.Popen(
        command,
        env=environment,
        # A command that asks for something would wait for ever behind a line of progress.
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # One pipe: errors stand in the log where they happened among the other lines.
        stderr=subprocess.STDOUT,
        text=True,
        # What a library prints need not be UTF-8; a log must not end a training.
        errors="replace",
    )


def _follow(
    title: str, started: "_Fork | subprocess.Popen[str]", log: TextIO, start: float
) -> int | None:
    """Copies the output to the log; a terminal shows the newest line. Returns the exit code."""
    with started as process:
        assert process.stdout is not None
        shown = 0.0
        for line in process.stdout:
            log.write(line)
            now = time.perf_counter()
            # Progress bars print hundreds of lines a second.
            if sys.stdout.isatty() and line.strip() and now - shown > 0.2:
                shown = now
                text = f"[{now - start:3.0f} s] {title}: {line.strip()}"
                width = shutil.get_terminal_size().columns - 1
                print(f"\r\033[K{text[:width]}", end="", flush=True)
        return process.wait()


def prepare_synthetic_sets(data_dir: Path, log: Path, names: Iterable[str] = SETS) -> None:
    """Builds the generated sets that are not there yet, with one `tfds build`.

    Raises:
      CommandError: the build failed.
    """
    missing = [n for n in names if not any(data_dir.glob(f"{n}/synthetic/*/dataset_info.json"))]
    if not missing:
        print(f"the generated sets are prepared already in {data_dir}", flush=True)
        return
    builders = [os.path.relpath(REPOSITORY / "builders" / name) for name in missing]
    command = [tfds_program(), "build", *builders, "--config", "synthetic"]
    command += ["--data_dir", str(data_dir)]
    run_command(f"building {', '.join(missing)} (generated data)", command, log)
