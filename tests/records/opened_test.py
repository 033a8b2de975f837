"""A set is opened once: its shards are hashed once at most, and errors name the damaged record."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from records.decoding.input_config import InputConfig
from records.opened import OpenedSet, open_set
from records.roles import Data, Fold
from records.sets import fingerprint
from records.sets.find import find_directory
from records.sets.fingerprint import Change, FingerprintMismatch


@pytest.fixture
def copied(synthetic_data_dir: Path, tmp_path: Path) -> Path:
    source = find_directory("fetal_health/synthetic", str(synthetic_data_dir))
    target = tmp_path / "copied"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("decoded"))
    return target


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are hashed, one entry each time."""
    names: list[str] = []
    hash_file = fingerprint._hash_file

    def counted(path: Path) -> str:
        names.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(fingerprint, "_hash_file", counted)
    return names


@pytest.mark.parametrize("skip_damaged", [False, True])
def test_copy_with_new_times_is_hashed_once(
    copied: Path, hashed: list[str], skip_damaged: bool
) -> None:
    for path in copied.glob("*-of-*"):
        os.utime(path, ns=(0, 0))
    opened = open_set(str(copied), skip_damaged=skip_damaged)
    _use_all(opened)
    assert sorted(hashed) == sorted(p.name for p in copied.glob("*-of-*"))


def test_set_without_fingerprint_is_hashed_once_and_only_when_needed(
    copied: Path, hashed: list[str]
) -> None:
    stored = open_set(str(copied)).fingerprint
    (copied / fingerprint.FILE_NAME).unlink()
    opened = open_set(str(copied))
    opened.read_index("train")
    assert not hashed
    _use_all(opened)
    assert opened.fingerprint == stored
    assert sorted(hashed) == sorted(p.name for p in copied.glob("*-of-*"))


def _use_all(opened: OpenedSet) -> None:
    """Decodes all splits, on two levels, and of all of them together."""
    for cache in ("memory", "disk"):
        data = Data(opened, InputConfig(cache=cache))
        for role in data.roles():
            data.examples(role)
    Data(opened, InputConfig(), 0, Fold(0, 5, pooled=True)).examples("train")
    assert opened.fingerprint


def test_damaged_set_is_refused_and_the_record_named(copied: Path) -> None:
    opened = open_set(str(copied))
    index = opened.read_index("train")
    shard, at = Path(index.paths[0]), int(index.offset[3])
    data = bytearray(shard.read_bytes())
    data[at + 20] ^= 1
    shard.write_bytes(data)
    os.utime(shard, ns=(0, 0))
    with pytest.raises(FingerprintMismatch) as error:
        open_set(str(copied))
    assert error.value.path == shard and error.value.difference.change is Change.CONTENT
    text = str(error.value)
    assert f"first damaged record is number 3 at byte {at}: its payload does not match" in text
    skipping = open_set(str(copied), skip_damaged=True)
    assert skipping.shards.differing[shard.name].change is Change.CONTENT
    marked = skipping.read_index("train")
    assert marked.damaged is not None and marked.damaged.nonzero()[0].tolist() == [3]
    assert dataclasses.replace(skipping).read_index("train") is marked, "read once"


def test_missing_shard_is_refused(copied: Path) -> None:
    shard = next(copied.glob("*-train.*-of-*"))
    shard.unlink()
    with pytest.raises(FingerprintMismatch) as error:
        open_set(str(copied))
    assert error.value.path == shard and error.value.difference.change is Change.MISSING
