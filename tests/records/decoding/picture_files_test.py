"""Pictures as they are found, against Pillow: what training decodes of every kind of file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from records.decoding import decode_ops
from records.decoding.decode import decode_pictures, decode_whole
from records.decoding.picture_files import to_stored_file

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (21, 34, 3)).astype(np.uint8))
ALPHA = Image.fromarray(np.random.default_rng(1).integers(0, 256, (21, 34)).astype(np.uint8))


def _file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.copy().save(out, kind, **options)
    return out.getvalue()


def _and_another() -> dict[str, Any]:
    # A copy: Pillow leaves the settings of a file's kind with a picture.
    return {"save_all": True, "append_images": [ALPHA.copy()]}


def _png(bits: int, colour: int, samples: int, palette: bytes = b"") -> tuple[bytes, np.ndarray]:
    """(a PNG of random samples, these: uint16 [21, 34, samples]); Pillow cannot write all kinds."""
    values = np.random.default_rng(bits).integers(0, 2**bits, (21, 34 * samples)).astype(">u2")
    if bits == 16:
        rows = [row.tobytes() for row in values]
    else:
        wide = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
        rows = [np.packbits(row).tobytes() for row in wide.reshape(21, -1)]

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 34, 21, bits, colour, 0, 0, 0))
    content = chunk(b"PLTE", palette) if palette else b""
    content += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + content + chunk(b"IEND", b""), values.reshape(
        21, 34, samples
    )


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _exported(files: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return decode_ops.decode_pictures(files, 40, 3)


def _decoded(data: bytes) -> np.ndarray:
    """int64 [H, W, 3] as training has it; the exported graph must have the same."""
    stored = to_stored_file(data)
    graph, usable = _exported(tf.constant([stored]))
    assert usable.numpy().all()
    np.testing.assert_array_equal(graph, decode_pictures([stored], 40, 3))
    return decode_whole(0, stored, 3).astype(int)


def _reference(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_of_every_depth_keeps_its_levels(bits: int) -> None:
    data, samples = _png(bits, 0, 1)
    levels = samples >> 8 if bits == 16 else samples * (255 // (2**bits - 1))
    np.testing.assert_array_equal(_decoded(data), np.repeat(levels, 3, -1))
    if bits <= 8:
        palette = np.random.default_rng(9).integers(0, 256, (2**bits, 3)).astype(np.uint8)
        data, samples = _png(bits, 3, 1, palette.tobytes())
        np.testing.assert_array_equal(_decoded(data), palette[samples[..., 0]])
    if bits >= 8:  # grey and alpha, colours, colours and alpha: alpha is dropped
        for colour, count in ((4, 2), (2, 3), (6, 4)):
            data, samples = _png(bits, colour, count)
            seen = (samples >> (bits - 8))[..., : 1 if count == 2 else 3]
            np.testing.assert_array_equal(_decoded(data), np.broadcast_to(seen, (21, 34, 3)))


_CMYK = _file(NOISE.convert("CMYK"), "JPEG", quality=95)
# The same numbers, said to be brightness, two differences of colour, and black.
_TRANSFORM = _CMYK.index(b"Adobe") + 11
_YCCK = _CMYK[:_TRANSFORM] + b"\x02" + _CMYK[_TRANSFORM + 1 :]
FILES = {
    "JPEG, grey": (_file(NOISE.convert("L"), "JPEG"), 0),
    "JPEG": (_file(NOISE, "JPEG"), 0),
    "JPEG of red, green and blue": (_file(NOISE, "JPEG", keep_rgb=True), 0),
    "JPEG, CMYK": (_CMYK, 1),
    "JPEG, YCCK": (_YCCK, 1),
    "JPEG of several pictures": (
        _file(NOISE, "MPO", **_and_another()),
        0,
    ),
    "WebP": (_file(NOISE, "WEBP"), 0),
    "WebP with alpha": (_file(NOISE.copy().convert("RGBA"), "WEBP", lossless=True), 0),
    "BMP": (_file(NOISE, "BMP"), 0),
    "BMP, 1 bit": (_file(NOISE.convert("1"), "BMP"), 0),
    "BMP, palette": (_file(NOISE.quantize(50), "BMP"), 0),
    "GIF": (_file(NOISE.quantize(50), "GIF"), 0),
    "GIF of two pictures": (_file(NOISE, "GIF", **_and_another()), 0),
    "TIFF": (_file(NOISE, "TIFF"), 0),
    "TIFF, compressed": (_file(NOISE, "TIFF", compression="tiff_lzw"), 0),
    "TIFF, 1 bit": (_file(NOISE.convert("1"), "TIFF", compression="group4"), 0),
    "TIFF, CMYK": (_file(NOISE.convert("CMYK"), "TIFF"), 1),
    "TIFF with alpha": (_file(NOISE.convert("RGBA"), "TIFF"), 0),
    "TIFF of two pictures": (_file(NOISE, "TIFF", **_and_another()), 0),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_has_pillows_pixels(name: str) -> None:
    data, most = FILES[name]
    assert np.abs(_decoded(data) - _reference(data)).max() <= most


def test_alpha_of_a_webp_is_dropped_and_of_sixteen_bits_in_a_tiff_eight_are_kept() -> None:
    seen = NOISE.copy()
    seen.putalpha(ALPHA)
    data = _file(seen, "WEBP", lossless=True, exact=True)
    np.testing.assert_array_equal(_decoded(data), np.asarray(NOISE))
    values = np.random.default_rng(2).integers(0, 2**16, (21, 34)).astype(np.uint16)
    found = _decoded(_file(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(found, np.repeat((values >> 8)[..., None], 3, -1))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0\0\0\x1cftypheic", "no picture of a kind that can be read, received HEIC or AVIF"),
        (_file(NOISE, "JPEG2000"), "received JPEG 2000"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "of a kind that can be read$"),
        (_file(NOISE.convert("F"), "TIFF"), "^pixels of the kind F, which is not supported"),
        (_file(NOISE, "BMP")[:-900], "damaged"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        to_stored_file(data)
