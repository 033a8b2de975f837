"""How a command ends: exit codes and what stands on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from records.system.command import run_as_command, with_home

REPOSITORY = Path(__file__).resolve().parents[3]


def _end(error: BaseException | None, code: int | None = None, **how: object) -> int:
    def work() -> int | None:
        if error:
            raise error
        return code

    return run_as_command(work, tensorflow=False, **how)  # type: ignore[arg-type]


def test_a_home_directory_that_the_shell_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = ["--output=~/a.csv", "~", "~/b", "--threshold=~c", "a~/b", "--x=y=~/c"]
    expected = ["--output=/home/me/a.csv", "/home/me", "/home/me/b", *given[3:]]
    assert with_home(given) == expected
    monkeypatch.setattr(sys, "argv", ["command", "~/b"])
    assert with_home(None) == ["/home/me/b"]


@pytest.mark.parametrize("flag", ["--data-dir", "--data_dir", "--run-dir", "--output", "--repair"])
def test_an_empty_place_is_not_the_default(flag: str, capsys: Any) -> None:
    for given in ([f"{flag}="], [flag, "", "--x"], ["--x", flag, ""]):
        with pytest.raises(SystemExit) as end:
            with_home(given)
        assert end.value.code == 2
        said = f"error: {flag} expected a path, received an empty text. Where it comes from a var"
        assert capsys.readouterr().err.startswith(said)
    assert with_home([flag, "a", "--missing", ""]) == [flag, "a", "--missing", ""]


def test_the_work_gives_the_exit_code() -> None:
    assert _end(None) == 0 and _end(None, code=3) == 3


def test_what_a_user_can_mend_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(ValueError("settings: no such model")) == 1
    assert capsys.readouterr().err == "error: settings: no such model\n"
    assert _end(KeyError("x"), errors=(KeyError,), failure=2) == 2
    with pytest.raises(KeyError):  # a fault of the program
        _end(KeyError("x"))


def test_an_interrupt_that_ends_an_import_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """As C extensions do, in whose initialisation the signal came."""
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    further = SystemError("an import failed")
    further.__cause__ = error
    assert _end(further, interrupted="the same command starts again") == 130
    assert capsys.readouterr().err == "the same command starts again\n"


def test_a_lack_of_memory_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def allocate() -> None:
        np.empty(2**55, np.int64)

    def multiply() -> None:
        shape = "OOM when allocating tensor with shape[100000,100000] and type float on device"
        raise tf.errors.ResourceExhaustedError(None, None, shape)

    for work, wanted in (
        (allocate, "256. PiB for an array with shape (36028797018963968,) and data type int64"),
        (multiply, "a tensor [100000, 100000] of 37.3 GiB"),
    ):
        assert run_as_command(work, tensorflow=False) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: memory: expected room for {wanted}, received ")
        assert said.count("\n") == 1 and "GiB that are free" in said


def test_an_interrupt_tells_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(KeyboardInterrupt(), interrupted="the same command goes on") == 130
    assert capsys.readouterr().err == "the same command goes on\n"
    assert _end(KeyboardInterrupt("from the checkpoint"), interrupted="or begins") == 130
    assert capsys.readouterr().err == "from the checkpoint\n"


_WORK = """
import sys
from records.system.command import run_as_command
def work():
    print("a naïve class")
    print("x" * 2**20, flush=True)
    print("y", file=sys.stderr)
    open(sys.argv[1], "w").write("done")
sys.exit(run_as_command(work, tensorflow=False))
"""


@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        ("| head -c 1", "a"),
        ("> /dev/full", "stdout expected a place to print to, received: No space left on device"),
        ("2> /dev/full > /dev/null", ""),
        (">&- 2>&-", ""),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_printing_never_ends_the_work(redirection: str, said: str, tmp_path: Path) -> None:
    """As a shell gives the streams; and an ASCII terminal with a class that is not ASCII."""
    script, result = tmp_path / "work.py", tmp_path / "result"
    script.write_text(_WORK, encoding="utf-8")
    command = f"set -o pipefail; {sys.executable} {script} {result} {redirection}"
    ended = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert result.read_text() == "done"
    assert "Traceback" not in ended.stderr and "error:" not in ended.stderr
    assert said in ended.stdout + ended.stderr


def test_a_pipe_of_the_work_is_its_own_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(BrokenPipeError(32, "Broken pipe")) == 1
    assert capsys.readouterr().err == "error: [Errno 32] Broken pipe\n"
