"""The file of an index: mapped where it is large, equal to what is read, and damage is found."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from records.decoding.indexing import read_index
from records.decoding.input_config import InputConfig
from records.ordering.order import Order
from records.roles import open_data
from records.sets.find import find_directory
from records.sets.schema import Schema, read_schema
from records.shards import index_file
from records.shards.index import COLUMNS, RecordIndex, RecordReader
from records.shards.index_file import index_path, read_stored_index, write_index
from records.verify.check import verify_set
from tests.support.large_set import make_large_set, make_sparse_index


@pytest.fixture
def all_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small indexes are mapped as large ones are."""
    monkeypatch.setattr(index_file, "_LOADED_BYTES", -1)


def _assert_equal(found: RecordIndex, expected: RecordIndex) -> None:
    for name in COLUMNS:
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype and np.array_equal(a, b), name


def _flip(path: Path, at: int, *, keep_time: bool) -> None:
    """Flips a bit in another file of that name: the one that is mapped must not change."""
    data, times = bytearray(path.read_bytes()), path.stat()
    data[at] ^= 1
    path.unlink()
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_mapped_index_is_the_one_that_is_read(
    copied: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_index(copied, "train")
    monkeypatch.setattr(index_file, "_LOADED_BYTES", -1)
    mapped = read_index(copied, "train")
    _assert_equal(mapped, read)
    for name in COLUMNS:
        column = getattr(mapped, name)
        assert not column.flags.owndata and column.flags.aligned, name
    numbers = np.arange(read.num_records)[::-7]
    assert RecordReader(mapped).read(numbers).tolist() == RecordReader(read).read(numbers).tolist()
    mapped.release()
    _assert_equal(mapped, read)


def test_the_same_index_makes_the_same_bytes(copied: Schema) -> None:
    path = index_path(copied, "train")
    built = path.read_bytes()
    write_index(read_index(copied, "train"), copied, "train")
    assert path.read_bytes() == built


@pytest.mark.parametrize("is_mapped", [False, True])
def test_an_older_file_gives_the_same_index(
    copied: Schema, is_mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy wrote those, with labels int64 and columns at any byte."""
    path, expected = index_path(copied, "train"), read_index(copied, "train")
    arrays = {name: getattr(expected, name) for name in COLUMNS}
    key = np.array(index_file._content_key(copied))
    path.unlink()
    np.savez(path, key=key, **arrays | {"label": expected.label.astype(np.int64)})
    if is_mapped:
        monkeypatch.setattr(index_file, "_LOADED_BYTES", -1)
    found = read_stored_index(copied, "train")
    assert found is not None
    _assert_equal(found, expected)


@pytest.mark.usefixtures("all_mapped")
def test_a_changed_file_is_rebuilt(copied: Schema) -> None:
    path, expected = index_path(copied, "train"), read_index(copied, "train")
    whole = path.read_bytes()
    at = whole.index(expected.label.tobytes())  # what no other sum covers
    _flip(path, at, keep_time=False)
    assert read_stored_index(copied, "train") is None
    _assert_equal(read_index(copied, "train"), expected)
    assert path.read_bytes() == whole


@pytest.mark.usefixtures("all_mapped")
def test_verify_finds_what_the_time_of_a_file_hides(copied: Schema) -> None:
    path, expected = index_path(copied, "train"), read_index(copied, "train")
    _flip(path, path.read_bytes().index(expected.label.tobytes()), keep_time=True)
    assert read_stored_index(copied, "train") is not None, "not read at a start"
    (problem,) = verify_set(copied.directory).problems
    assert problem == (f"shards: {path}: is damaged. Remove it; the next reader writes it again")


@pytest.mark.usefixtures("all_mapped")
def test_a_copy_is_looked_at_once(copied: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str | None] = []
    testzip = zipfile.ZipFile.testzip

    def look(archive: zipfile.ZipFile) -> str | None:
        looked.append(testzip(archive))
        return looked[-1]

    monkeypatch.setattr(zipfile.ZipFile, "testzip", look)
    assert read_stored_index(copied, "train") is not None and not looked, "as it was written"
    os.utime(index_path(copied, "train"))
    for _ in range(2):
        assert read_stored_index(copied, "train") is not None and len(looked) == 1


@pytest.mark.parametrize(
    "column, value, message",
    [
        ("offset", 1, r"record 5 at byte \d+: expected a payload with a matching CRC"),
        ("length", 8, r"record 5 at byte \d+: expected a payload with a matching CRC"),
        ("offset", 2**62, "the index expected record 5 within its shard"),
        ("length", 2**62, "the index expected record 5 within its shard"),
        ("shard", 99, "the index expected record 5 within its shard, received byte .* of shard"),
    ],
)
@pytest.mark.usefixtures("all_mapped")
def test_a_wrong_place_cannot_pass(copied: Schema, column: str, value: int, message: str) -> None:
    """Even where the file says that it is whole: its sums are right."""
    index = read_index(copied, "train")
    wrong = getattr(index, column).copy()
    wrong[5] += value
    write_index(dataclasses.replace(index, **{column: wrong}), copied, "train")
    found = read_stored_index(copied, "train")
    assert found is not None
    reader = RecordReader(found)
    assert len(reader.read(np.array([4, 6]))) == 2
    with pytest.raises(ValueError, match=message):
        reader.read(np.array([4, 5, 6]))
    assert read_stored_index(copied, "train", in_full=True) is None or value < 2**60


def _start(directory: str) -> tuple[int, int]:
    """(bytes of Python and NumPy at most from the set to its first batch, records read)."""
    tracemalloc.start()
    try:
        data = open_data(directory, config=InputConfig(cache="none"))
        examples = data.examples("train")
        examples.subset_labels, examples.num_damaged, data.roles()
        order = Order(examples.num_examples, 64, shuffle_block=256)
        numbers = examples.numbers[order.examples(0, 7)[0][0]]
        payloads = examples.loader.read(numbers)
        return tracemalloc.get_traced_memory()[1], len(payloads)
    finally:
        tracemalloc.stop()


def test_no_column_is_held(synthetic_data_dir: Path, tmp_path: Path) -> None:
    """A column of a million flags would be a megabyte."""
    schema = read_schema(find_directory("fetal_health/synthetic", str(synthetic_data_dir)))
    count = schema.split_counts["train"]
    directory = make_large_set(schema, -(-(10**6) // count), tmp_path)
    assert _start(schema.directory)[1] == 64  # imports what is imported late
    small, large = _start(schema.directory)[0], _start(directory)[0]
    assert large < small + 2**19
    # And they are the records: each of the repeated places.
    index, original = read_index(read_schema(directory), "train"), read_index(schema, "train")
    numbers = np.random.default_rng(0).integers(0, index.num_records, 50)
    first = np.searchsorted(index.shard, index.shard[numbers])
    of_shard = np.bincount(original.shard)
    place = (numbers - first) % of_shard[index.shard[numbers]]
    same = np.searchsorted(original.shard, index.shard[numbers]) + place
    assert RecordReader(index).read(numbers).tolist() == RecordReader(original).read(same).tolist()
    assert np.array_equal(index.label[numbers], original.label[same])


_MEASURED = """
import json, re, sys, time
from pathlib import Path
from records import InputConfig, open_data
from records.ordering.order import Order
from records.pipeline import make_arrays
from records.sets.schema import read_schema

def kib(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

small, large, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
examples = open_data(small, config=InputConfig(cache="none")).examples("train")
next(make_arrays(examples, Order(examples.num_examples, 256, shuffle_block=4096)))
idle, began = kib("VmRSS"), time.perf_counter()
examples = open_data(large, config=InputConfig(cache="none")).examples("train")
opened = time.perf_counter() - began
if steps:
    batches = make_arrays(examples, Order(examples.num_examples, 256, shuffle_block=4096))
    next(batches)
started = time.perf_counter() - began
for _ in range(steps):
    next(batches)
peak = kib("VmHWM")
# Two at once: the pages of the labels are counted to each by half.
int(examples.index.label.sum())
print(json.dumps([examples.num_examples, opened, started, (peak - idle) / 1024]), flush=True)
sys.stdin.readline()
of_index = re.split(r"\\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
(own,) = (part for part in of_index if "train.index.npz" in part)
print(json.dumps([int(re.search(rf"{n}:\\s+(\\d+)", own)[1]) for n in ("Rss", "Pss")]), flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_ten_to_the_eighth_records(synthetic_data_dir: Path, tmp_path: Path) -> None:
    """Two processes: each starts in 2 s and takes less than 300 MB; they share what is mapped.

    Writes 5.3 GB. A sparse index of 10^9 records opens likewise.
    """
    schema = read_schema(find_directory("fetal_health/synthetic", str(synthetic_data_dir)))
    repeats = -(-(10**8) // schema.split_counts["train"])
    large = make_large_set(schema, repeats, tmp_path)

    def start(steps: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _MEASURED, schema.directory, large, str(steps)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
        )

    def ask(process: subprocess.Popen[str]) -> list[float]:
        assert process.stdout is not None
        return list(json.loads(process.stdout.readline()))

    def go_on(process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    both = [start(200), start(200)]
    for count, opened, started, megabytes in map(ask, both):
        print(
            f"{count:,.0f} records: {opened:.2f} s, {started:.2f} s to a batch, {megabytes:.0f} MB"
        )
        assert count >= 10**8 and opened < 2 and megabytes < 300
    for process in both:
        go_on(process)
    for rss, pss in map(ask, both):
        assert rss > 300 * 1024 and pss < 0.6 * rss, "not shared"
    for process in both:
        process.communicate("\n")
    make_sparse_index(large, 10**9)
    huge = start(0)
    count, opened, _, megabytes = ask(huge)
    print(f"{count:,.0f} records: {opened:.2f} s, {megabytes:.0f} MB")
    assert count == 10**9 and megabytes < 300
    huge.communicate("\n\n")
