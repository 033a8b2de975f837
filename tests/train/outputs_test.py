"""Outputs and numbers are checked before the work: here before there are any data."""

from pathlib import Path
from typing import Any

import pytest

from records.service import __main__ as service
from records.verify import __main__ as verify
from train import baseline, cross_validate, evaluate, export, predict, results, sweep

FOLDER, FILE = "a folder: name a file in it", "which is a file"


@pytest.mark.parametrize(
    ("command", "arguments", "flag", "wrong"),
    [
        (baseline, ["--dataset=nothing"], "baseline: --output", FOLDER),
        (cross_validate, ["--dataset=nothing"], "cross-validation: --output", FOLDER),
        (results, ["--runs", "nothing"], "results: --output", FOLDER),
        (predict, ["nothing", "nothing.csv"], "predict: --output", FOLDER),
        (export, ["nothing"], "export: --output", FILE),
        (sweep, ["--dataset=nothing"], "sweep: --sweep-dir", FILE),
        (verify, ["nothing"], "verify: --repair", FILE),
    ],
)
def test_an_output_is_checked_first(
    command: Any, arguments: list[str], flag: str, wrong: str, tmp_path: Path, capsys: Any
) -> None:
    place = tmp_path
    if wrong == FILE:
        place = tmp_path / "file"
        place.touch()
    assert command.main([*arguments, f"{flag.partition(': ')[2]}={place}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {flag} expected a ") and f"received {place} ({wrong}" in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"] * (wrong == FILE)


def test_a_link_to_nothing_is_no_folder(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "runs").symlink_to(tmp_path / "gone")
    assert verify.main(["nothing", f"--repair={tmp_path / 'runs'}"]) == 1
    assert f"runs (a link to nothing ({tmp_path / 'gone'}))" in capsys.readouterr().err


def test_the_runs_of_folds_have_a_folder_of_their_own() -> None:
    names = {"a.json": "a", "a": "a-folds", "b/c.d.json": "b/c.d"}
    for output, folder in names.items():
        assert cross_validate._folds_folder(Path(output)) == Path(folder)


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (evaluate, ["run", "--seed=-1"], "--seed expected 0 or more, received -1"),
        (evaluate, ["run", "--percent=100"], "--percent expected a number between 0 and 100, rec"),
        (baseline, ["--dataset=x", "--seed=-1"], "--seed expected 0 to 2^32 - 1, received -1"),
        (cross_validate, ["--seeds", "0", "0"], "--seeds expected different numbers from 0 to"),
        (verify, ["x", "--max-pixels=0"], "--max-pixels expected 1 or more, received 0"),
        (service, ["dispatcher", "--port=70000"], "--port expected 0 to 65535, received 70000"),
    ],
)
def test_a_number_is_checked_first(
    command: Any, arguments: list[str], said: str, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        command.parse_arguments(arguments)
    assert said in capsys.readouterr().err
