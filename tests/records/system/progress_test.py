"""The progress line of long work."""

from __future__ import annotations

import io

import pytest

from records.system import progress


def test_share_rate_and_time_left(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.Progress(40, "epoch 2/9", "examples", 1 / 32) as line:
        now += 4.0
        line.add(10)
        now += 600.0
        line.add(1)
    assert terminal.getvalue() == (
        "\r  epoch 2/9: 25%, 80 examples/s, 0:12 left\033[K"
        "\r  epoch 2/9: 28%, 0.58 examples/s, 26:32 left\033[K"
        "\r\033[K"
    )


def test_a_log_has_a_line_every_thirty_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.Progress(40, "epoch 2/9", "examples", 1 / 32, later=280) as line:
        for _ in range(4):
            now += 20.0
            line.add(5, "loss 0.5")
    assert capsys.readouterr() == (
        "",
        "  epoch 2/9: 25%, 8 examples/s, 2:00 left, 20:40 of the run, loss 0.5\n"
        + ("  epoch 2/9: 50%, 8 examples/s, 1:20 left, 20:00 of the run, loss 0.5\n"),
    )


def test_the_line_is_cleared_before_an_error(terminal: io.StringIO) -> None:
    with pytest.raises(ValueError, match="here"), progress.Progress(3, "a", "b") as line:
        line.add(1)
        raise ValueError("here")
    assert terminal.getvalue().endswith("\r\033[K")
