"""What is gone or unreadable is a finding, and the rest is checked all the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from records.opened import open_set
from records.sets.fingerprint import FingerprintMismatch, write_fingerprint
from records.sets.schema import read_schema
from records.verify.__main__ import find_sets, main
from records.verify.check import verify_set
from tests.support.faults import flip
from tests.support.tiny_sets import build_tiny

SPEC = {
    "values": tfds.features.Tensor(shape=(2,), dtype=np.float32),
    "who": tfds.features.Scalar(np.int64),
    "label": tfds.features.ClassLabel(names=["no", "yes"]),
}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """`tiny` with an index and a fingerprint, and a sound set behind it in the order of names."""
    rows = [{"values": [i, 1], "who": i // 3, "label": i % 2} for i in range(38)]
    splits = {"train": rows[:30], "test": rows[30:]}
    named = {"input_feature": "values", "group_feature": "who"}
    directory = build_tiny(tmp_path / "data", SPEC, splits, **named)
    open_set(directory).read_index("train")  # which writes the index
    write_fingerprint(directory)
    shutil.copytree(directory, tmp_path / "data" / "zweite" / "1.0.0")
    assert main([str(tmp_path / "data")]) == 0
    return tmp_path / "data"


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _lose_split(folder: Path) -> None:
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] == "train"]
    (folder / "dataset_info.json").write_text(json.dumps(info))


GONE: dict[str, tuple[Callable[[Path], None], str]] = {
    "dataset_info.json": (_remove("dataset_info.json"), "a folder without dataset_info.json"),
    "a split": (_lose_split, "test.tfrecord-00000-of-00001: expected as a shard of a split"),
    "class names": (_remove("label.labels.txt"), "label.labels.txt: fingerprint expected the one"),
    "metadata.json": (_remove("metadata.json"), "metadata.json: fingerprint expected the one"),
    "features.json": (_remove("features.json"), "features.json"),
}


@pytest.mark.parametrize("gone", GONE)
def test_what_is_gone_is_named(data_dir: Path, gone: str, capsys: Any) -> None:
    lose, expected = GONE[gone]
    lose(data_dir / "tiny" / "1.0.0")
    assert main([str(data_dir)]) == 1
    printed = capsys.readouterr().out
    assert expected in printed
    assert printed.count("sound: nothing is wrong") == 1  # the other set
    if gone == "metadata.json":
        # Removing the index would seal the loss of the group.
        assert "was written when the group feature was 'who', and is now 'None'" in printed
        assert "Restore it" in printed


@pytest.mark.parametrize("gone", sorted(GONE.keys() - {"dataset_info.json", "features.json"}))
@pytest.mark.parametrize("skip", [False, True])
def test_training_is_refused_where_what_shapes_it_was_changed(
    data_dir: Path, gone: str, skip: bool
) -> None:
    GONE[gone][0](data_dir / "tiny" / "1.0.0")
    with pytest.raises(FingerprintMismatch, match="expected the one built with the shards"):
        open_set(str(data_dir / "tiny" / "1.0.0"), skip_damaged=skip)


def test_a_set_of_others_does_not_lose_its_groups(data_dir: Path) -> None:
    """It has no fingerprint; its index remembers."""
    folder = data_dir / "tiny" / "1.0.0"
    (folder / "fingerprint.json").unlink()
    (folder / "metadata.json").unlink()
    with pytest.raises(ValueError, match="the group feature was 'who', and is now 'None'"):
        open_set(str(folder)).read_index("train")
    (folder / "train.index.npz").unlink()  # as the message says where that is meant
    assert open_set(str(folder)).read_index("train").num_records == 30


def test_repair_seals_no_loss(data_dir: Path, tmp_path: Path, capsys: Any) -> None:
    folder = data_dir / "tiny" / "1.0.0"
    (folder / "label.labels.txt").unlink()
    assert main([str(folder), "--repair", str(tmp_path / "repaired")]) == 1
    assert "label.labels.txt: expected the one built" in capsys.readouterr().out
    assert not (tmp_path / "repaired").exists()


def test_other_metadata_are_other_data(data_dir: Path) -> None:
    """The same shards in other groups give another validation cut: another fingerprint."""
    folder = data_dir / "tiny" / "1.0.0"
    before = open_set(str(folder)).fingerprint
    (folder / "metadata.json").write_text("{}")
    write_fingerprint(folder)
    assert open_set(str(folder), feature="values").fingerprint != before


def test_a_fingerprint_that_is_gone_is_missed(synthetic_data_dir: Path, tmp_path: Path) -> None:
    """Only where the builder writes one: sets of others have none."""
    source = synthetic_data_dir / "fetal_health" / "synthetic" / "1.0.0"
    copied = tmp_path / "fetal_health" / "synthetic" / "1.0.0"
    shutil.copytree(source, copied)
    (copied / "fingerprint.json").unlink()
    (problem,) = verify_set(str(copied)).problems
    assert problem.startswith(f"{copied}/fingerprint.json: expected, as it was built with one")
    assert "tfds build builders/fetal_health --config synthetic" in problem


def test_an_index_for_another_input_is_no_fault(tmp_path: Path) -> None:
    spec = SPEC | {"ids": tfds.features.Sequence(np.int64)}
    rows = [{"values": [i, 1], "who": 1, "label": 0, "ids": [i]} for i in range(9)]
    directory = build_tiny(tmp_path, spec, {"train": rows}, input_feature="values")
    open_set(directory, feature="ids").read_index("train")
    assert verify_set(directory).is_sound


def _unreadable(path: Path, how: str) -> str:
    data = path.read_bytes()
    path.unlink()
    if how == "a folder":
        path.mkdir()
        return "the shard cannot be read: Is a directory"
    if how == "a dangling link":
        path.symlink_to(path.with_name("nowhere"))
        return "the shard is missing"
    path.write_bytes(data[:-1])
    return "the shard ends at byte"


@pytest.mark.parametrize("how", ["a folder", "a dangling link", "cut"])
@pytest.mark.parametrize("with_index", [True, False])
def test_a_shard_that_cannot_be_read_costs_its_records(
    data_dir: Path, how: str, with_index: bool, tmp_path: Path, capsys: Any
) -> None:
    folder = data_dir / "tiny" / "1.0.0"
    schema = read_schema(str(folder))
    if not with_index:
        (folder / "train.index.npz").unlink()
    said = _unreadable(Path(schema.shards["train"][0]), how)
    flip(schema.shards["test"][0], 20)  # found all the same
    report = verify_set(str(folder))
    lost = 1 if how == "cut" else 30
    assert sum(said in line for line in report.damage) == lost
    assert len(report.damage) == lost + 1 and not report.problems
    assert main([str(data_dir)]) == 1
    assert capsys.readouterr().out.count("sound: nothing is wrong") == 1
    if how != "cut":
        with pytest.raises(FingerprintMismatch):
            open_set(str(folder))


def test_a_shard_without_permission_is_named(data_dir: Path, monkeypatch: Any) -> None:
    """As root, who reads everything, runs the tests, too: the system's answer is put in."""
    folder = data_dir / "tiny" / "1.0.0"
    shard = read_schema(str(folder)).shards["train"][0]
    opened = open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path) == shard:
            raise PermissionError(13, "Permission denied", shard)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    report = verify_set(str(folder))
    assert len(report.damage) == 30
    assert all("the shard cannot be read: Permission denied" in line for line in report.damage)


