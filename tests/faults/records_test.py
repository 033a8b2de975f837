"""Damaged shards: each damaged record is named, left out by `--repair` and passed over in training,
and nothing else is.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from records.decoding.indexing import read_index
from records.decoding.input_config import InputConfig
from records.opened import OpenedSet, open_set
from records.ordering.order import Order
from records.pipeline import make_arrays
from records.roles import Data, open_data
from records.sets.find import find_directory
from records.sets.schema import Schema, read_schema
from records.verify.__main__ import main
from records.verify.check import verify_set
from tests.support.faults import flip, record_fault
from train.run import main as train

SETS = ("fetal_health", "brain_tumor_mri", "song_lyrics")


@pytest.fixture
def copies(synthetic_data_dir: Path, tmp_path: Path) -> Path:
    """A data directory with copies of the generated sets, which a test may damage."""
    for name in SETS:
        source = Path(find_directory(f"{name}/synthetic", str(synthetic_data_dir)))
        copy = tmp_path / "data" / name / "synthetic" / source.name
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("decoded"))
    return tmp_path / "data"


def _schema(data_dir: Path, name: str) -> Schema:
    return read_schema(find_directory(f"{name}/synthetic", str(data_dir)))


def _skipping(schema: Schema) -> OpenedSet:
    return open_set(schema.directory, skip_damaged=True)


def _payloads(schema: Schema) -> dict[str, list[bytes]]:
    """All records of each split, by TensorFlow's own reader."""
    return {
        split: [bytes(r) for r in tf.data.TFRecordDataset(list(paths)).as_numpy_iterator()]
        for split, paths in schema.shards.items()
    }


def _places(schema: Schema) -> list[tuple[str, int]]:
    return [(split, n) for split, count in schema.split_counts.items() for n in range(count)]


def _choose_byte(schema: Schema, rng: np.random.Generator) -> tuple[str, int, str, int, int]:
    """(split, record in it, shard, record in that, byte of the shard): part of a record."""
    places = _places(schema)
    split, number = places[int(rng.integers(len(places)))]
    index = read_index(schema, split)
    shard = int(index.shard[number])
    offset, length = int(index.offset[number]), int(index.length[number])
    parts = ((0, 8), (8, 4), (12, length), (12 + length, 4))  # length, its CRC, data, their CRC
    start, size = parts[int(rng.integers(len(parts)))]
    within = number - int(np.searchsorted(index.shard, shard))
    at = offset + start + int(rng.integers(size))
    return split, number, index.paths[shard], within, at


def _check_flip(data_dir: Path, name: str, rng: np.random.Generator, with_index: bool) -> str:
    """Flips one bit, checks what verify, repair and skipping make of it, and flips it back."""
    schema = _schema(data_dir, name)
    before = _payloads(schema)
    split, number, path, within, at = _choose_byte(schema, rng)
    bit = int(rng.integers(8))
    indexes = {p: p.read_bytes() for p in Path(schema.directory).glob("*.index.npz")}
    flip(path, at, bit)
    if not with_index:
        for index in indexes:
            index.unlink()
    report = verify_set(schema.directory)
    named = [line for line in report.damage if f"{path}, record {within} at byte" in line]
    assert named, report.damage
    lost = len(report.damage)
    assert lost == 1 or (not with_index and lost <= 2), report.damage
    # The copy lacks the damaged record, and no other.
    target = data_dir.parent / "repaired"
    assert main([schema.directory, "--repair", str(target)]) == 1
    after = _payloads(_schema(target, name))
    expected = dict(before)
    expected[split] = [p for i, p in enumerate(before[split]) if not number <= i < number + lost]
    assert after == expected
    shutil.rmtree(target)
    marked = _skipping(schema).read_index(split)
    assert marked.damaged is not None
    assert np.flatnonzero(marked.damaged).tolist() == list(range(number, number + lost))
    flip(path, at, bit)
    for index, content in indexes.items():
        index.write_bytes(content)
    return named[0].partition(": ")[2]


_SLOW_FLIPS = {("brain_tumor_mri", False), ("song_lyrics", True)}


# Each set and both ways are among the quick ones.
@pytest.mark.parametrize(
    ("name", "with_index"),
    [
        pytest.param(*case, marks=pytest.mark.slow) if case in _SLOW_FLIPS else case
        for case in itertools.product(SETS, (True, False))
    ],
)
def test_a_flipped_bit_costs_one_record(copies: Path, name: str, with_index: bool) -> None:
    _check_flip(copies, name, np.random.default_rng(SETS.index(name)), with_index)


