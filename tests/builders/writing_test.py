"""Writing a split: the same bytes on any number of processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming

from builders import writing
from builders.tfds_private import ShardedDownloadConfig

_FEATURES = tfds.features.FeaturesDict(
    {
        "ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
        "text": tfds.features.Text(),
    }
)


def _example(number: int) -> tuple[str, dict[str, Any]]:
    accent = "" if number % 7 else "é"
    ids = np.arange(number % 5, dtype=np.int32)
    return f"key {number}", {"ids": ids, "label": "ab"[number % 2], "text": f"{accent}{number}"}


def _write(folder: Path, examples: Iterable[Any], **options: Any) -> list[bytes]:
    folder.mkdir()
    template = naming.ShardedFileTemplate(
        data_dir=folder, dataset_name="set", split="train", filetype_suffix="tfrecord"
    )
    request = ShardedDownloadConfig(num_shards=3, **options)
    info = writing.write_split("train", examples, _FEATURES, template, request)
    shards = sorted(folder.iterdir())
    counts = [sum(1 for _ in tf.data.TFRecordDataset(str(s))) for s in shards]
    assert counts == list(info.shard_lengths) and len(shards) == 3
    return [s.read_bytes() for s in shards]


def test_pool_writes_the_bytes_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = list(range(1500))
    in_pool = _write(tmp_path / "pool", writing.NumberedExamples(numbers, _example))
    assert in_pool == _write(tmp_path / "plain", map(_example, numbers))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert in_pool == _write(tmp_path / "one", writing.NumberedExamples(numbers, _example))


def test_at_most_the_examples_asked_for(tmp_path: Path) -> None:
    numbers = list(range(2000))
    few = _write(tmp_path / "few", map(_example, numbers[:1100]))
    numbered = writing.NumberedExamples(numbers, _example)
    assert few == _write(tmp_path / "pool", numbered, max_examples_per_split=1100)
    assert few == _write(tmp_path / "plain", map(_example, numbers), max_examples_per_split=1100)


def test_a_bad_example_is_shown_also_from_a_worker(tmp_path: Path) -> None:
    def make(number: int) -> tuple[str, dict[str, Any]]:
        key, example = _example(number)
        return key, example | ({"label": "c"} if number == 900 else {})

    for name, numbers in (("pool", range(1500)), ("one", range(899, 902))):
        with pytest.raises(Exception, match=r"(?s)Failed to encode example:.*'label': 'c'"):
            _write(tmp_path / name, writing.NumberedExamples(list(numbers), make))
