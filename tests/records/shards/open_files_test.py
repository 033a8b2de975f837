"""A process holds few of many shards open, and reads all of them right."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from records.sets.schema import TABULAR, Schema
from records.shards.framing import scan_shard
from records.shards.index import RecordIndex, RecordReader, frame
from tests.support.fuzz_inputs import frame_records

SHARDS = 300


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> RecordIndex:
    """Of 300 shards with two records each, `shard.record` in bytes."""
    folder = tmp_path_factory.mktemp("many")
    paths = [f"{folder}/a-train.tfrecord-{i:05d}-of-{SHARDS:05d}" for i in range(SHARDS)]
    for i, path in enumerate(paths):
        Path(path).write_bytes(frame_records([f"{i}.{n}".encode() for n in range(2)]))
    schema = Schema(
        name="a/1.0.0", directory=str(folder), modality=TABULAR, input_name="x", label_name="y",
        id_name=None, group_name=None, group_is_text=False, grey_name=None, input_shape=(1,),
        input_dtype="float32", class_names=("a", "b"), split_counts={"train": 2 * SHARDS},
        shards={"train": tuple(paths)}, shard_lengths={"train": (2,) * SHARDS}, metadata={},
    )  # fmt: skip
    return frame(schema, "train", [scan_shard(path) for path in paths])


@pytest.fixture
def few_files() -> Iterator[int]:
    """The limit of open files, low; how many shards may be kept open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_open_now()) + 100, before[1]))
    yield (max(_open_now()) + 100) // 4
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _open_now() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _open_shards(index: RecordIndex) -> int:
    links = (f"/proc/self/fd/{number}" for number in _open_now())
    return sum(os.path.exists(link) and os.readlink(link) in index.paths for link in links)


def test_more_shards_than_open_files_are_read(index: RecordIndex, few_files: int) -> None:
    readers = [RecordReader(index) for _ in range(3)]  # of splits, say
    order = np.random.default_rng(0).permutation(2 * SHARDS)
    for reader in readers:
        expected = [f"{n // 2}.{n % 2}".encode() for n in order]
        assert reader.read(order).tolist() == expected
        assert 0 < _open_shards(index) <= few_files
    with ThreadPoolExecutor(8) as pool:  # files are dropped while others read from them
        numbers = [order[i::40] for i in range(40)] * 5
        for asked, found in zip(numbers, pool.map(readers[0].read, numbers), strict=True):
            assert found.tolist() == [f"{n // 2}.{n % 2}".encode() for n in asked]
    assert _open_shards(index) <= few_files


def test_files_of_others_leave_less_than_our_share(index: RecordIndex, few_files: int) -> None:
    """Sockets, say; ours are dropped to make room, and all records come."""
    room = 7
    held = [os.open("/dev/null", os.O_RDONLY)]
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    while limit - len(_open_now()) > room:
        held.append(os.dup(held[0]))
    try:
        order = np.arange(2 * SHARDS)
        expected = [f"{n // 2}.{n % 2}".encode() for n in order]
        assert RecordReader(index).read(order).tolist() == expected
    finally:
        for number in held:
            os.close(number)


def test_the_files_of_a_reader_go_with_it(index: RecordIndex) -> None:
    reader = RecordReader(index)
    reader.read(np.arange(20))
    assert _open_shards(index) == 10
    del reader
    gc.collect()
    assert _open_shards(index) == 0