@pytest.mark.slow
@pytest.mark.parametrize("with_index", [True, False])
def test_two_hundred_flipped_bits_cost_one_record_each(copies: Path, with_index: bool) -> None:
    rng = np.random.default_rng(7)
    found: dict[str, int] = {}
    for i in range(200):
        reason = _check_flip(copies, SETS[i % 3], rng, with_index)
        found[reason] = found.get(reason, 0) + 1
    print("\n".join(f"{count:4d} x {reason}" for reason, count in sorted(found.items())))
    assert sum(found.values()) == 200


def _printed(capsys: Any, *arguments: str) -> str:
    assert main(list(arguments)) == 1
    return str(capsys.readouterr().out)


def test_each_part_of_a_record_is_named_for_what_it_is(copies: Path, capsys: Any) -> None:
    schema = _schema(copies, "fetal_health")
    index = read_index(schema, "train")
    offset, length, path = int(index.offset[3]), int(index.length[3]), index.paths[0]
    parts = {
        "a byte of a record's length": 1,
        "a byte of the length's CRC": 9,
        "a byte of a record's data": 20,
        "a byte of the data's CRC": 12 + length,
    }
    for part, at in parts.items():
        flip(path, offset + at)
        printed = _printed(capsys, schema.directory)
        (line,) = [line for line in printed.splitlines() if line.startswith("  damaged:")]
        assert f"{path}, record 3 at byte {offset}: " in line
        assert "1 damaged records, 0 other problems" in printed
        outcome = "verify exits with 1; --repair and --on-corrupt skip lose this record alone"
        record_fault(f"{part} flipped", line.strip(), outcome, copies)
        flip(path, offset + at)
    assert main([schema.directory]) == 0  # times have changed, bytes have not


def _cut(path: str, size: int) -> bytes:
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:size])
    return data


def _check_loss(
    copies: Path, name: str, before: dict[str, list[bytes]], lost: dict[str, set[int]]
) -> None:
    """`--repair` and skipping lose the records `lost` of each split and no others."""
    schema = _schema(copies, name)
    target = copies.parent / "repaired"
    assert main([schema.directory, "--repair", str(target)]) == 1
    repaired = _schema(target, name)
    found = {s: rows for s, rows in _payloads(repaired).items() if rows}
    for split, rows in before.items():
        gone = lost.get(split, set())
        assert found.get(split, []) == [r for i, r in enumerate(rows) if i not in gone]
        marked = _skipping(schema).read_index(split)
        damaged = [] if marked.damaged is None else np.flatnonzero(marked.damaged).tolist()
        assert set(damaged) == gone
    # TFDS's own reader agrees with the counts of the copy's metadata, and so do we.
    builder = tfds.builder_from_directory(repaired.directory)
    for split, count in repaired.split_counts.items():
        assert count == len(found[split]) == len(list(builder.as_dataset(split=split)))
    assert sum(map(len, repaired.metadata["damaged"].values())) == sum(map(len, lost.values()))
    assert verify_set(repaired.directory).is_sound
    shutil.rmtree(target)


def _truncations(
    copies: Path, count: int, with_index: bool
) -> Iterator[tuple[str, int, list[str]]]:
    rng = np.random.default_rng(11)
    for i in range(count):
        name = SETS[i % 3]
        schema = _schema(copies, name)
        before = _payloads(schema)
        index = read_index(schema, "train")
        shard = int(rng.integers(len(index.paths)))
        path = index.paths[shard]
        size = int(rng.integers(Path(path).stat().st_size))
        ends = index.offset + index.length + 16
        lost = np.flatnonzero((index.shard == shard) & (ends > size))
        data = _cut(path, size)
        stored = {p: p.read_bytes() for p in Path(schema.directory).glob("*.index.npz")}
        for file in stored if not with_index else ():
            file.unlink()
        report = verify_set(schema.directory)
        assert len(report.damage) == len(lost) > 0
        _check_loss(copies, name, before, {"train": set(lost.tolist())})
        Path(path).write_bytes(data)
        for file, content in stored.items():
            file.write_bytes(content)
        yield path, len(lost), report.damage


