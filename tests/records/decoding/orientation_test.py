"""Pictures are upright wherever they are decoded: Pillow's `exif_transpose` is the reference."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from records.decoding import decode_ops
from records.decoding.decode import decode_pictures, decode_whole
from records.decoding.orientation import EXIF, read_orientation
from records.decoding.picture_files import to_stored_file
from records.decoding.pixels import read_facts
from records.describe.pictures import header_size

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 47, 3)).astype(np.uint8))
SHORT_6 = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"


def _exif(orientation: int, order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112] = "maker", orientation
    return exif.tobytes()


def _file(kind: str, exif: bytes, picture: Image.Image = NOISE, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, exif=exif, **options)
    return out.getvalue()


def _entry(entry: bytes) -> bytes:
    """A JPEG whose EXIF data hold one entry, big-endian."""
    return _file("JPEG", EXIF + b"MM\0*\0\0\0\x08\0\x01" + entry + bytes(4))


def _upright(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB")])
def test_all_orientations_are_turned_in_training_and_in_the_exported_graph(
    kind: str, mode: str
) -> None:
    picture, channels = NOISE.convert(mode), 1 if mode == "L" else 3
    pairs = [(o, order) for o in range(1, 9) for order in "<>"]
    files = [_file(kind, _exif(*pair), picture) for pair in pairs]
    assert [read_orientation(data) for data in files] == [o for o, _ in pairs]
    for data in files:
        expected = _upright(data)
        found = decode_whole(0, memoryview(data), channels)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        assert header_size(data) == expected.shape[1::-1]
        if kind == "JPEG":
            facts = read_facts(data, "x.jpg")
            assert (facts.height, facts.width) == expected.shape[:2]
    traced = tf.function(lambda files: decode_ops.decode_pictures(files, 40, channels))
    graph, usable = traced(tf.constant(files))
    assert usable.numpy().all()
    np.testing.assert_array_equal(graph, decode_pictures(files, 40, channels))
    # Turned, then resized: as the upright picture itself would be.
    stored = [_file("PNG", b"", Image.fromarray(_upright(data))) for data in files]
    np.testing.assert_array_equal(graph, decode_pictures(stored, 40, channels))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("max_side", [None, 24])
def test_what_is_stored_anew_is_turned_once(kind: str, max_side: int | None) -> None:
    smooth = NOISE.resize((12, 16)).resize((48, 64))
    options = {"lossless": True} if kind == "WEBP" else {}
    for orientation in range(1, 9):
        data = _file(kind, _exif(orientation), smooth, **options)
        stored = to_stored_file(data, max_side)
        found = decode_whole(0, stored, 3).astype(int)
        expected = Image.fromarray(_upright(data))
        if max_side is None:
            np.testing.assert_array_equal(found, expected)
            assert (stored == data) == (kind in ("JPEG", "PNG"))
        else:
            expected.thumbnail((24, 24), Image.Resampling.LANCZOS)
            assert np.abs(found - np.asarray(expected)).mean() < (6 if kind == "JPEG" else 0.5)


JPEG = _file("JPEG", _exif(6))
PNG = _file("PNG", _exif(6))
JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
COMMENT = b"\xff\xfe\x00\x06said"
_CHUNK = PNG.index(b"eXIf") - 4
_AFTER = _CHUNK + 12 + int.from_bytes(PNG[_CHUNK : _CHUNK + 4])
ODD = {
    "behind JFIF and a comment": (JPEG[:2] + JFIF + COMMENT + JPEG[2:], 6),
    "behind an APP1 of another kind": (
        JPEG[:2] + b"\xff\xe1\x00\x0chttp://ns.\0"[:14] + JPEG[2:],
        6,
    ),
    "the first of two": (JPEG[:2] + _file("JPEG", _exif(3))[2:-2] + JPEG[2:], 3),
    "behind a quantization table": (JPEG[:2] + b"\xff\xdb\x00\x02" + JPEG[2:], 1),
    "of a wrong type": (_entry(SHORT_6.replace(b"\0\x03", b"\0\x04", 1)), 1),
    "zero": (_entry(SHORT_6.replace(b"\x06", b"\0")), 1),
    "nine": (_entry(SHORT_6.replace(b"\x06", b"\x09")), 1),
    "plain": (_entry(SHORT_6), 6),
    "beyond the end": (_file("JPEG", EXIF + b"MM\0*\0\0\0\x08\0\x09" + SHORT_6[:-3]), 1),
    "a directory beyond the end": (_file("JPEG", EXIF + b"MM\0*\xff\0\0\x08\0\x01" + SHORT_6), 1),
    "no TIFF": (_file("JPEG", EXIF + b"XX\0*\0\0\0\x08\0\x01" + SHORT_6), 1),
    "empty": (_file("JPEG", EXIF), 1),
    "PNG, behind the pixels": (
        PNG[:_CHUNK] + PNG[_AFTER:-12] + PNG[_CHUNK:_AFTER] + PNG[-12:],
        6,
    ),
    "PNG, the word alone": (_file("PNG", b"").replace(b"IEND", b"eXIf"), 1),
}


def test_odd_tags_are_read_alike_by_training_and_the_graph() -> None:
    found = [read_orientation(data) for data, _ in ODD.values()]
    assert dict(zip(ODD, found, strict=True)) == {name: o for name, (_, o) in ODD.items()}
    rng, files = np.random.default_rng(1), [data for data, _ in ODD.values()]
    for number in range(400):
        data = bytearray(PNG if number % 2 else JPEG)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(8 if number % 2 else 2, 120)] = rng.integers(0, 256)
        files.append(bytes(data[: rng.integers(20, 150)] if number % 7 == 0 else data))
    graph = tf.function(lambda all: tf.map_fn(decode_ops.read_orientation, all, tf.int64))
    expected = [read_orientation(data) for data in files]
    assert graph(tf.constant(files)).numpy().tolist() == expected
    assert {1, 6} <= set(expected) and expected.count(6) > 100


def test_a_webp_and_what_is_no_picture() -> None:
    assert read_orientation(_file("WEBP", _exif(8))) == 8
    assert read_orientation(_file("WEBP", _exif(8).removeprefix(EXIF))) == 8
    for data in (b"", b"no picture", b"\xff\xd8", PNG[:9], b"RIFF\0\0\0\0WEBP"):
        assert read_orientation(data) == 1
