"""What a user sees of a set that has lost a part, or names what is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from records.opened import open_set
from records.sets.fingerprint import write_fingerprint
from records.verify.__main__ import main
from tests.support.faults import record_fault
from tests.support.fuzz_inputs import frame_records
from tests.support.tiny_sets import build_tiny

SPEC = {
    "values": tfds.features.Tensor(shape=(2,), dtype=np.float32),
    "who": tfds.features.Scalar(np.int64),
    "label": tfds.features.ClassLabel(names=["no", "yes"]),
}
ROWS = [{"values": [i, 1], "who": i // 3, "label": i % 2} for i in range(20)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A sound set with an index and a fingerprint."""
    splits = {"train": ROWS[:12], "test": ROWS[12:]}
    named = {"group_feature": "who", "input_feature": "values"}
    folder = build_tiny(tmp_path / "data", SPEC, splits, **named)
    for split in splits:
        open_set(folder).read_index(split)
    write_fingerprint(folder)
    return Path(folder)


def _shards(folder: Path) -> tuple[Path, Path]:
    return next(folder.glob("*train*-of-*")), next(folder.glob("*test*-of-*"))


def _cut_record(folder: Path) -> None:
    shard, size = _shards(folder)[0], _shards(folder)[0].stat().st_size // 12
    data = shard.read_bytes()  # all records have one size
    shard.write_bytes(data[: 3 * size] + data[4 * size :])


def _put_record_in(folder: Path) -> None:
    shard = _shards(folder)[0]
    shard.write_bytes(frame_records([b"not of this set"]) + shard.read_bytes())


def _make_folder(folder: Path) -> None:
    shard = _shards(folder)[0]
    shard.unlink()
    shard.mkdir()


def _exchange(folder: Path) -> None:
    a, b = _shards(folder)
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)


def _lose_split(folder: Path) -> None:
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] == "train"]
    (folder / "dataset_info.json").write_text(json.dumps(info))


def _misname_group(folder: Path) -> None:
    (folder / "metadata.json").write_text('{"group_feature": "patient"}')


NAMED = "verify exits with 1"
REFUSED = "verify exits with 1; training and --repair refuse"
FAULTS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a record cut out of a shard": (
        _cut_record,
        "damaged: ",
        "this record alone is lost to --repair and --on-corrupt skip",
    ),
    "a record put into a shard": (_put_record_in, "wrong: ", "it is left out; nothing is lost"),
    "a folder in a shard's place": (_make_folder, "damaged: ", "its records are lost"),
    "shards of two splits exchanged, --repair": (_exchange, "shards: ", "no copy is written"),
    "a split gone from dataset_info.json": (_lose_split, "wrong: ", REFUSED),
    "dataset_info.json gone": (
        lambda folder: (folder / "dataset_info.json").unlink(),
        "wrong: ",
        NAMED,
    ),
    "class names gone": (lambda folder: (folder / "label.labels.txt").unlink(), "wrong: ", REFUSED),
    "metadata.json damaged": (
        lambda folder: (folder / "metadata.json").write_text("null"),
        "wrong: ",
        REFUSED,
    ),
    "a group feature that is not there": (_misname_group, "wrong: ", REFUSED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_set_is_said(
    directory: Path, tmp_path: Path, fault: str, capsys: Any
) -> None:
    damage, start, outcome = FAULTS[fault]
    damage(directory)
    assert main([str(directory), "--repair", str(tmp_path / "repaired")]) == 1
    printed = capsys.readouterr().out
    line = next(s for s in map(str.strip, printed.splitlines()) if start in s[: len(start) + 9])
    record_fault(fault, line, outcome, tmp_path)
    is_refused = outcome == REFUSED
    assert (tmp_path / "repaired").exists() == outcome.startswith(("this record", "it is left"))
    if is_refused:
        for skip in (False, True):
            with pytest.raises(ValueError):
                open_set(str(directory), skip_damaged=skip)
