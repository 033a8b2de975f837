"""Facts read from pixels, against plain NumPy."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from records.decoding import pixels


def _jpeg(plane: np.ndarray, **save: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "JPEG", **save)
    return buffer.getvalue()


def _noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_decoding_equals_tensorflows_accurate_one() -> None:
    import tensorflow as tf

    for shape in ((33, 50), (40, 21, 3)):
        data = _jpeg(_noise(*shape))
        expected = tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy()
        np.testing.assert_array_equal(pixels.decode_jpeg(data, "x.jpg"), expected)


def test_grey_in_one_and_three_channels_is_one_picture() -> None:
    plane = pixels.decode_jpeg(_jpeg(_noise(16, 24)), "x.jpg")
    three = np.repeat(plane, 3, axis=-1)
    assert pixels.is_grey_picture(plane) and pixels.is_grey_picture(three)
    one_off = three.copy()
    one_off[-1, -1, 2] ^= 1
    assert not pixels.is_grey_picture(one_off)


def test_facts_of_grey_and_colour_pictures() -> None:
    grey, colour = _noise(20, 30), _noise(20, 30, 3)
    facts = pixels.read_facts(_jpeg(grey), "x.jpg")
    assert (facts.height, facts.width, facts.is_grey) == (20, 30, True)
    assert not pixels.read_facts(_jpeg(colour), "x.jpg").is_grey
    in_rgb = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(in_rgb, "JPEG")
    assert pixels.read_facts(in_rgb.getvalue(), "x.jpg").is_grey


def test_hash_follows_pixels_and_shape_not_file_bytes() -> None:
    plane = _noise(16, 16)
    plain, optimized = _jpeg(plane), _jpeg(plane, optimize=1)
    assert plain != optimized
    assert (
        pixels.read_facts(plain, "x.jpg").pixel_hash
        == pixels.read_facts(optimized, "x.jpg").pixel_hash
    )
    flat = np.zeros((4, 9, 1), np.uint8)
    assert pixels.hash_pixels(flat) != pixels.hash_pixels(flat.reshape(6, 6, 1))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no picture", ["x.jpg", "expected a JPEG picture", "no picture"]),
        (_jpeg(_noise(64, 64))[:2000], ["x.jpg", "complete", "truncated", "2000 bytes"]),
        (_jpeg(_noise(64, 64))[:-2], ["x.jpg", "complete"]),
    ],
)
def test_damaged_files_are_refused(data: bytes, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        pixels.decode_jpeg(data, "x.jpg")
    assert all(word in str(error.value) for word in words)


def test_too_large_and_four_colour_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 100 pixels, received 30x20"):
        pixels.decode_jpeg(_jpeg(_noise(20, 30)), "x.jpg", max_pixels=100)
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(buffer, "JPEG")
    with pytest.raises(ValueError, match="expected grey or RGB, received mode CMYK"):
        pixels.decode_jpeg(buffer.getvalue(), "x.jpg")


def test_groups_equal_connected_components_of_the_correlation_matrix() -> None:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(0)
    side = pixels.THUMBNAIL_SIDE
    base = rng.normal(128, 30, (150, side, side))
    noise = rng.normal(0, 1, (4, 150, side, side)) * np.array([0, 6, 9, 11])[:, None, None, None]
    thumbnails = np.clip(base + noise, 0, 255).reshape(-1, side, side).astype(np.uint8)
    near = np.corrcoef(thumbnails.reshape(len(thumbnails), -1)) >= pixels.NEAR_COPY_CORRELATION
    _, expected = connected_components(csr_matrix(near), directed=False)
    received = pixels.group_near_copies(thumbnails)
    pairs = set(zip(expected.tolist(), received.tolist()))
    assert len(pairs) == len(set(expected.tolist())) == len(set(received.tolist()))
    assert 150 <= len(pairs) < len(thumbnails)
    assert all(received[i] == np.flatnonzero(received == received[i])[0] for i in range(600))


def test_pictures_of_one_colour_are_no_near_copies() -> None:
    flat = np.zeros((3, 32, 32), np.uint8) + np.array([0, 5, 5], np.uint8)[:, None, None]
    np.testing.assert_array_equal(pixels.group_near_copies(flat), [0, 1, 2])


def test_a_scaled_and_compressed_picture_is_a_near_copy_and_another_is_not() -> None:
    coarse = Image.fromarray(_noise(12, 12)).resize((200, 180), Image.Resampling.BICUBIC)
    other = Image.fromarray(_noise(12, 12, seed=1)).resize((200, 180), Image.Resampling.BICUBIC)
    scaled = coarse.resize((130, 140), Image.Resampling.BILINEAR)
    files = [_jpeg(np.asarray(image), quality=70) for image in (coarse, scaled, other)]
    thumbnails = np.stack([pixels.read_facts(f, "x.jpg").thumbnail for f in files])
    np.testing.assert_array_equal(pixels.group_near_copies(thumbnails), [0, 0, 2])
