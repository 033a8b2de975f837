"""The commands in error messages: they build the set that is damaged, and in its place."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from records.sets.hints import rebuild_hint, verify_hint


def _write(folder: Path, **info: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def test_command_builds_into_the_same_folder(tmp_path: Path) -> None:
    data_dir = tmp_path / "my data"
    folder = _write(
        data_dir / "fetal_health" / "kaggle" / "1.0.0",
        name="fetal_health",
        configName="kaggle",
        version="1.0.0",
    )
    text, command = rebuild_hint(folder).split(": ", 1)
    assert text == "Build the set again"
    assert shlex.split(command) == [
        *("tfds", "build", "builders/fetal_health", "--config", "kaggle"),
        *("--data_dir", str(data_dir), "--overwrite"),
    ]


def test_set_without_configs(tmp_path: Path) -> None:
    module = "tensorflow_datasets.image_classification.mnist"
    folder = _write(tmp_path / "mnist" / "3.0.1", name="mnist", moduleName=module, version="3.0.1")
    command = rebuild_hint(folder).split(": ", 1)[1]
    assert command == f"tfds build mnist --data_dir {shlex.quote(str(tmp_path))} --overwrite"


def test_set_of_another_builder_gets_no_command_of_ours(tmp_path: Path) -> None:
    folder = _write(tmp_path / "own" / "1.0.0", name="own", moduleName="own.own", version="1.0.0")
    assert "tfds build" not in rebuild_hint(folder)
    assert "own" in rebuild_hint(folder) and "--overwrite" in rebuild_hint(folder)


def test_copied_set_is_not_built_beside_its_copy(tmp_path: Path) -> None:
    info = {"name": "fetal_health", "configName": "kaggle", "version": "1.0.0"}
    hint = rebuild_hint(_write(tmp_path / "copy", **info))
    assert "tfds build builders/fetal_health --config kaggle" in hint
    assert "--data_dir" not in hint and hint.endswith(f"copy it to {tmp_path / 'copy'}")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 3}', '{"name": "' + "x" * 5000 + '"}'])
def test_damaged_metadata_give_a_plain_hint(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset_info.json").write_text(text)
    assert rebuild_hint(tmp_path) == "Build the set again, with --overwrite"


def test_verify_hint_is_quoted(tmp_path: Path) -> None:
    folder = str(tmp_path / "a b")
    command = verify_hint(folder).split(": ", 1)[1].split(" (")[0]
    assert shlex.split(command) == ["python", "-m", "records.verify", folder]
