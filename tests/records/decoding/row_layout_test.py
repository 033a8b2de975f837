"""Rows that are cut out of their records equal those that TensorFlow parses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from records.decoding.modality import modality_of
from records.decoding.row_layout import RowLayout
from records.sets.schema import read_schema

_WIDTH = 5
_SPEC = {
    "x": tf.io.FixedLenFeature([_WIDTH], tf.float32),
    "label": tf.io.FixedLenFeature([], tf.int64),
}


def _record(numbers: Any, label: int = 1, **features: Any) -> bytes:
    feature = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=numbers)),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    for name, value in features.items():
        feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def _parse(payloads: list[bytes]) -> np.ndarray:
    return tf.io.parse_example(tf.constant(payloads, tf.string), _SPEC)["x"].numpy()


def _learned(payloads: list[bytes]) -> RowLayout:
    layout = RowLayout("x", 4 * _WIDTH)
    layout.learn(payloads, _parse(payloads))
    return layout


def test_equal_to_what_tensorflow_parses() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, _WIDTH)).astype(np.float32)
    rows[7, 2], rows[8, 3], rows[9] = np.nan, -np.inf, 0
    payloads = [
        _record(row, int(rng.integers(128)), id=f"row-{i:06d}".encode())
        for i, row in enumerate(rows)
    ]
    found = _learned(payloads[:1]).cut(payloads)
    assert found is not None
    np.testing.assert_array_equal(found, _parse(payloads).view(np.uint8))
    np.testing.assert_array_equal(found.view(np.float32), rows)
    as_rows = np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), -1)
    np.testing.assert_array_equal(_learned(payloads[:1]).cut(as_rows), found)
    assert _learned(payloads[:1]).cut(as_rows[:, 1:]) is None


def test_numbers_in_one_string() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    payloads = [_record([0] * _WIDTH, 2, doubles=row.tobytes()) for row in rows]
    layout = RowLayout("doubles", 24)
    layout.learn(payloads[:1], rows[:1])
    found = layout.cut(payloads)
    assert found is not None
    np.testing.assert_array_equal(found.view(np.float64), rows)


def test_no_flipped_bit_gives_other_numbers_than_tensorflow() -> None:
    whole = _record([1, 2, 3, 4, 5], 3, id=b"abc", z=b"\x00\x7f")
    layout, cut, refused = _learned([whole]), 0, 0
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        found = layout.cut([bytes(changed)])
        if found is None:
            refused += 1
            continue
        cut += 1
        np.testing.assert_array_equal(found, _parse([bytes(changed)]).view(np.uint8))
    # Those of the numbers, the two strings and the label but the bit by which an integer goes on.
    assert cut == 8 * (4 * _WIDTH + 3 + 2) + 7
    assert refused == 8 * len(whole) - cut


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(_record([1, 2, 3, 4], 3, id=b"abcdefg"), id="a number less, a longer string"),
        pytest.param(_record([1, 2, 3, 4, 5], 128, id=b"ab"), id="a label of two bytes"),
        pytest.param(_record([1, 2, 3, 4, 5], 3, id=b"abcd"), id="longer"),
        pytest.param(_record([1, 2, 3, 4, 5], 3, ie=b"abc"), id="another name"),
    ],
)
def test_records_of_another_layout_are_parsed(other: bytes) -> None:
    whole = _record([1, 2, 3, 4, 5], 3, id=b"abc")
    layout = _learned([whole])
    assert layout.cut([whole]) is not None
    assert layout.cut([whole, other]) is None


def test_what_protobuf_writes_in_another_way_is_parsed() -> None:
    # The numbers unpacked, each with its own tag, beside a string that holds them packed.
    numbers = np.arange(1, _WIDTH + 1, dtype=np.float32)
    unpacked = b"".join(b"\x0d" + number.tobytes() for number in numbers)
    feature = b"\x12" + bytes([len(unpacked)]) + unpacked
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    rest = tf.train.Features(
        feature={
            "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
            "copy": tf.train.Feature(bytes_list=tf.train.BytesList(value=[numbers.tobytes()])),
        }
    ).SerializeToString()
    features = b"\x0a" + bytes([len(entry)]) + entry + rest
    payload = b"\x0a" + bytes([len(features)]) + features
    np.testing.assert_array_equal(_parse([payload])[0], numbers)
    assert _learned([payload]).cut([payload]) is None


@pytest.mark.parametrize("stored", [1, 2, 4])
def test_a_row_of_another_length_gives_no_layout(stored: int) -> None:
    """From it the bytes of its neighbour, or less than all, were taken as rows."""
    row = np.arange(1, stored + 1, dtype=np.float64)
    payloads = [_record([0] * _WIDTH, 2, doubles=row.tobytes())]
    layout = RowLayout("doubles", 24)
    layout.learn(payloads, row[None])
    assert layout.cut(payloads) is None


def test_a_name_that_is_not_utf8_is_parsed_by_tensorflow() -> None:
    whole = _record([1, 2, 3, 4, 5], 3, abc=b"abc").replace(b"\x03abc\x12", b"\x03a\xf6c\x12")
    assert b"a\xf6c" in whole
    np.testing.assert_array_equal(_parse([whole]), [[1, 2, 3, 4, 5]])
    assert _learned([whole]).cut([whole]) is None


def test_a_single_row_may_be_written_to() -> None:
    whole = _record([1, 2, 3, 4, 5], 3)
    as_rows = np.frombuffer(whole, np.uint8)[None]
    found = _learned([whole]).cut(as_rows)
    assert found is not None and found.flags.writeable


@pytest.mark.parametrize(("columns", "rows"), [(21, 4096), (10_000, 104), (10**7, 1)])
def test_units_of_wide_rows_are_small(synthetic_data_dir: Path, columns: int, rows: int) -> None:
    """A thread holds a unit several times: 4 MiB of numbers, or a single row."""
    schema = read_schema(str(synthetic_data_dir / "fetal_health/synthetic/1.0.0"))
    wide = dataclasses.replace(schema, input_shape=(columns,))
    assert modality_of(wide).unit_rows == rows
