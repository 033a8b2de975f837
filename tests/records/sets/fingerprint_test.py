"""The fingerprint notices every change of the shards, and no copy of the directory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from records.sets import fingerprint
from records.sets.hints import rebuild_hint, verify_hint


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "demo" / "kaggle" / "1.0.0"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"demo-train.tfrecord-0000{i}-of-00003").write_bytes(bytes([i]) * (100 + i))
    (folder / "features.json").write_text("{}")
    (folder / "dataset_info.json").write_text('{"name": "demo", "configName": "kaggle"}')
    fingerprint.write_fingerprint(folder)
    return folder


def _shard(folder: Path) -> Path:
    return folder / "demo-train.tfrecord-00001-of-00003"


def _replace(path: Path, data: bytes) -> None:
    """Writes `data` and makes sure that the time differs, whatever the clock's steps."""
    path.write_bytes(data)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


def test_unchanged_set_is_checked_without_reading(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = fingerprint.read_fingerprint(prepared)
    assert stored is not None

    def no_reading(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(fingerprint, "_hash_file", no_reading)
    assert fingerprint.check_shards(prepared).content == stored["content"]


def test_content_equals_plain_hashes(prepared: Path) -> None:
    stored = fingerprint.read_fingerprint(prepared)
    assert stored is not None and stored["algorithm"] == "sha256"
    lines = ""
    for shard in stored["shards"]:
        data = (prepared / shard["name"]).read_bytes()
        assert shard["bytes"] == len(data)
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        lines += f"{shard['name']} {len(data)} {shard['sha256']}\n"
    splits = hashlib.sha256(b"{}").hexdigest()  # dataset_info.json has none
    features = hashlib.sha256(b"{}").hexdigest()
    assert stored["described"] == {"dataset_info.json": splits, "features.json": features}
    lines += f"dataset_info.json {splits}\nfeatures.json {features}\n"
    assert stored["content"] == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.json", '{"group_feature": "who"}'),
        ("label.labels.txt", "a\nb\n"),
        ("ids.vocabulary.txt", "\n\nword\n"),
        ("dataset_info.json", '{"splits": [{"name": "train", "shardLengths": ["1"]}]}'),
    ],
)
@pytest.mark.parametrize("skip_damaged", [False, True])
def test_what_describes_the_shards_is_compared(
    prepared: Path, name: str, text: str, skip_damaged: bool
) -> None:
    before = fingerprint.check_shards(prepared).content
    (prepared / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}: expected .*, received .*") as error:
        fingerprint.check_shards(prepared, skip_damaged=skip_damaged)
    # Neither would take it: no advice that does not work.
    assert "--repair" not in str(error.value) and "--on-corrupt" not in str(error.value)
    assert "Put it back as it was." in str(error.value)
    fingerprint.write_fingerprint(prepared)
    assert fingerprint.check_shards(prepared).content != before


def test_what_is_only_shown_is_no_part_of_the_data(prepared: Path) -> None:
    """Generated files read as if they were real give the same data."""
    contents = set()
    for generated in (True, False):
        (prepared / "metadata.json").write_text(json.dumps({"generated": generated}))
        contents.add(fingerprint.write_fingerprint(prepared)["content"])
    assert len(contents) == 1


def test_a_description_may_be_reworded(prepared: Path) -> None:
    info = prepared / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"description": "Better said."}))
    fingerprint.check_shards(prepared)


def test_copied_set_has_the_same_content(prepared: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(prepared, copied, copy_function=shutil.copyfile)
    assert fingerprint.check_shards(copied).content == fingerprint.check_shards(prepared).content


def test_other_size_is_refused(prepared: Path) -> None:
    _replace(_shard(prepared), b"short")
    with pytest.raises(ValueError) as error:
        fingerprint.check_shards(prepared)
    for word in (_shard(prepared).name, "expected 101 bytes", "received 5 bytes"):
        assert word in str(error.value)
    assert rebuild_hint(prepared) in str(error.value)
    assert verify_hint(prepared) in str(error.value)


def test_other_bytes_of_the_same_size_are_refused(prepared: Path) -> None:
    _replace(_shard(prepared), b"x" * 101)
    with pytest.raises(ValueError, match=r"00001-of-00003: expected sha256 .* received sha256"):
        fingerprint.check_shards(prepared)


def test_missing_and_added_shards_are_refused(prepared: Path) -> None:
    shutil.copyfile(_shard(prepared), prepared / "demo-test.tfrecord-00000-of-00001")
    with pytest.raises(ValueError, match=r"demo-test.*expected no such shard"):
        fingerprint.check_shards(prepared)
    (prepared / "demo-test.tfrecord-00000-of-00001").unlink()
    _shard(prepared).unlink()
    with pytest.raises(ValueError, match="00001-of-00003: expected the shard, received none"):
        fingerprint.check_shards(prepared)


def test_changed_features_are_refused(prepared: Path) -> None:
    (prepared / "features.json").write_text('{"other": 1}')
    with pytest.raises(ValueError, match=r"features\.json"):
        fingerprint.check_shards(prepared)


def test_set_without_fingerprint_gets_a_computed_one(prepared: Path) -> None:
    content = fingerprint.check_shards(prepared).content
    (prepared / fingerprint.FILE_NAME).unlink()
    assert fingerprint.read_fingerprint(prepared) is None
    assert fingerprint.check_shards(prepared).content == content


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"algorithm": "md5", "shards": []}'])
def test_damaged_fingerprint_is_refused(prepared: Path, text: str) -> None:
    (prepared / fingerprint.FILE_NAME).write_text(text)
    with pytest.raises(ValueError, match=r"fingerprint.json: expected .* Build the set again"):
        fingerprint.check_shards(prepared)


def test_directory_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected shards"):
        fingerprint.write_fingerprint(tmp_path)
    with pytest.raises(ValueError, match="no such directory"):
        fingerprint.check_shards(tmp_path / "none")


def test_nothing_but_the_fingerprint_is_left_behind(prepared: Path) -> None:
    assert not [p.name for p in prepared.iterdir() if p.name.startswith(".")]
