"""The command: what it prints, what it refuses, and that a set is there whole or not at all."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from builders.convert import converted_set
from builders.convert.__main__ import main, parse_arguments
from records.sets.find import name_from_path
from records.sets.fingerprint import check_shards
from records.sets.hints import has_fingerprint_when_built, rebuild_hint
from records.sets.origin import hash_source, read_origin
from tests.support.adult_table import make_rows, write_table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "My table (é) 2.csv", make_rows(60))


def test_it_prints_what_it_found_and_a_dry_run_writes_nothing(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(table), "--data-dir", str(tmp_path / "data"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for line in (
        "a table of 60 rows, columns parted by ','",
        "label: income (guessed: the last column; another: --label COLUMN)",
        "  education       category of 4",
        "2 classes",
        "splits: train 4",
    ):
        assert line in said
    assert not (tmp_path / "data").exists()


def test_a_set_is_replaced_only_when_asked_to_and_kept_when_that_fails(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--name", "mine", "--data_dir", str(tmp_path / "data")]
    set_ = tmp_path / "data/mine/1.0.0"
    assert main([str(table), *flags]) == 0
    content = check_shards(set_).content
    write_table(table, make_rows(90))
    assert main([str(table), *flags]) == 1
    assert f"error: convert: {set_} is there already" in capsys.readouterr().err
    make = converted_set._make_example

    def fail(row: Any, **how: Any) -> Any:
        if row[0].name == "row-000041":
            raise OSError("the disk is gone")
        return make(row, **how)

    with monkeypatch.context() as patch:
        patch.setattr(converted_set, "_make_example", fail)
        assert main([str(table), *flags, "--overwrite"]) == 1
        assert main([str(table), "--name", "other", "--data_dir", str(tmp_path / "data")]) == 1
    assert "the disk is gone" in capsys.readouterr().err
    assert check_shards(set_).content == content
    assert [path.name for path in set_.parent.iterdir()] == ["1.0.0"]
    assert list((tmp_path / "data/other").iterdir()) == []
    (set_ / "dataset_info.json").write_text("{")  # TFDS would read it first
    assert main([str(table), *flags, "--overwrite"]) == 0
    assert check_shards(set_).content != content


def test_a_damaged_set_says_how_it_is_converted_again(table: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    flags = [str(table), "--name", "mine", "--data_dir", str(data), "--drop", "age", "--missing=-"]
    assert main(flags) == 0
    hint = rebuild_hint(data / "mine/1.0.0")
    assert hint.startswith("Convert its files again: python -m builders.convert ")
    again = shlex.split(hint.partition("builders.convert ")[2])
    assert again[-1] == "--overwrite"
    expected = parse_arguments([*flags, "--overwrite"])
    assert parse_arguments(again) == expected and expected.drop == ["age"]
    origin = read_origin(data / "mine/1.0.0")
    assert origin is not None and origin["sha256"] == hash_source(table)
    assert has_fingerprint_when_built(data / "mine/1.0.0")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("My table (é) 2.csv", "my_table_e_2"),
        ("2024 photos", "set_2024_photos"),
        ("日本.csv", "set"),
        ("a.b.CSV", "a_b"),
        ("fetal_health.csv", "fetal_health_files"),
    ],
)
def test_names_of_sets_are_made_of_paths(tmp_path: Path, path: str, name: str) -> None:
    assert name_from_path(tmp_path / path) == name
    assert parse_arguments([path]).name == name


def test_a_set_is_no_source(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "my_set" / "1.0.0").mkdir(parents=True)
    (tmp_path / "my_set" / "1.0.0" / "dataset_info.json").touch()
    assert main([str(tmp_path / "my_set"), f"--data_dir={tmp_path}", "--dry_run"]) == 1
    said = f"received a folder of prepared sets: name {tmp_path}/my_set/1.0.0"
    assert said in capsys.readouterr().err


def test_groups_that_are_too_few_for_a_test_split_are_told(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "a.csv"
    rows = [f"{i},{i % 2},{'xy'[i % 2]}" for i in range(40)]
    file.write_text("\n".join(["n,who,label", *rows]) + "\n")
    arguments = [str(file), f"--data_dir={tmp_path}", "--dry_run", "--label", "label"]
    for flags in ([], ["--group", "who"]):
        assert main([*arguments, *flags]) == 0
        printed = capsys.readouterr().out
        assert ("warning: no split test: a group" in printed) == ("test " not in printed)


def test_names_are_those_of_a_utf8_locale_in_every_locale(tmp_path: Path) -> None:
    """In an ASCII locale Python keeps the bytes of what is no ASCII as they are."""
    read = "Müller Bücher.csv".encode().decode("ascii", "surrogateescape")
    assert name_from_path(Path(read)) == "muller_bucher"
    assert name_from_path(tmp_path / "Müller Bücher.csv") == "muller_bucher"


def test_folders_keep_their_dots(tmp_path: Path) -> None:
    (tmp_path / "photos.2020").mkdir()
    assert name_from_path(tmp_path / "photos.2020") == "photos_2020"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--name", "My Set"], "--name expected a-z, 0-9 and _"),
        (["--test_share", "1"], r"--test_share expected a share in \[0, 1\)"),
        (["--max-side", "5000"], "--max_side expected 16 to 4096"),
        (["--labels", "x"], "unrecognized arguments"),
    ],
)
def test_wrong_flags_end_the_command(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["a.csv", *flags])
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "expected a folder for each class, received nothing"),
        ({"train.csv": "a,b"}, "expected a folder for each class, received 'train.csv'"),
        ({"a/x.pdf": "", "b/y.pdf": ""}, "expected pictures .* or texts .* received 2 other files"),
        ({"a/x.txt": "some words"}, "two classes or more, received one: 'a'. .*source/a"),
        ({"train/x.txt": "words", "test/y.txt": ""}, "received none there; .* 'test/y.txt'"),
    ],
)
def test_folders_that_cannot_be_understood(
    tmp_path: Path, files: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, text in files.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    assert main([str(source), "--data_dir", str(tmp_path / "data")]) == 1
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "data").exists()


def test_names_of_builders_and_files_that_are_not_there(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(table), "--name", "fetal_health", "--data_dir", str(tmp_path)]) == 1
    assert main([str(tmp_path / "gone.csv"), "--data_dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "--name fetal_health is taken by a builder" in said and "gone.csv is not there" in said
