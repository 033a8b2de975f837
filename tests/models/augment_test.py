"""Augmentation: keyed per example, the same compiled and not, against SciPy's warp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from models.augment import (
    AugmentConfig,
    _source_positions,
    _split,
    augment_images,
    hash_uniform,
)

STILL = {"flip_probability": 0.0, "rotation_degrees": 0.0, "zoom": 0.0}
STILL |= {"shift": 0.0, "brightness": 0.0, "contrast": 0.0}


def _images(batch: int, channels: int, size: tuple[int, int] = (17, 23)) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (batch, *size, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compiled", [False, True])
def test_an_example_does_not_depend_on_its_batch(channels: int, compiled: bool) -> None:
    images, keys = _images(7, channels), np.arange(7, dtype=np.int64) * 2**33 - 5
    augment = tf.function(augment_images, jit_compile=compiled)
    together = augment(images, keys).numpy()
    alone = np.concatenate([augment(images[i : i + 1], keys[i : i + 1]) for i in range(7)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(augment(images[::-1], keys[::-1]).numpy()[::-1], together)


@pytest.mark.parametrize("channels", [1, 3])
def test_compiled_and_not_are_equal(channels: int) -> None:
    images, keys = _images(32, channels, (64, 64)), np.arange(32, dtype=np.int64)
    plain = tf.function(augment_images)(images, keys).numpy()
    compiled = tf.function(augment_images, jit_compile=True)(images, keys).numpy()
    # On a scale of 0..255.
    np.testing.assert_allclose(plain, compiled, atol=1e-3)
    assert plain.dtype == np.float32 and plain.shape == images.shape
    assert plain.min() >= 0 and plain.max() <= 255
    assert not np.array_equal(plain, images)


def test_magnitudes_of_zero_change_nothing() -> None:
    images = _images(4, 3)
    out = augment_images(images, np.arange(4, dtype=np.int64), AugmentConfig(**STILL))
    np.testing.assert_array_equal(out, images)


def test_a_flip_mirrors_left_and_right() -> None:
    images = _images(64, 1)
    always = AugmentConfig(**STILL | {"flip_probability": 1.0})
    keys = np.arange(64, dtype=np.int64)
    np.testing.assert_array_equal(augment_images(images, keys, always), images[:, :, ::-1])
    half = AugmentConfig(**STILL | {"flip_probability": 0.5})
    out = augment_images(images, keys, half).numpy()
    flipped = [np.array_equal(a, b[:, ::-1]) for a, b in zip(out, images, strict=True)]
    assert 16 < sum(flipped) < 48


def test_the_warp_equals_scipy() -> None:
    config = AugmentConfig(
        **STILL | {"flip_probability": 0.5, "rotation_degrees": 30, "zoom": 0.3, "shift": 0.2}
    )
    images, keys = _images(6, 1, (31, 40)), np.arange(6, dtype=np.int64)
    out = augment_images(images, keys, config).numpy()
    uniform = hash_uniform(keys, 7).numpy().astype(np.float64)
    signed = 2 * uniform - 1
    for image, draw, flip, got in zip(images, signed, uniform[:, 0] < 0.5, out, strict=True):
        angle = math.radians(30) * draw[1]
        rotation = np.array(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        ) / (1 + 0.3 * draw[2])
        matrix = rotation @ np.diag([1.0, -1.0 if flip else 1.0])
        centre = np.array([30 / 2, 39 / 2])
        offset = centre + draw[3:5] * 0.2 * np.array([31, 40]) - matrix @ centre
        expected = ndimage.affine_transform(
            image[..., 0].astype(np.float64), matrix, offset, order=1, mode="mirror"
        )
        # Neighbours differ by up to 255 and positions are multiples of 2**-16 of a pixel.
        np.testing.assert_allclose(got[..., 0], expected, atol=0.2)


@pytest.mark.parametrize(
    "size, config",
    [
        ((224, 224), AugmentConfig()),
        ((31, 64), AugmentConfig()),
        ((299, 299), AugmentConfig()),
        ((420, 300), AugmentConfig()),  # beyond what float32 holds exactly
        ((40, 33), AugmentConfig(rotation_degrees=90, zoom=0.9, shift=0.5)),  # far outside
    ],
)
def test_positions_are_those_of_whole_numbers(size: tuple[int, int], config: AugmentConfig) -> None:
    """Whatever the dtype: exactly what arithmetic in units of 1 / 65536 pixel gives."""
    (height, width), one = size, 1 << 16
    signed = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    signed[0], signed[1] = -1, 0.999
    flip = np.array([1, -1, 1, -1, 1, 1])
    found = _source_positions(tf.constant(signed), tf.constant(flip, tf.float64), *size, config)
    exact = signed.astype(np.float64)
    angle = exact[:, 0] * math.radians(config.rotation_degrees)
    scale = 1 + exact[:, 1] * config.zoom

    def whole(x: np.ndarray, parts: int) -> np.ndarray:
        return np.round(x * parts).astype(np.int64)[:, None, None]

    cosine, sine = (whole(f(angle) / scale, one // 2) for f in (np.cos, np.sin))
    y = (2 * np.arange(height) - (height - 1))[None, :, None]
    x = (2 * np.arange(width) - (width - 1))[None, None] * flip[:, None, None]
    down = whole(exact[:, 2] * config.shift * height, one) + (height - 1) * (one // 2)
    right = whole(exact[:, 3] * config.shift * width, one) + (width - 1) * (one // 2)
    expected = (cosine * y - sine * x + down, sine * y + cosine * x + right)
    for positions, wanted, side in zip(found, expected, size, strict=True):
        last = (side - 1) * one
        wanted = np.maximum(last - abs(last - abs(wanted)), 0)
        before, share = (part.numpy() for part in _split(positions, side))
        np.testing.assert_array_equal(before, wanted >> 16)
        np.testing.assert_array_equal(share[..., 0] * one, wanted & (one - 1))
        assert (positions.dtype == tf.float64) == (size in ((420, 300), (40, 33)))


def test_light_stays_in_its_range() -> None:
    images = np.full((256, 8, 8, 1), 100, np.uint8)
    bright = AugmentConfig(**STILL | {"brightness": 0.2})
    out = augment_images(images, np.arange(256, dtype=np.int64), bright).numpy()[:, 0, 0, 0]
    assert 80 <= out.min() < 84 and 116 < out.max() <= 120
    contrast = AugmentConfig(**STILL | {"contrast": 0.2})
    out = augment_images(images, np.arange(256, dtype=np.int64), contrast)
    np.testing.assert_allclose(out, images, atol=1e-4)


def test_the_hash_is_even_and_uncorrelated() -> None:
    keys = np.concatenate([np.arange(20_000), np.arange(20_000) << 32, -np.arange(20_000)])
    uniform = hash_uniform(keys.astype(np.int64), 5).numpy()
    assert uniform.min() >= 0 and uniform.max() < 1
    for part in np.split(uniform, 3):
        counts = [np.bincount((column * 16).astype(int), minlength=16) for column in part.T]
        # Chi-square of 15 degrees of freedom: above 45 in 1 of 10,000 cases.
        assert (((np.array(counts) - 1250) ** 2) / 1250).sum(axis=1).max() < 45
        assert np.abs(np.corrcoef(part.T) - np.eye(5)).max() < 0.03
        assert abs(np.corrcoef(part[1:, 0], part[:-1, 0])[0, 1]) < 0.03


def test_other_dtypes_and_magnitudes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"expected uint8 .* received float32"):
        augment_images(np.zeros((1, 4, 4, 1), np.float32), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match=r"model: zoom expected .* received 1.5"):
        AugmentConfig(zoom=1.5)
