"""A missing set is prepared by the builder that is known for it; an edited builder is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from records.sets.builder_source import source_change, write_source_hash
from train.settings import prepare as module
from train.settings.prepare import prepare


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A working directory with a builder `my_own`, and what `tfds` is called with."""
    calls: list[list[str]] = []

    def build(flags: list[str]) -> int:
        calls.append(flags)
        config = [flags[flags.index("--config") + 1]] if "--config" in flags else []
        folder = Path(flags[flags.index("--data_dir") + 1], "my_own", *config, "1.0.0")
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{}")
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run_tfds", build)
    (tmp_path / "my_own").mkdir()
    (tmp_path / "my_own" / "my_own_dataset_builder.py").write_text("VERSION = 1\n")
    (tmp_path / "files").mkdir()
    return calls


@pytest.mark.parametrize("config", [[], ["--config", "small"]])
def test_a_set_of_ones_own_is_prepared_where_its_builder_lies_here(
    asked: list[list[str]], config: list[str], capsys: Any
) -> None:
    name = "/".join(["my_own", *config[1:]])
    found = prepare(name, "data", "files")
    flags = ["build", "my_own", *config, "--data_dir", "data", "--manual_dir", "files"]
    assert asked == [flags]
    assert found == f"data/{name}/1.0.0"
    assert f"tfds {' '.join(flags)}" in capsys.readouterr().out
    assert prepare(name, "data", "files") == found and len(asked) == 1
    assert capsys.readouterr().out == ""


def test_code_that_lies_here_runs_only_where_that_was_asked_for(asked: list[list[str]]) -> None:
    with pytest.raises(FileNotFoundError, match="Prepare it with: tfds build my_own --data_dir"):
        prepare("my_own", "data", None)
    with pytest.raises(FileNotFoundError, match="--manual-dir expected the folder"):
        prepare("my_own", "data", "no_such_folder")
    assert asked == []


def test_an_edited_builder_is_told(asked: list[list[str]], capsys: Any) -> None:
    prepare("my_own", "data", "files")
    builder = Path("my_own")
    (builder / "my_own_dataset_builder_test.py").write_text("a test")
    capsys.readouterr()
    prepare("my_own", "data", None)
    assert capsys.readouterr().out == ""
    (builder / "my_own_dataset_builder.py").write_text("VERSION = 1  # other rows\n")
    prepare("my_own", "data", None)
    said = capsys.readouterr().out
    assert said.startswith("note: the builder in my_own was edited after data/my_own/1.0.0 was")
    assert "--overwrite" in said and "new VERSION" in said
    write_source_hash("data/my_own/1.0.0", builder)
    assert source_change("data/my_own/1.0.0", builder) == ""
    assert source_change("data", builder) == "", "no set"


def test_where_tfds_alone_built_the_set_times_tell_once_and_then_a_hash(
    asked: list[list[str]],
) -> None:
    folder, builder = Path("data/my_own/1.0.0"), Path("my_own")
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").touch()
    built = (folder / "dataset_info.json").stat().st_mtime
    source = builder / "my_own_dataset_builder.py"
    os.utime(source, (built + 10, built + 10))
    said = source_change(folder, builder)
    assert said.startswith("the builder in my_own has files that are newer than data/my_own/1.0.0")
    assert "tfds build kept no hash" in said and "--overwrite" in said
    os.utime(source, (built - 10, built - 10))
    assert source_change(folder, builder) == ""
    # From now on its content counts: a checkout gives files the time of day.
    os.utime(source, (built + 10, built + 10))
    assert source_change(folder, builder) == ""
    source.write_text("VERSION = 1  # other rows\n")
    os.utime(source, (built - 10, built - 10))
    said = source_change(folder, builder)
    assert said.startswith("the builder in my_own was edited after data/my_own/1.0.0 was built")