def test_a_sector_that_cannot_be_read_costs_its_record(data_dir: Path, monkeypatch: Any) -> None:
    folder = data_dir / "tiny" / "1.0.0"
    index = open_set(str(folder)).read_index("train")
    bad, pread = int(index.offset[4]) + 20, os.pread

    def read(file: int, size: int, offset: int) -> bytes:
        if offset <= bad < offset + size and os.readlink(f"/proc/self/fd/{file}") in index.paths:
            raise OSError(5, "Input/output error")
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", read)
    (line,) = verify_set(str(folder)).damage
    assert "record 4 at byte" in line and "cannot be read: Input/output error" in line


@pytest.mark.parametrize("file", ["features.json", "metadata.json", "fingerprint.json"])
def test_a_broken_file_hides_no_flip(data_dir: Path, file: str, capsys: Any) -> None:
    """Neither in its own set nor in the next one."""
    shards = [
        read_schema(str(data_dir / name / "1.0.0")).shards["train"][0]
        for name in ("tiny", "zweite")
    ]
    for shard in shards:
        flip(shard, 20)
    (data_dir / "tiny" / "1.0.0" / file).write_text("{")
    assert main([str(data_dir)]) == 1
    printed = capsys.readouterr().out
    assert (
        f"wrong: data set: {data_dir}/tiny/1.0.0/{file}" in printed or "wrong: shards:" in printed
    )
    for shard in shards:
        assert f"damaged: {shard}, record 0 at byte 0: its payload does not match" in printed