@pytest.mark.parametrize("with_index", [True, False])
def test_a_truncated_shard_costs_what_was_cut_off(copies: Path, with_index: bool) -> None:
    found = list(_truncations(copies, 1 + with_index, with_index))
    for path, _, damage in found:
        assert all(line.startswith(path) and "the shard ends at byte" in line for line in damage)
    outcome = "every record that was cut off is named; --repair and skip lose them alone"
    record_fault("a shard cut short", found[0][2][0], outcome, copies)


@pytest.mark.slow
@pytest.mark.parametrize("with_index", [True, False])
def test_twenty_truncations(copies: Path, with_index: bool) -> None:
    outcomes = [
        f"{lost:4d} lost and named: {path}"
        for path, lost, _ in _truncations(copies, 20, with_index)
    ]
    print("\n".join(outcomes))
    assert len(outcomes) == 20


def test_a_missing_shard_is_named_and_costs_its_records(copies: Path, capsys: Any) -> None:
    schema = _schema(copies, "fetal_health")
    before = _payloads(schema)
    index = read_index(schema, "train")
    Path(index.paths[1]).unlink()
    printed = _printed(capsys, schema.directory)
    line = next(line for line in printed.splitlines() if line.startswith("  damaged:"))
    outcome = "each of its records is named; --repair and skip go on with the other shards"
    record_fault("a shard is missing", line.strip(), outcome, copies)
    lost = set(np.flatnonzero(index.shard == 1).tolist())
    _check_loss(copies, "fetal_health", before, {"train": lost})
    with pytest.raises(ValueError, match="expected the shard, received none") as error:
        open_data(schema.directory)
    record_fault("training, a shard is missing", str(error.value), "the run does not start", copies)


def test_swapped_shards_are_named_and_refused(copies: Path, capsys: Any) -> None:
    schema = _schema(copies, "fetal_health")
    a, b = (Path(p) for p in schema.shards["train"][:2])
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    printed = _printed(capsys, schema.directory)
    assert f"{a}: fingerprint expected its own records, received those of {b.name}" in printed
    line = next(line for line in printed.splitlines() if "received those of" in line)
    record_fault("two shards swapped", line.strip(), "nothing is lost: rename them", copies)
    with pytest.raises(ValueError, match="not those that were built"):
        _skipping(schema).read_index("train")
    with pytest.raises(ValueError, match="expected its own records, received those of"):
        open_data(schema.directory)
    # No copy, which would be sound, and another set.
    target = copies.parent / "repaired"
    assert "not those that were built" in _printed(
        capsys, schema.directory, "--repair", str(target)
    )
    assert not target.exists()


@pytest.mark.slow
def test_twenty_missing_or_swapped_shards(copies: Path) -> None:
    """Missing in turn with swapped: two shards of one split, or of two splits."""
    rng = np.random.default_rng(13)
    for i in range(20):
        name = SETS[i % 3]
        schema = _schema(copies, name)
        before = _payloads(schema)
        places = [(split, Path(p)) for split, paths in schema.shards.items() for p in paths]
        chosen = [places[int(n)] for n in rng.choice(len(places), 2, replace=False)]
        (split, a), (_, b) = chosen
        first, second = a.read_bytes(), b.read_bytes()
        if i % 2:
            a.write_bytes(second)
            b.write_bytes(first)
            damage = verify_set(schema.directory).problems
            for one, other in ((a, b), (b, a)):
                said = f"{one}: fingerprint expected its own records, received those of"
                assert any(line.startswith(f"{said} {other.name}") for line in damage), damage
            outcome = f"swapped with {b.name}, both named"
        else:
            index = read_index(schema, split)
            shard = [Path(p) for p in index.paths].index(a)
            lost = set(np.flatnonzero(index.shard == shard).tolist())
            a.unlink()
            damage = verify_set(schema.directory).damage
            assert len(damage) == len(lost) > 0
            _check_loss(copies, name, before, {split: lost})
            outcome = f"missing, its {len(lost)} records named and lost alone"
        a.write_bytes(first)
        b.write_bytes(second)
        assert verify_set(schema.directory).is_sound
        print(f"{a.name}: {outcome}")


def _rewrite(path: str, change: dict[int, bytes]) -> None:
    """Writes a shard anew, with other payloads under right CRCs."""
    rows = [bytes(r.numpy()) for r in tf.data.TFRecordDataset(path)]
    with tf.io.TFRecordWriter(path) as writer:
        for i, row in enumerate(rows):
            writer.write(change.get(i, row))


