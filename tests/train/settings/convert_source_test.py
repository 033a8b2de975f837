"""Files in place of a set: converted once, used again while they are the same."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from builders.convert.__main__ import main
from records.sets.find import find_directory
from records.sets.schema import read_schema
from tests.support.adult_table import make_rows, write_table
from train.run import parse_config
from train.settings import convert_source as module
from train.settings.convert_source import convert_source


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A working directory, and the commands that were run; each runs in this process."""
    found: list[str] = []

    def run(command: str) -> int:
        found.append(command)
        python, m, name, *arguments = shlex.split(command)
        assert (python, m, name) == ("python", "-m", "builders.convert")
        return main(arguments)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run_printed", run)
    return found


def test_files_are_converted_once(commands: list[str], capsys: Any) -> None:
    path = str(write_table(Path("My table.csv"), make_rows(60)))
    assert convert_source(path, "data") == "my_table"
    command = "python -m builders.convert 'My table.csv' --name my_table --data_dir data"
    assert commands == [command]
    out = capsys.readouterr().out
    assert out.startswith(f"My table.csv is no prepared set yet: {command}\n")
    assert convert_source(path, "data") == "my_table" and len(commands) == 1
    said = "My table.csv was converted before: data/my_table/1.0.0 is used\n"
    assert capsys.readouterr().out == said
    assert sum(read_schema(find_directory("my_table", "data")).split_counts.values()) == 60
    write_table(Path(path), make_rows(61))
    with pytest.raises(
        ValueError, match="was made of other files than My table.csv holds"
    ) as error:
        convert_source(path, "data")
    again = str(error.value).partition("again: ")[2].partition("; or")[0]
    assert main(shlex.split(again)[3:]) == 0
    assert convert_source(path, "data") == "my_table"
    assert sum(read_schema(find_directory("my_table", "data")).split_counts.values()) == 61


def test_a_folder_is_known_by_its_files(commands: list[str]) -> None:
    for name in ("good/a.txt", "good/b.txt", "bad/a.txt"):
        Path("texts", name).parent.mkdir(parents=True, exist_ok=True)
        Path("texts", name).write_text(f"some words in {name}")
    assert convert_source("texts", "data") == "texts" == convert_source("./texts", "data")
    assert len(commands) == 1
    Path("texts/bad/c.txt").write_text("more")
    with pytest.raises(ValueError, match="made of other files than texts holds now"):
        convert_source("texts", "data")


def test_names_and_folders_of_sets_stay_what_they_are(
    commands: list[str], synthetic_data_dir: Path
) -> None:
    Path("fetal_health").mkdir()
    write_table(Path("fetal_health/a.csv"), make_rows(10))
    for dataset in (
        "fetal_health/synthetic",
        "fetal_health",
        "no_such_set",
        str(synthetic_data_dir / "fetal_health"),
        find_directory("fetal_health/synthetic", str(synthetic_data_dir)),
    ):
        assert convert_source(dataset, str(synthetic_data_dir)) == dataset
    assert commands == []


def test_what_needs_a_flag_says_so(commands: list[str], capsys: Any) -> None:
    rows = [[*row[:4], f"{n}.5"] for n, row in enumerate(make_rows(60))]
    path = str(write_table(Path("a.csv"), rows))
    with pytest.raises(ValueError, match="a.csv could not be converted.* --dataset a$"):
        convert_source(path, "data")
    assert "Name it with --label" in capsys.readouterr().err
    main([path, "--label", "education", "--data_dir", "data"])
    assert convert_source(path, "data") == "a" and len(commands) == 1


def test_another_set_of_the_name_is_left_alone(commands: list[str]) -> None:
    write_table(Path("mine.csv"), make_rows(60))
    Path("data/mine/1.0.0").mkdir(parents=True)
    Path("data/mine/1.0.0/dataset_info.json").write_text("{}")
    with pytest.raises(ValueError, match="where another set lies.* --name ANOTHER --data_dir data"):
        convert_source("mine.csv", "data")
    assert commands == []
    # What takes no files says how they become a set.
    with pytest.raises(FileNotFoundError, match="with: python -m builders.convert ./mine.csv --d"):
        find_directory("./mine.csv", "data")


def test_flags_of_the_conversion_come_with_the_training(commands: list[str]) -> None:
    rows = [[*row[:4], f"{n}.5"] for n, row in enumerate(make_rows(60))]
    path = str(write_table(Path("a.csv"), rows))
    config = parse_config(
        ["--dataset", path, "--label", "age", "--drop", "education", "--group", "workclass"]
    )
    assert convert_source(path, "data", config.conversion) == "a"
    assert commands == [
        "python -m builders.convert a.csv --name a --data_dir data --label age --drop education "
        "--group workclass"
    ]
    schema = read_schema(find_directory("a", "data"))
    assert (schema.task, schema.class_names, schema.group_name) == ("regression", ("age",), "group")
    # The same again, or less; not another.
    for asked in (config.conversion, ["--label", "age"], ["--task", "regression"], []):
        assert convert_source(path, "data", asked) == "a" and len(commands) == 1
    with pytest.raises(
        ValueError, match="with --label income, received age. Convert .* --overwrite; or train"
    ) as error:
        convert_source(path, "data", ["--label", "income"])
    again = str(error.value).partition("again: ")[2].partition("; or")[0]
    assert "--group workclass --label income" in again
    for dataset in ("a", "fetal_health/synthetic", "s3://bucket/data/a"):
        with pytest.raises(ValueError, match="--label expected with a file to convert in --data"):
            convert_source(dataset, "data", ["--label", "age"])
