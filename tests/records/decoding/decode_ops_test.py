"""Pictures as an exported model decodes them: those of training, bit for bit."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from records.decoding import decode_ops
from records.decoding.decode import PictureError, decode_pictures

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 47, 3)).astype(np.uint8))


def _file(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _of_16_bits(channels: int) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 2**16, (30, 20, channels)).astype(np.uint16)
    return cv2.imencode(".png", pixels)[1].tobytes()


def _animated(picture: Image.Image, **options: Any) -> bytes:
    """An animation that goes on with the picture turned over."""
    turned = picture.transpose(Image.Transpose.ROTATE_180)
    return _file(picture, "PNG", save_all=True, append_images=[turned, picture], **options)


CMYK = _file(NOISE.convert("CMYK"), quality=95)
GOOD = {
    "4:4:4": _file(NOISE, subsampling=0),
    "4:2:0": _file(NOISE, subsampling=2),
    "progressive": _file(NOISE, progressive=True),
    "red, green, blue": _file(NOISE, keep_rgb=True),
    "grey": _file(NOISE.convert("L")),
    "CMYK": CMYK,
    "PNG": _file(NOISE, "PNG"),
    "PNG, 1 bit": _file(NOISE.convert("1"), "PNG"),
    "PNG, alpha": _file(NOISE.convert("RGBA"), "PNG"),
    "PNG, palette": _file(NOISE.quantize(50), "PNG", transparency=3),
    "PNG, 16 bits grey": _of_16_bits(1),
    "PNG, 16 bits": _of_16_bits(3),
    "PNG, animated": _animated(NOISE),
    "PNG, animated, alpha": _animated(NOISE.convert("RGBA")),
    "PNG, animated, palette": _animated(NOISE.quantize(50)),
    "PNG, animated behind a picture of its own": _animated(NOISE, default_image=True),
}
THUMBNAIL = GOOD["grey"]
IN_EXIF = b"\xff\xe1" + (len(THUMBNAIL) + 2).to_bytes(2, "big") + THUMBNAIL
_FRAME = GOOD["4:4:4"].index(b"\xff\xc0")
TWELVE_BITS = GOOD["4:4:4"][: _FRAME + 4] + b"\x0c" + GOOD["4:4:4"][_FRAME + 5 :]
BAD = {
    "12 bits": TWELVE_BITS,
    "no picture": b"no picture",
    "empty": b"",
    "cut": GOOD["4:4:4"][:-400],
    "cut, with a whole thumbnail": GOOD["4:4:4"][:2] + IN_EXIF + GOOD["4:4:4"][2:-400],
    "CMYK, cut": CMYK[:-400],
    "too many pixels": cv2.imencode(".png", np.zeros((4100, 4100), np.uint8))[1].tobytes(),
    "BMP": _file(NOISE, "BMP"),
}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_pixels_and_one_bad_picture_costs_one_row(channels: int) -> None:
    files = [*GOOD.values(), *BAD.values()]
    traced = tf.function(lambda files: decode_ops.decode_pictures(files, 40, channels))
    found, usable = traced(tf.constant(files))
    assert usable.numpy().tolist() == [True] * len(GOOD) + [False] * len(BAD)
    expected = decode_pictures(list(GOOD.values()), 40, channels)
    for name, ours, reference in zip(GOOD, found, expected):
        assert np.array_equal(ours, reference), name
    for name, data in BAD.items():
        with pytest.raises(PictureError):
            decode_pictures([data], 40, channels)
            pytest.fail(name)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_is_its_still_picture(channels: int) -> None:
    names = [name for name in GOOD if name in ("PNG, animated", "PNG") or "behind" in name]
    still, *animated = decode_pictures([GOOD[name] for name in names], 40, channels)
    assert len(animated) == 2
    for found in animated:
        assert np.array_equal(found, still)


def test_a_kind_of_jpeg_that_cannot_be_read_is_named() -> None:
    with pytest.raises(PictureError, match="a JPEG of 12 bits a colour, of which 8 can be read"):
        decode_pictures([TWELVE_BITS], 40, 3)


def test_four_colours_are_those_of_pillow() -> None:
    expected = np.asarray(Image.open(io.BytesIO(CMYK)).convert("RGB")).astype(int)
    colours = decode_ops.decode_cmyk(tf.constant(CMYK), 3).numpy()
    assert np.abs(colours - expected).max() <= 1
    grey = decode_ops.decode_cmyk(tf.constant(CMYK), 1).numpy()
    wanted = np.asarray(Image.fromarray(colours).convert("L")).astype(int)
    assert np.abs(grey[..., 0] - wanted).max() <= 1
