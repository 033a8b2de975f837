"""Each private part of TFDS is there. What a build writes with them is tested beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

import builders  # noqa: F401 - registers the provider
from builders.tfds_private import ShardedDownloadConfig, manual_directory


def test_a_split_gets_at_most_a_shard_for_each_example() -> None:
    config = ShardedDownloadConfig(num_shards=4).get_shard_config()
    assert [config.get_number_shards(10**9, n) for n in (2, 4, 100)] == [2, 4, 4]


def test_a_manual_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    manager = tfds.download.DownloadManager(
        download_dir=tmp_path, manual_dir=missing, manual_dir_instructions="unpack"
    )
    with pytest.raises(AssertionError):
        _ = manager.manual_dir
    assert manual_directory(manager) == missing
    missing.mkdir()
    (missing / "file").touch()
    assert manual_directory(manager) == missing == Path(manager.manual_dir)


@pytest.mark.parametrize("hook", ["_download_and_prepare", "_generate_splits"])
def test_tfds_has_the_hooks_that_the_base_overrides(hook: str) -> None:
    assert callable(getattr(tfds.core.GeneratorBasedBuilder, hook, None))


def test_our_provider_is_asked_first() -> None:
    found = registered.imported_builder_cls("fetal_health")
    assert found.__module__ == "builders.fetal_health.fetal_health_dataset_builder"
