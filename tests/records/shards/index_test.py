"""The record index: random access equal to TensorFlow's own reader, damage named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from records.decoding.indexing import build_index, read_index
from records.decoding.modality import modality_of
from records.roles import open_data
from records.sets.find import find_directory
from records.sets.schema import Schema, read_schema
from records.shards.framing import scan_shard
from records.shards.index import RecordReader


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_random_access_equals_tensorflows_reader(synthetic_data_dir: Path, name: str) -> None:
    schema = read_schema(find_directory(f"{name}/synthetic", str(synthetic_data_dir)))
    for split, shards in schema.shards.items():
        index = read_index(schema, split)
        reference = list(tf.data.TFRecordDataset(list(shards)).as_numpy_iterator())
        assert index.num_records == len(reference) == schema.split_counts[split]
        order = np.random.default_rng(0).permutation(len(reference))
        found = RecordReader(index).read(order)
        assert [reference[i] for i in order] == found.tolist()
        is_of_one_length = len(set(map(len, reference))) == 1
        for numbers in (order, order[:1], np.sort(order)[3:]):
            rows = RecordReader(index).read(numbers, as_rows=True)
            assert [reference[i] for i in numbers] == list(map(bytes, rows))
            assert rows.ndim == (2 if is_of_one_length or len(numbers) == 1 else 1)


def test_index_is_written_with_the_data_and_rebuilt_when_missing(copied: Schema) -> None:
    file = Path(copied.directory) / "train.index.npz"
    stored = read_index(copied, "train")
    file.unlink()
    rebuilt = read_index(copied, "train")
    assert file.exists()
    for name in ("offset", "length", "label", "group", "shard"):
        assert np.array_equal(getattr(stored, name), getattr(rebuilt, name)), name


@pytest.mark.parametrize("damage", ["garbage", "truncated", "stale"])
def test_index_that_does_not_fit_is_rebuilt(copied: Schema, damage: str) -> None:
    file = Path(copied.directory) / "train.index.npz"
    good = read_index(copied, "train")
    if damage == "stale":  # another split's index: other shard sizes
        shutil.copy(file.with_name("test.index.npz"), file)
    else:
        data = file.read_bytes()
        file.write_bytes(b"no index" if damage == "garbage" else data[: len(data) // 2])
    assert np.array_equal(read_index(copied, "train").offset, good.offset)


def _flip(path: str, at: int) -> None:
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 1
    Path(path).write_bytes(data)


def test_flipped_payload_byte_is_named(copied: Schema) -> None:
    index = read_index(copied, "train")
    number = int(np.flatnonzero(index.shard == 1)[5])
    _flip(index.paths[1], int(index.offset[number]) + 20)
    reader = RecordReader(index)
    reader.read(np.array([number - 1, number + 1]))
    with pytest.raises(ValueError, match=rf"record 5 at byte {index.offset[number]}") as error:
        reader.read(np.array([number]))
    assert index.paths[1] in str(error.value) and "--overwrite" in str(error.value)


def test_flipped_header_and_truncation_are_named(copied: Schema) -> None:
    path = copied.shards["train"][0]
    offsets, _lengths = scan_shard(path)
    _flip(path, int(offsets[3]))
    with pytest.raises(ValueError, match=rf"record 3 at byte {offsets[3]}"):
        scan_shard(path)
    _flip(path, int(offsets[3]))
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:-7])
    with pytest.raises(ValueError, match=f"record {len(offsets) - 1} at byte"):
        scan_shard(path)
    Path(path).write_bytes(data[: int(offsets[-1])])  # at a record boundary: counts disagree
    with pytest.raises(ValueError, match=r"expected \d+ records by its metadata, received \d+"):
        build_index(copied, "train")


def test_reader_counts_the_bytes_it_reads(copied: Schema) -> None:
    index = read_index(copied, "test")
    reader = RecordReader(index)
    reader.read(np.array([0, 2]))
    assert reader.bytes_read == int(index.length[[0, 2]].sum()) + 2 * 16


def test_pictures_are_cut_out_and_flagged_as_they_are(synthetic_data_dir: Path) -> None:
    schema = read_schema(find_directory("brain_tumor_mri/synthetic", str(synthetic_data_dir)))
    index = read_index(schema, "test")
    payloads = RecordReader(index).read(np.arange(index.num_records))
    rows = tf.io.parse_example(
        tf.constant(payloads.tolist(), tf.string), modality_of(schema).parse_spec()
    )
    pictures = rows[schema.input_name].numpy()
    for number, (payload, picture) in enumerate(zip(payloads, pictures, strict=True)):
        first = int(index.input_start[number])
        assert payload[first : first + int(index.input_bytes[number])] == picture
        pixels = tf.io.decode_jpeg(picture, channels=3).numpy()
        assert index.is_grey[number] == (pixels == pixels[..., :1]).all()


def test_other_records_of_the_same_size_are_refused(copied: Schema) -> None:
    """The index would fit them: it holds their labels, so a set is checked when it is opened."""
    path = Path(copied.shards["train"][0])
    records = [bytes(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in reversed(records):
            writer.write(record)
    with pytest.raises(ValueError, match=path.name):
        open_data(copied.directory)
