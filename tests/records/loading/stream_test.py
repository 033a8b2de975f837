"""Streaming: the batches of the cache, read block by block, each worker only its own records."""

import dataclasses
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import records
from records.decoding.input_config import InputConfig
from records.loading.load import Loader
from records.ordering.order import Order
from records.pipeline import make_chunks
from records.roles import Data, open_data
from records.sets.find import find_directory
from records.system.threads import ordered_map

SIZES = InputConfig(image_size=48, sequence_length=40, vocab_size=500, cache="none")
SETS = ["fetal_health/synthetic", "brain_tumor_mri/synthetic", "song_lyrics/synthetic"]


def _open(name: str, data_dir: Path, **changes: Any) -> Data:
    return open_data(name, str(data_dir), dataclasses.replace(SIZES, **changes))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "options", [{"shuffle_block": 96}, {"shuffle_block": None}, {"length_buckets": 3}], ids=str
)
def test_streamed_batches_are_those_of_the_cache(
    name: str, options: dict[str, Any], synthetic_data_dir: Path
) -> None:
    cached, streamed = (_open(name, synthetic_data_dir, cache=c) for c in ("memory", "none"))
    common: dict[str, Any] = {"global_batch_size": 24, "seed": 4} | options
    a, b = (records.make_dataset(d, "train", **common) for d in (cached, streamed))
    assert len(a) == len(b)
    for left, right in itertools.zip_longest(itertools.chain(a, a), itertools.chain(b, b)):
        for x, y in zip(left, right, strict=True):
            assert np.array_equal(x, y)


def test_continuing_inside_a_block_gives_the_same_batches(synthetic_data_dir: Path) -> None:
    data = _open("fetal_health/synthetic", synthetic_data_dir)
    options: dict[str, Any] = {"global_batch_size": 16, "shuffle_block": 128, "epochs": 2}
    whole = list(records.make_arrays(data, "train", **options))
    steps = len(whole) // 2
    for start in [(0, 5), (0, steps - 1), (1, 9)]:
        rest = list(records.make_arrays(data, "train", start=start, **options))
        expected = whole[start[0] * steps + start[1] :]
        assert len(rest) == len(expected)
        for left, right in zip(rest, expected, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(left, right, strict=True))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_worker_reads_only_the_records_of_its_slices(
    synthetic_data_dir: Path, workers: int
) -> None:
    """Bytes read in two epochs: the split's share of each worker, and little more."""
    batch, width = 32, 32 // workers
    read = []
    for worker in range(workers):
        data = _open("brain_tumor_mri/synthetic", synthetic_data_dir)
        examples = data.examples("train")
        order = Order(examples.num_examples, batch, seed=1, shuffle_block=160)
        rows = slice(worker * width, (worker + 1) * width)
        chunks = make_chunks(examples, order, (0, 0), 1, rows)
        for _ in itertools.islice(chunks, 2 * order.steps_per_epoch):
            pass
        chunks.close()  # type: ignore[attr-defined]
        read.append(examples.loader.reader.bytes_read)
    size = int(examples.index.length.sum()) + 16 * examples.num_examples
    # More: rows of weight 0, two blocks ahead of the last chunk, and the first block's batches,
    # which are read by offset while it is still being read.
    blocks = 3 * 160 / (2 * examples.num_examples)
    for bytes_read in read:
        share = bytes_read / (2 * size) * workers
        assert 0.97 < share < 1.12 + blocks, share


def test_at_most_two_blocks_are_held(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _open("fetal_health/synthetic", synthetic_data_dir)
    examples = data.examples("train")
    order = Order(examples.num_examples, 16, shuffle_block=128)
    asked: list[int] = []
    read = Loader.read

    def counted(self: Loader, numbers: np.ndarray) -> np.ndarray:
        asked.append(len(numbers))
        return read(self, numbers)

    monkeypatch.setattr(Loader, "read", counted)
    chunks = make_chunks(examples, order, (0, 0), 1, slice(None))
    ahead = 3 + 1  # chunks under way in the pool of two threads, and one handed out
    for taken in range(1, 40):
        next(chunks)
        by_blocks = sum(n for n in asked if n == order.block_size)
        assert by_blocks <= (taken + ahead) * 16 + 2 * order.block_size
    chunks.close()  # type: ignore[attr-defined]
    assert set(asked) <= {16, order.block_size}, "long stretches, or single batches at the start"


def test_a_damaged_record_is_named(synthetic_data_dir: Path, tmp_path: Path) -> None:
    source = find_directory("fetal_health/synthetic", str(synthetic_data_dir))
    target = tmp_path / "fetal_health" / "synthetic" / Path(source).name
    shutil.copytree(source, target)
    data = open_data("fetal_health/synthetic", str(tmp_path), SIZES)
    examples = data.examples("train")
    index, number = examples.index, int(examples.numbers[100])
    path = Path(index.paths[index.shard[number]])
    content = bytearray(path.read_bytes())
    content[int(index.offset[number]) + 30] ^= 1
    path.write_bytes(content)
    order = Order(examples.num_examples, 16, shuffle_block=256)
    with pytest.raises(ValueError, match=rf"{path.name}.*byte {index.offset[number]}"):
        list(itertools.islice(make_chunks(examples, order, (0, 0), 1, slice(None)), 200))
    with pytest.raises(tf.errors.OpError, match=rf"byte {index.offset[number]}"):
        list(records.make_dataset(data, "train", shuffle_block=256))


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_picture_that_cannot_be_decoded_is_named(
    synthetic_data_dir: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _open("brain_tumor_mri/synthetic", synthetic_data_dir)
    examples = data.examples("train")
    rows = Loader.rows

    def damaged(self: Loader, numbers: np.ndarray, payloads: np.ndarray) -> Any:
        pictures = rows(self, numbers, payloads)
        kinds = {"truncated": pictures[3][:-40], "text": b"no picture", "empty": b""}
        pictures[3] = kinds[damage]
        return pictures

    monkeypatch.setattr(Loader, "rows", damaged)
    offset = examples.index.offset[7]
    with pytest.raises(ValueError, match=rf"record \d+ at byte {offset}.*'image'"):
        examples.loader.load(np.array([1, 2, 0, 7, 9]))


def test_ordered_map_keeps_the_order_and_bounds_what_is_under_way() -> None:
    started: list[int] = []

    def items() -> Any:
        for number in range(30):
            started.append(number)
            yield number

    mapped = ordered_map(lambda n: n * n, items(), threads=3)
    for number in range(30):
        assert next(mapped) == number * number
        assert len(started) <= number + 1 + 4


def test_ordered_map_passes_an_error_on_where_it_belongs() -> None:
    mapped = ordered_map(lambda n: 6 // n, [3, 2, 0, 1], threads=2)
    assert [next(mapped), next(mapped)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(mapped)
