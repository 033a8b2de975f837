"""Ids outside their range are named where they stand, and never taken for others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from records.decoding.input_config import InputConfig
from records.decoding.modality import MOST_IDS
from records.describe.__main__ import describe
from records.roles import open_data
from records.verify.check import verify_set
from tests.support.tiny_sets import build_tiny


def _build(folder: Path, ids: list[list[int]], split: str = "train") -> str:
    """Twenty sound records of each split, then those given."""
    spec = {"ids": tfds.features.Sequence(np.int64), "label": tfds.features.ClassLabel(names="ab")}
    sound: list[dict[str, Any]] = [{"ids": [2, 3 + i % 5], "label": i % 2} for i in range(20)]
    splits = {"train": list(sound), "test": list(sound)}
    splits[split] += [{"ids": one, "label": 0} for one in ids]
    return build_tiny(folder, spec, splits)


@pytest.mark.parametrize("wrong", [-1, -(2**63), MOST_IDS, 2**31, 2**32 + 5, 2**63 - 1])
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_an_id_outside_the_range_is_named(tmp_path: Path, wrong: int, cache: str) -> None:
    """2^32 + 5 is 5 in int32, and -1 the last entry of a table."""
    directory = _build(tmp_path, [[7, 8], [9, wrong]], "test")
    data = open_data(directory, config=InputConfig(cache=cache))
    data.examples("train").loader.load(np.arange(20))
    with pytest.raises(ValueError) as error:
        data.examples("test").loader.load(np.arange(22))
    expected = f"ids of feature 'ids' in 0 to {MOST_IDS - 1}, received {wrong}"
    assert re.search(rf"test.*, record 21 at byte \d+: expected {expected}", str(error.value))
    assert "damaged or truncated" not in str(error.value)


def test_what_reads_ids_names_the_record_and_verify_counts_it(tmp_path: Path) -> None:
    directory = _build(tmp_path, [[-1, 4]])
    for read in (
        lambda: open_data(directory).examples("train"),
        lambda: describe(directory, output=str(tmp_path / "figures")),
    ):
        with pytest.raises(ValueError, match=r"record 20 at byte \d+: expected ids of .* -1"):
            read()
    (line,) = verify_set(directory).damage
    assert f"an id lies outside 0 to {MOST_IDS - 1}" in line and "record 20" in line


def test_a_stored_vocabulary_bounds_the_ids(tmp_path: Path) -> None:
    directory = _build(tmp_path, [[9, 8]])
    words = Path(directory) / "ids.vocabulary.txt"
    words.write_text("\n".join(["", "", *"abcdefg"]) + "\n")  # ids 0 to 8
    with pytest.raises(ValueError, match="in 0 to 8, received 9"):
        open_data(directory).examples("train")
    words.write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=rf"^data set: {words}: expected UTF-8"):
        open_data(directory).examples("train")


def test_the_smallest_and_the_largest_id_are_right(tmp_path: Path) -> None:
    """By their frequency: 0 pads, 1 is unknown, the most frequent of the others becomes 2."""
    directory = _build(tmp_path, [[MOST_IDS - 1] * 30 + [0, 1]])
    config = InputConfig(sequence_length=32)
    data = open_data(directory, config=config)
    assert 20 in data.subset("train")[1]
    row = data.examples("train").loader.load(np.array([20]))[0]
    np.testing.assert_array_equal(row, [2] * 30 + [0, 1])