@pytest.mark.parametrize("below", [".", "tiny", "tiny/1.0.0"])
def test_sets_are_found_from_any_folder_above(data_dir: Path, below: str) -> None:
    assert str(data_dir / "tiny" / "1.0.0") in find_sets(str(data_dir / below))


def test_splits_whose_shards_were_exchanged_are_not_copied(
    data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = data_dir / "tiny" / "1.0.0"
    schema = read_schema(str(folder))
    train, test = (Path(schema.shards[split][0]) for split in ("train", "test"))
    first, second = train.read_bytes(), test.read_bytes()
    train.write_bytes(second)
    test.write_bytes(first)
    for with_fingerprint in (True, False):  # then by the index, and by the counts of the metadata
        if not with_fingerprint:
            (folder / "fingerprint.json").unlink()
        assert main([str(folder), "--repair", str(tmp_path / "repaired")]) == 1
        printed = capsys.readouterr().out
        assert "its records are whole, but not those that were built" in printed
        assert " 0 damaged records" in printed
        assert not (tmp_path / "repaired").exists()


def test_a_set_that_a_killed_overwrite_set_aside_is_named(tmp_path: Path) -> None:
    aside = tmp_path / "a_set" / "replaced.1.0.0"
    aside.mkdir(parents=True)
    (aside / "dataset_info.json").touch()
    with pytest.raises(
        FileNotFoundError, match=f"received {aside}, which a build with --overwrite"
    ):
        find_sets(str(tmp_path))
    (tmp_path / "a_set" / "1.0.0").mkdir()
    (tmp_path / "a_set" / "1.0.0" / "dataset_info.json").touch()
    assert find_sets(str(tmp_path)) == [str(tmp_path / "a_set" / "1.0.0")]


def test_a_set_of_several_inputs_is_checked_by_the_one_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = tfds.features.Tensor(shape=(1,), dtype=np.float32)
    spec = {"x": vector, "y": vector, "label": tfds.features.ClassLabel(num_classes=2)}
    rows = [{"x": [0.0], "y": [1.0], "label": i} for i in range(2)]
    directory = build_tiny(tmp_path, spec, {"train": rows})
    assert main([directory]) == 1
    assert "Name it with --feature x or --feature y" in capsys.readouterr().out
    assert main([directory, "--feature", "x"]) == 0
    assert "2 records in 1 shard," in capsys.readouterr().out


def test_float64_without_its_digits_is_a_note(tmp_path: Path, capsys: Any) -> None:
    """TFDS stores it as float32: 2^24 + 1 becomes 2^24, and 2^24 - 1 stays."""
    spec = SPEC | {"values": tfds.features.Tensor(shape=(2,), dtype=np.float64)}
    rows = [{"values": [2.0**24 - 1 + i, 1], "who": i, "label": i % 2} for i in range(3)]
    named = {"input_feature": "values", "id_feature": "who"}
    directory = build_tiny(tmp_path, spec, {"train": rows}, **named)
    assert main([directory]) == 0
    printed = capsys.readouterr().out
    assert f"  note: {directory}: 2 of 3 train records are sound, and worth a look" in printed
    assert "a number of 16,777,216 or more is stored as float32" in printed
    assert "keeps all: number 1 (who '1'), number 2 (who '2')\n" in printed
