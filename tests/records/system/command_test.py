"""How a command ends: exit codes and what stands on stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_work_gives_the_exit_code() -> None:
    assert _end(None) == 0 and _end(None, code=3) == 3


def test_what_a_user_can_mend_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(ValueError("settings: no such model")) == 1
    assert capsys.readouterr().err == "error: settings: no such model\n"
    assert _end(KeyError("x"), errors=(KeyError,), failure=2) == 2
    with pytest.raises(KeyError):  # a fault of the program
        _end(KeyError("x"))


def test_an_interrupt_tells_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(KeyboardInterrupt(), interrupted="the same command goes on") == 130
    assert capsys.readouterr().err == "the same command goes on\n"
    assert _end(KeyboardInterrupt("from the checkpoint"), interrupted="or begins") == 130
    assert capsys.readouterr().err == "from the checkpoint\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    """As `command | head` does; the pipe's end is closed before anything is printed."""
    code = (
        "import sys\nfrom records.system.command import run_as_command\n"
        "def work():\n    sys.stdin.read()\n    print('x' * 2**20)\n"
        "sys.exit(run_as_command(work, tensorflow=False))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1
