"""Every command that is printed runs as printed: a shell splits it, and its program takes it."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.fetal_health.synthetic import write_csv
from records.service.__main__ import parse_arguments as parse_service
from records.sets.hints import prepare_hint, rebuild_hint, verify_hint
from records.verify.__main__ import find_sets
from records.verify.__main__ import main as verify
from tests.support.settings import make_settings
from train import baseline, cross_validate, evaluate, predict, results, run
from train.engine.console import print_summary
from train.folders.stored_config import read_metrics
from train.measures.evaluation_summary import print_summary as print_evaluation
from train.settings.command_line import RUN, format_command

ODD = "a b/it's $HOME"


def _arguments(command: str, program: str) -> list[str]:
    """The arguments of a printed command, as a shell gives them to `program`."""
    words = shlex.split(command)
    begin = shlex.split(program)
    assert words[: len(begin)] == begin, command
    return words[len(begin) :]


def _metrics(**others: Any) -> dict[str, Any]:
    seconds = dict.fromkeys(("setup", "input", "step", "rest"), 0.0)
    return {"seconds": seconds, "input_share": 0.0, **others}


def test_a_runs_hints(capsys: Any) -> None:
    print_summary(_metrics(damaged={"train": {"examples": 1}}), Path(ODD), ODD)
    lines = capsys.readouterr().out.splitlines()
    (line,) = [x for x in lines if "train.evaluate" in x]
    arguments = _arguments(line.split("   ")[-2].strip(), "python -m train.evaluate")
    found = evaluate.parse_arguments(arguments)
    assert (found.run, found.data_dir, found.on_corrupt) == (ODD, ODD, "skip")
    (line,) = [x for x in lines if "tensorboard" in x]
    assert _arguments(line.strip(), "tensorboard --logdir") == [f"{ODD}/tensorboard"]
    print_summary(_metrics(damaged={}), Path("runs/x"), None)
    assert "python -m train.evaluate runs/x   " in capsys.readouterr().out


def test_hints_lead_from_a_run_to_its_evaluation_predictions_and_page(
    finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    """Each is run as it was printed."""
    folder = Path(shutil.copytree(finished_runs["fetal_health"], tmp_path / "it's a run"))
    print_summary(read_metrics(folder), folder, str(synthetic_data_dir))
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "train.evaluate" in x]
    words = _arguments(line.split("   ")[-2].strip(), "python -m train.evaluate")
    assert evaluate.main([*words, "--resamples=2", "--least-recall=pathological=0.9"]) == 0
    flags = _arguments(capsys.readouterr().out.partition("train.predict as ")[2].split("\n")[0], "")
    write_csv(tmp_path)
    output = tmp_path / "out.csv"
    source = str(tmp_path / "fetal_health.csv")
    assert predict.main([str(folder), source, f"--output={output}", *flags]) == 0
    limit = float(flags[1].partition("=")[2])
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row["predicted"] == "pathological" for row in rows]
    above = [float(row["probability_pathological"]) >= limit for row in rows]
    assert any(chosen) and sum(a != b for a, b in zip(chosen, above, strict=True)) <= 1  # rounded
    evaluation = folder / "evaluation-validation" / "evaluation.json"
    whole = evaluation.read_bytes()
    evaluation.write_text("{}")
    page = [f"--runs={folder}", f"--output={tmp_path / 'RESULTS.md'}"]
    assert results.main(page) == 1
    command = capsys.readouterr().err.partition("Write it anew: ")[2]
    words = _arguments(command, "python -m train.evaluate")
    assert evaluate.main([*words, "--resamples=2", "--least-recall=pathological=0.9"]) == 0
    assert evaluation.read_bytes() == whole and results.main(page) == 0


def test_the_data_services_commands() -> None:
    """What an error of the trainer or of a worker says to start."""
    for printed in ("dispatcher --port 5050 --expose", "worker --dispatcher a:1 --index 0 --of 2"):
        assert parse_service(printed.split()).command == printed.split()[0]


def test_the_best_settings_of_a_sweep() -> None:
    settings = make_settings(dataset=ODD, data_dir=ODD, hidden=(64, 32), feature="a feature")
    command = format_command(RUN, settings.asked.to_dict() | {"model": "mlp"}, data_dir=ODD)
    found = run.parse_config(_arguments(command, "python -m train.run"))
    assert (found.dataset, found.data_dir, found.hidden) == (ODD, ODD, (64, 32))
    assert found.feature == "a feature"


def test_a_threshold_of_a_class_that_a_shell_would_take_for_a_file(capsys: Any) -> None:
    decision = {"least_recall": ">50K=0.9", "threshold": 0.29, "without": {}, "with": {}}
    found: dict[str, Any] = {
        "examples": 3,
        "split": "test",
        "bootstrap": dict.fromkeys(("resamples", "drawn", "seed"), 1) | {"percent": 95, "units": 3},
        "metrics": {"recall": {">50K": 0.5}},
        "intervals": {"recall": {">50K": [0.4, 0.6]}},
        "decision": decision,
    }
    print_evaluation(found, Path("e"), "split test")
    line = next(x for x in capsys.readouterr().out.splitlines() if "--threshold" in x)
    words = _arguments(line[line.index("--threshold") :], "")
    assert words == ["--threshold", ">50K=0.29"]
    assert predict.parse_arguments(["run", "in.csv", *words]).threshold == ">50K=0.29"


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("fetal_health", "tfds build builders/fetal_health --config kaggle --data_dir D"),
        ("song_lyrics/by_artist/1.0.0", "tfds build builders/song_lyrics --config by_artist"),
        ("my_own", "tfds build my_own --data_dir D"),
        ("my_own/small", "tfds build my_own --config small --data_dir D"),
        ("mnist", "tfds build mnist --data_dir D (where TFDS ships it"),
    ],
)
def test_a_set_that_is_not_there(
    dataset: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dataset.startswith("my_own"):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "my_own").mkdir()
        (tmp_path / "my_own" / "my_own_dataset_builder.py").touch()
    assert prepare_hint(dataset, "D").startswith(expected)


def test_hints_name_a_builder_by_the_path_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    builder = _arguments(prepare_hint("fetal_health", ODD), "tfds build")[0]
    assert (tmp_path / builder / "fetal_health_dataset_builder.py").is_file()


def test_a_damaged_sets_commands(synthetic_data_dir: Path, capsys: Any) -> None:
    folder = synthetic_data_dir / "fetal_health" / "synthetic" / "1.0.0"
    command = verify_hint(folder).split(": ", 1)[1].split(" (")[0]
    assert verify(_arguments(command, "python -m records.verify")) == 0
    command = rebuild_hint(folder).split(": ", 1)[1]
    builder = _arguments(command, "tfds build")[0]
    assert (Path(builder) / "fetal_health_dataset_builder.py").is_file()
    # From a data folder down to one version: whatever a user names is found.
    for place in (folder, folder.parent, folder.parent.parent):
        assert find_sets(str(place)) == [str(folder)]


def test_what_passes_over_damaged_records_is_taken_by_all_that_are_hinted_at() -> None:
    flag = ["--on-corrupt", "skip"]
    parsers: dict[Callable[[list[str]], Any], list[str]] = {
        run.parse_config: [],
        evaluate.parse_arguments: ["runs/x"],
        baseline.parse_arguments: ["--dataset", "x"],
    }
    for parse, others in parsers.items():
        assert parse([*others, *flag]).on_corrupt == "skip"
    assert cross_validate.parse_arguments(flag).config.on_corrupt == "skip"


def test_no_printed_command_has_a_name_in_capitals_for_a_builder() -> None:
    """`builders/NAME` is no path of anybody."""
    root = Path(__file__).resolve().parents[2]
    for path in [*root.glob("records/**/*.py"), *root.glob("train/**/*.py")]:
        assert not re.search(r"tfds build builders/\{?NAME", path.read_text()), path