def _changed(payload: bytes, **features: list[Any]) -> bytes:
    example = tf.train.Example.FromString(payload)
    for name, values in features.items():
        feature = example.features.feature[name]
        kind = feature.WhichOneof("kind")
        getattr(feature, kind).value[:] = values
    return bytes(example.SerializeToString())


def test_content_that_crcs_cannot_tell_is_named(copies: Path, capsys: Any) -> None:
    """Right CRCs around wrong content, in a set whose index was built anew from it."""
    rows = {name: _payloads(_schema(copies, name))["train"] for name in SETS}
    table, pictures, texts = (_schema(copies, name) for name in SETS)
    picture = tf.train.Example.FromString(rows["brain_tumor_mri"][2]).features.feature["image"]
    jpeg = picture.bytes_list.value[0]
    values = [float("nan"), *([1.0] * 20)]
    changes: dict[str, tuple[Schema, dict[int, bytes], str]] = {
        "a record that is no Example": (table, {1: b"garbage"}, "content that fits the schema"),
        "a class beyond the last": (table, {4: _changed(rows["fetal_health"][4], label=[9])}, "9"),
        "a number that is none": (
            table,
            {6: _changed(rows["fetal_health"][6], features=values)},
            "not finite",
        ),
        "half a JPEG": (
            pictures,
            {2: _changed(rows["brain_tumor_mri"][2], image=[jpeg[: len(jpeg) // 2]])},
            "its end is missing",
        ),
        "an id beyond the vocabulary": (
            texts,
            {3: _changed(rows["song_lyrics"][3], token_ids=[5, 10**7])},
            "an id lies outside",
        ),
    }
    for fault, (schema, change, expected) in changes.items():
        path = schema.shards["train"][0]
        data = Path(path).read_bytes()
        (Path(schema.directory) / "train.index.npz").unlink(missing_ok=True)
        _rewrite(path, change)
        printed = _printed(capsys, schema.directory)
        (number,) = change
        (line,) = [line for line in printed.splitlines() if line.startswith("  damaged:")]
        assert f"{path}, record {number} at byte" in line and expected in line
        record_fault(fault, line.strip(), "verify exits with 1; --repair leaves it out", copies)
        Path(path).write_bytes(data)


def test_ids_that_stand_twice_are_named(copies: Path, capsys: Any) -> None:
    schema = _schema(copies, "fetal_health")
    train, test = (schema.shards[s][0] for s in ("train", "test"))
    rows = [bytes(r.numpy()) for r in tf.data.TFRecordDataset(train)]
    _rewrite(test, {2: rows[0]})
    for split in ("train", "test"):
        (Path(schema.directory) / f"{split}.index.npz").unlink()
    printed = _printed(capsys, schema.directory)
    line = next(line for line in printed.splitlines() if "is also that of" in line)
    assert "test record 2" in line and "train record 0" in line
    record_fault("an id in two splits", line.strip(), "verify exits with 1", copies)


def test_batches_around_a_damaged_record_are_the_same(copies: Path) -> None:
    """Every level reads the same positions; only the damaged one has another weight."""
    for name in SETS:
        schema = _schema(copies, name)
        config = InputConfig(image_size=32, sequence_length=16, vocab_size=10**6)
        clean = Data(open_set(schema.directory), config)
        train = clean.examples("train")
        order = Order(train.num_examples, 32, seed=3)
        expected = list(make_arrays(train, order, epochs=2))
        number = int(train.numbers[5])
        index = read_index(schema, "train")
        flip(index.paths[int(index.shard[number])], int(index.offset[number]) + 20)
        for cache in ("memory", "none"):
            data = Data(_skipping(schema), dataclasses.replace(config, cache=cache))
            found = data.examples("train")
            assert found.num_damaged == 1
            np.testing.assert_array_equal(found.numbers, train.numbers)
            received = list(make_arrays(found, order, epochs=2))
            hit = 0
            for step, ((x, y, w), (a, b, c)) in enumerate(zip(expected, received, strict=True)):
                epoch, within = divmod(step, order.steps_per_epoch)
                positions, _ = order.examples(epoch, within, 1)
                damaged = train.numbers[positions[0]] == number
                hit += int(damaged.sum())
                np.testing.assert_array_equal(c, w * ~damaged)
                np.testing.assert_array_equal(b, y)
                if name != "song_lyrics":  # ranks of ids follow from the records that are left
                    np.testing.assert_array_equal(a[~damaged], x[~damaged])
            assert hit == 2  # once in each epoch


def test_training_passes_damaged_records_over(copies: Path, capsys: Any) -> None:
    schema = _schema(copies, "fetal_health")
    index = read_index(schema, "train")
    flags = ["--dataset=fetal_health/synthetic", f"--data-dir={copies}", "--model=mlp_small"]
    flags += [
        "--no-xla",
        "--epochs=2",
        "--strategy=one_device",
        f"--run-dir={copies.parent / 'run'}",
    ]
    flip(index.paths[0], int(index.offset[3]) + 20)
    assert train(flags) == 1
    message = capsys.readouterr().err
    assert f"number 3 at byte {index.offset[3]}" in message and "records.verify" in message
    record_fault("training, a flipped byte", message, "the run does not start", copies)
    assert train([*flags, "--on-corrupt=skip"]) == 0
    printed = capsys.readouterr().out
    assert "train: 1 damaged records are passed over" in printed
    assert printed.count("1 damaged left out") == 2
    line = next(line for line in printed.splitlines() if "at byte" in line)
    outcome = "weight 0: positions, steps and all other batches stay; counted in every epoch"
    record_fault("training, a flipped byte, --on-corrupt skip", line.strip(), outcome, copies)
    metrics = json.loads((copies.parent / "run" / "metrics.json").read_text())
    assert metrics["damaged"]["train"]["examples"] == 1
    assert f"record 3 at byte {index.offset[3]}" in metrics["damaged"]["train"]["records"][0]


def test_damage_that_no_time_betrays_is_named_when_it_is_read(copies: Path, capsys: Any) -> None:
    """Bit rot: sizes and times are as they were, so only reading tells."""
    schema = _schema(copies, "fetal_health")
    index = read_index(schema, "train")
    path = index.paths[0]
    times = os.stat(path)
    flip(path, int(index.offset[3]) + 20)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    flags = ["--dataset=fetal_health/synthetic", f"--data-dir={copies}", "--model=mlp_small"]
    flags += ["--epochs=1", "--strategy=one_device", f"--run-dir={copies.parent / 'run'}"]
    for cache in ("memory", "none"):
        assert train([*flags, f"--cache={cache}"]) == 1
        message = capsys.readouterr().err
        assert f"{path}, record 3 at byte {index.offset[3]}" in message
        assert "python -m records.verify" in message and "Traceback" not in message
    record_fault("training, bit rot", message, "the run ends", copies)


def test_verify_says_where_sets_are_missing(tmp_path: Path, capsys: Any) -> None:
    assert main([str(tmp_path / "nowhere")]) == 1
    message = capsys.readouterr().err
    assert "no such folder" in message and "tfds build" in message
    record_fault("verify, no sets", message, "verify exits with 1", tmp_path)


def test_the_copies_across_splits_are_counted(copies: Path, capsys: Any) -> None:
    schema = _schema(copies, "brain_tumor_mri")
    rows = _payloads(schema)
    hashes = {split: [_hash(payload) for payload in found] for split, found in rows.items()}
    elsewhere = set(hashes["train"]) | set(hashes["validation"])
    expected = sum(h in elsewhere for h in hashes["test"])
    assert expected > 0  # the generated set has them too
    assert main([schema.directory, "--leakage"]) == 0
    printed = capsys.readouterr().out
    assert f"test: {expected} of {len(rows['test'])} records have an exact copy" in printed


def _hash(payload: bytes) -> bytes:
    feature = tf.train.Example.FromString(payload).features.feature["image"]
    pixels = tf.io.decode_jpeg(feature.bytes_list.value[0], dct_method="INTEGER_ACCURATE")
    return bytes(pixels.numpy().tobytes())


@pytest.mark.slow
def test_brain_tumor_mri_has_251_copies(shared_data: Path, tmp_path: Path, capsys: Any) -> None:
    tfds_command = str(Path(sys.executable).with_name("tfds"))
    command = [tfds_command, "build", "builders/brain_tumor_mri", "--config", "kaggle"]
    command += ["--manual_dir", str(shared_data), "--add_name_to_manual_dir"]
    subprocess.run([*command, "--data_dir", str(tmp_path)], check=True, capture_output=True)
    assert main([str(tmp_path), "--leakage"]) == 0
    assert "test: 251 of 394 records have an exact copy" in capsys.readouterr().out
