"""A run folder belongs to one configuration and, while it trains, to one process."""

import json
from pathlib import Path

import pytest

from train.folders.run_folder import RunFolder
from train.settings.config import TrainConfig


def test_a_start_that_fails_claims_nothing(tmp_path: Path) -> None:
    first = RunFolder(str(tmp_path / "run"), TrainConfig(seed=1), "data")
    first.keep_resolved({"precision": "float32"})
    assert not any(first.path.iterdir()), "nothing is written before `claim`"
    del first
    second = RunFolder(str(tmp_path / "run"), TrainConfig(seed=2), "data")
    second.claim()
    assert json.loads((second.path / "config.json").read_text())["seed"] == 2


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), TrainConfig(), "data")
    with pytest.raises(ValueError, match="another process trains"):
        RunFolder(str(tmp_path), TrainConfig(), "data")
    folder.claim()
    del folder
    RunFolder(str(tmp_path), TrainConfig(), "data")


def test_what_auto_became_stays(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), TrainConfig(), "data")
    assert folder.keep_resolved({"precision": "float32"}) == {"precision": "float32"}
    folder.keep_resolved({"shuffle_block": None})
    folder.claim()
    del folder
    again = RunFolder(str(tmp_path), TrainConfig(), "data")
    kept = again.keep_resolved({"precision": "mixed_float16", "shuffle_block": 3})
    assert kept == {"precision": "float32", "shuffle_block": None}


def test_cache_and_memory_may_change_and_settings_may_not(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), TrainConfig(cache="device"), "data")
    folder.claim()
    del folder
    RunFolder(str(tmp_path), TrainConfig(cache="none", memory_budget=1e9), "data")
    with pytest.raises(ValueError, match="shuffle_block: None, now 64"):
        RunFolder(str(tmp_path), TrainConfig(shuffle_block=64), "data")
    with pytest.raises(ValueError, match="data_fingerprint"):
        RunFolder(str(tmp_path), TrainConfig(), "other data")
