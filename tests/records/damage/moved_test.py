"""Bytes cut out of a shard, or put in, cost what they hit: every whole record stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from records.opened import open_set
from records.sets.find import find_directory
from records.sets.schema import read_schema
from records.shards.index import RecordReader
from records.verify.__main__ import main
from records.verify.check import verify_set
from tests.support.fuzz_inputs import frame_records

Rows = list[bytes]


def _put_in(rows: Rows, at: int, row: bytes) -> bytes:
    return frame_records([*rows[:at], row, *rows[at:]])


def _without(rows: Rows, *lost: int) -> bytes:
    return frame_records([row for i, row in enumerate(rows) if i not in lost])


def _change_bytes(data: bytes, at: int, cut: int, new: bytes = b"") -> bytes:
    return data[:at] + new + data[at + cut :]


def _start(rows: Rows, number: int) -> int:
    return sum(len(row) + 16 for row in rows[:number])


# What is done to a shard of the rows; the numbers of the rows that are lost by it.
FAULTS: dict[str, tuple[Callable[[Rows], bytes], set[int]]] = {
    "one cut out": (lambda rows: _without(rows, 7), {7}),
    "the first cut out": (lambda rows: _without(rows, 0), {0}),
    "the last cut out": (lambda rows: _without(rows, len(rows) - 1), {-1}),
    "two cut out": (lambda rows: _without(rows, 7, 20), {7, 20}),
    "a copy of a later one put in": (lambda rows: _put_in(rows, 7, rows[20]), set()),
    "no Example put in": (lambda rows: _put_in(rows, 7, b"x" * 50), set()),
    "one appended": (lambda rows: _put_in(rows, len(rows), rows[3]), set()),
    "a byte of data cut out": (
        lambda rows: _change_bytes(frame_records(rows), _start(rows, 7) + 40, 1),
        {7},
    ),
    "three bytes of data put in": (
        lambda rows: _change_bytes(frame_records(rows), _start(rows, 7) + 40, 0, b"abc"),
        {7},
    ),
    "one cut out, another flipped": (
        lambda rows: _change_bytes(_without(rows, 7), _start(rows, 20) + 40, 1, b"\xa5"),
        {7, 21},
    ),
}


@pytest.fixture(scope="module")
def copies(synthetic_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Records of one length, each a group of its own; and of many lengths, in groups."""
    folder = tmp_path_factory.mktemp("sets")
    for name in ("fetal_health", "song_lyrics"):
        source = find_directory(f"{name}/synthetic", str(synthetic_data_dir))
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("decoded"))
    return {name: folder / name for name in ("fetal_health", "song_lyrics")}


@pytest.fixture
def directory(copies: dict[str, Path]) -> Path:
    return copies["fetal_health"]


def _read(path: str | Path) -> Rows:
    return [bytes(row) for row in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *(("fetal_health", fault) for fault in FAULTS),
        ("song_lyrics", "two cut out"),
        ("song_lyrics", "a copy of a later one put in"),
    ],
)
def test_whole_records_stay(copies: dict[str, Path], name: str, fault: str, tmp_path: Path) -> None:
    directory = copies[name]
    schema = read_schema(str(directory))
    shard = Path(schema.shards["train"][1])
    before, rows = shard.read_bytes(), _read(shard)
    change, numbers = FAULTS[fault]
    lost = {number % len(rows) for number in numbers}
    shard.write_bytes(change(rows))
    try:
        report = verify_set(str(directory))
        assert len(report.damage) == len(lost)
        for number in lost:
            assert any(f"{shard}, record {number} at byte" in line for line in report.damage)
        assert not any("is also that of" in line for line in report.problems)
        assert len(report.problems) == (0 if lost else 2)  # what was put in, and the size
        # The copy lacks these, and no other.
        assert main([str(directory), "--repair", str(tmp_path)]) == 1
        copy = read_schema(str(tmp_path / schema.name))
        kept = [row for i, row in enumerate(rows) if i not in lost]
        assert _read(copy.shards["train"][1]) == kept
        assert copy.split_counts["train"] == schema.split_counts["train"] - len(lost)
        assert verify_set(copy.directory).is_sound
        # Training passes over the same, and reads all others by their numbers.
        marked = open_set(str(directory), skip_damaged=True).read_index("train")
        first = schema.shard_lengths["train"][0]
        damaged = [] if marked.damaged is None else np.flatnonzero(marked.damaged).tolist()
        assert damaged == sorted(first + number for number in lost)
        chosen = [i for i in range(len(rows)) if i not in lost]
        read = RecordReader(marked).read(first + np.array(chosen))
        assert read.tolist() == kept
    finally:
        shard.write_bytes(before)


@pytest.mark.parametrize("change", ["reversed", "another shard's", "fewer of another's"])
def test_other_records_are_refused_by_skip_and_by_repair(
    directory: Path, change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the index alone, without a fingerprint."""
    copied = tmp_path / "data" / "copied"
    shutil.copytree(directory, copied, ignore=shutil.ignore_patterns("fingerprint.json"))
    schema = read_schema(str(copied))
    shard, other = (Path(path) for path in schema.shards["train"][1:3])
    rows, others = _read(shard), _read(other)
    new = {"another shard's": others, "fewer of another's": others[:-9]}.get(change)
    shard.write_bytes(frame_records(new or rows[::-1]))
    report = verify_set(str(copied))
    assert not report.damage
    assert any(str(shard) in line for line in report.problems)
    if change == "reversed":  # nothing of it is lost: each is read where it now stands
        marked = open_set(str(copied), skip_damaged=True).read_index("train")
        first = schema.shard_lengths["train"][0] + np.arange(len(rows))
        assert marked.damaged is None and RecordReader(marked).read(first).tolist() == rows
        return
    with pytest.raises(ValueError, match="not those that were built"):
        open_set(str(copied), skip_damaged=True).read_index("train")
    assert main([str(copied), "--repair", str(tmp_path / "repaired")]) == 1
    assert "not those that were built" in capsys.readouterr().out
    assert not list((tmp_path / "repaired").rglob("*-of-*"))
