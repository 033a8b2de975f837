"""Whether an output can be written is asked before the work: here before there are any data."""

from pathlib import Path
from typing import Any

import pytest

from records.verify import __main__ as verify
from train import baseline, cross_validate, export, predict, results, sweep

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


def test_the_runs_of_folds_have_a_folder_of_their_own() -> None:
    names = {"a.json": "a", "a": "a-folds", "b/c.d.json": "b/c.d"}
    for output, folder in names.items():
        assert cross_validate._folds_folder(Path(output)) == Path(folder)
