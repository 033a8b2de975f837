"""Picture augmentation on the device, in operations that XLA compiles.

The random numbers are an integer hash of each example's key, so an example is changed in the same
way whatever batch, replica or group of steps it falls into.
"""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

_LOW_32_BITS = 0xFFFFFFFF
_GOLDEN_RATIO = 0x9E3779B9
# Per picture: flip, rotation, zoom, two shifts, contrast, brightness. `mix_pairs` takes the next.
_DRAWS = 7
_QUANTILES = 4097  # of the Beta distribution; between them it is taken as linear
_ONE = 1 << 16  # One pixel in the fixed-point positions.


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """How far a picture may be changed; each amount is drawn evenly from its range.

    Attributes:
        flip_probability: share of the pictures mirrored left to right.
        rotation_degrees: up to this many degrees either way, at most 90.
        zoom: scale factor in 1 ± zoom, below 1.
        shift: up to this share of height and of width either way, at most 0.5.
        brightness: all values times 1 ± brightness, at most 1.
        contrast: distance from the picture's mean times 1 ± contrast, at most 1.
    """

    flip_probability: float = 0.5
    rotation_degrees: float = 10.0
    zoom: float = 0.1
    shift: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.1

    def __post_init__(self) -> None:
        limits = {
            "flip_probability": 1.0,
            "rotation_degrees": 90.0,
            "zoom": 0.9,
            "shift": 0.5,
            "brightness": 1.0,
            "contrast": 1.0,
        }
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0.0 <= value <= limit:
                raise ValueError(
                    f"model: {name} expected a number in [0, {limit}], received {value}"
                )


def mix32(x: tf.Tensor) -> tf.Tensor:
    """Bijection of 32-bit numbers, held in int64 [...], that scatters close ones apart.

    The finaliser of MurmurHash3. int64 because unsigned kernels are missing on some devices; the
    product may overflow, its low 32 bits are right all the same.
    """
    low = tf.constant(_LOW_32_BITS, tf.int64)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(16, tf.int64)))
    x = tf.bitwise.bitwise_and(x * tf.constant(0x85EBCA6B, tf.int64), low)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(13, tf.int64)))
    x = tf.bitwise.bitwise_and(x * tf.constant(0xC2B2AE35, tf.int64), low)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(16, tf.int64)))


def hash_uniform(keys: tf.Tensor, draws: int) -> tf.Tensor:
    """Numbers that follow from the keys alone, int64 [B] of any values.

    Returns:
        float32 [B, draws], evenly spread multiples of 2**-24 in [0, 1).
    """
    low = tf.constant(_LOW_32_BITS, tf.int64)
    golden = tf.constant(_GOLDEN_RATIO, tf.int64)
    keys = tf.cast(keys, tf.int64)
    upper = tf.bitwise.bitwise_and(tf.bitwise.right_shift(keys, tf.constant(32, tf.int64)), low)
    state = mix32(tf.bitwise.bitwise_and(mix32(upper) + golden, low))
    state = mix32(tf.bitwise.bitwise_xor(state, tf.bitwise.bitwise_and(keys, low)))
    steps = tf.range(1, draws + 1, dtype=tf.int64) * golden
    bits = mix32(tf.bitwise.bitwise_and(state[:, None] + steps[None, :], low))
    # 24 bits are what float32 holds exactly.
    bits = tf.bitwise.right_shift(bits, tf.constant(8, tf.int64))
    return tf.cast(bits, tf.float32) * (1.0 / (1 << 24))


def _rounded(x: tf.Tensor, parts: int) -> tf.Tensor:
    """The nearest multiple of 1 / parts, a power of two."""
    return tf.round(x * parts) / parts


def _farthest(size: int, config: AugmentConfig) -> float:
    """The largest distance from the centre, in pixels, from which a pixel may come."""
    angle = min(math.radians(config.rotation_degrees), math.pi / 4)
    turned = size / 2 * (math.cos(angle) + math.sin(angle))
    return turned / (1.0 - config.zoom) + config.shift * size


def _source_positions(
    signed: tf.Tensor, flip: tf.Tensor, height: int, width: int, config: AugmentConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each output pixel comes from: row and column, [B, H, W] in pixels from the centre.

    Multiples of 1 / _ONE, with which the dtype computes exactly: XLA may compute a position twice,
    once for the gather and once for the weights, and two roundings beside a whole number give a
    wrong neighbour. float32 up to some 360 pixels a side, else float64. No integers: int32 lies in
    the host's memory, and with int64 64 pictures took 1.35 times as long on a CPU (256 and 190 ms).

    Args:
        signed: float32 [B, 4] in [-1, 1): rotation, zoom, shift down, shift right.
        flip: float64 [B], -1 for mirrored pictures, else 1.
    """
    # float64: what is left of a difference between two sines is gone when they are rounded.
    signed = tf.cast(signed, tf.float64)[:, None, None]
    angle = signed[..., 0] * math.radians(config.rotation_degrees)
    # The inverse, because the source of each output pixel is asked for.
    scale = 1.0 / (1.0 + signed[..., 1] * config.zoom)
    # Half units, because coordinates from the centre are doubled to be whole.
    cosine, sine = (_rounded(f(angle) * scale, _ONE // 2) / 2.0 for f in (tf.cos, tf.sin))
    y = (2.0 * np.arange(height) - (height - 1))[None, :, None]
    x = (2.0 * np.arange(width) - (width - 1))[None, None, :] * flip[:, None, None]
    shift_y = _rounded(signed[..., 2] * (config.shift * height), _ONE)
    shift_x = _rounded(signed[..., 3] * (config.shift * width), _ONE)
    farthest = _farthest(max(height, width), config)
    dtype = tf.float32 if farthest < (1 << 24) / _ONE else tf.float64
    # A column and a row of numbers for each picture: one sum makes all positions of them.
    terms = (cosine * y + shift_y, -sine * x, sine * y + shift_x, cosine * x)
    down, down_by_x, right, right_by_x = (tf.cast(term, dtype) for term in terms)
    rows, columns = down + down_by_x, right + right_by_x
    return _reflect(rows, height, farthest), _reflect(columns, width, farthest)


def _reflect(position: tf.Tensor, size: int, farthest: float) -> tf.Tensor:
    """Folds positions outside the picture back in, as a mirror at its edge would."""
    last = (size - 1) / 2
    inside = tf.clip_by_value(position, -last, last)
    position = inside + (inside - position)
    if farthest > 3 * last:  # past the mirror image, too
        position = tf.maximum(2 * tf.minimum(position, last) - position, -last)
    return position


def _pack_neighbours(images: tf.Tensor) -> tf.Tensor:
    """Packs each pixel with its right, lower and lower right neighbour into one word.

    One gather then fetches all four, where the gathers are what a warp costs. uint8 [B, H, W, C] ->
    float32, with which nothing computes: of int32 a GPU shifts the bits, but moves none (`Reshape`
    and `Slice` of int32 take it from the host's memory).
    """
    right = tf.concat([images[:, :, 1:], images[:, :, -1:]], axis=2)
    below = tf.concat([images[:, 1:], images[:, -1:]], axis=1)
    across = tf.concat([right[:, 1:], right[:, -1:]], axis=1)
    words = tf.cast(images, tf.int32)
    for shift, corner in ((8, right), (16, below), (24, across)):
        moved = tf.bitwise.left_shift(tf.cast(corner, tf.int32), shift)
        words = tf.bitwise.bitwise_or(words, moved)
    return tf.bitcast(words, tf.float32)


def _split(position: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Neighbour before each position, counted from the first pixel, and share of the next one."""
    # Of an even number of pixels the centre lies between two. Half of it is added after the
    # rounding: so the sum needs no more digits than the position.
    middle, half = divmod(size - 1, 2)
    position += half / 2
    before = tf.floor(position)
    return before + middle, tf.cast(position - before, tf.float32)[..., None]


def _warp(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Bilinear look-up: uint8 [B, H, W, C] at float [B, H, W] -> float32 [B, H, W, C]."""
    height, width, channels = images.shape[1:]
    row, fraction_y = _split(rows, height)
    column, fraction_x = _split(columns, width)
    index = tf.cast(row * width + column, tf.int32)
    packed = tf.reshape(_pack_neighbours(images), [-1, height * width, channels])
    packed = tf.gather(packed, index, batch_dims=1)
    packed = tf.bitcast(packed, tf.int32)

    def corner(shift: int) -> tf.Tensor:
        bits = tf.bitwise.right_shift(packed, shift)
        return tf.cast(tf.bitwise.bitwise_and(bits, 255), tf.float32)

    upper = corner(0) + (corner(8) - corner(0)) * fraction_x
    lower = corner(16) + (corner(24) - corner(16)) * fraction_x
    return upper + (lower - upper) * fraction_y


def augment_images(
    images: tf.Tensor, keys: tf.Tensor, config: AugmentConfig | None = None
) -> tf.Tensor:
    """Mirrors, rotates, zooms, shifts and changes the light of each picture.

    Args:
        images: uint8 [B, H, W, C], all static.
        keys: int64 [B]; equal keys change a picture in the same way. The caller makes them from
            (seed, epoch, global position).
        config: magnitudes; None is `AugmentConfig()`.

    Returns:
        float32 [B, H, W, C] in 0..255.

    Raises:
        TypeError: images that are not uint8.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8:
        raise TypeError(f"model: images expected uint8 [B, H, W, C], received {images.dtype.name}")
    config = config or AugmentConfig()
    height, width, channels = images.shape[1:]
    uniform = hash_uniform(keys, _DRAWS)
    signed = uniform * 2.0 - 1.0
    flip = tf.where(
        uniform[:, 0] < config.flip_probability,
        tf.constant(-1.0, tf.float64),
        tf.constant(1.0, tf.float64),
    )
    rows, columns = _source_positions(signed[:, 1:5], flip, height, width, config)
    warped = _warp(images, rows, columns)
    # An integer sum is exact in any order, so the mean does not depend on the batch.
    total = tf.reduce_sum(tf.cast(images, tf.int64), axis=[1, 2, 3], keepdims=True)
    mean = tf.cast(total, tf.float32) / float(height * width * channels)
    contrast = 1.0 + config.contrast * signed[:, 5][:, None, None, None]
    brightness = 1.0 + config.brightness * signed[:, 6][:, None, None, None]
    return tf.clip_by_value((mean + (warped - mean) * contrast) * brightness, 0.0, 255.0)


@functools.cache
def _beta_quantiles(alpha: float) -> np.ndarray:
    """float32 [_QUANTILES]: quantiles of Beta(alpha, alpha) at evenly spaced probabilities."""
    from scipy.stats import beta

    return beta.ppf(np.linspace(0.0, 1.0, _QUANTILES), alpha, alpha).astype(np.float32)


def mix_pairs(images: tf.Tensor, keys: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixup (Zhang et al. 2018) of rows 0 and 1, 2 and 3, ... of a batch.

    The order of examples is a random permutation, so a row's neighbour is a random other example;
    and a pair is never parted, so the result is the same for any number of replicas.

    Args:
        images: uint8 or float32 [B, H, W, C], B even.
        keys: int64 [B], as for `augment_images`.
        alpha: a row keeps the share max(s, 1 - s) of itself, s from Beta(alpha, alpha).

    Returns:
        (float32 [B, H, W, C], shares float32 [B] in [0.5, 1] of each row's own picture).
    """
    images = tf.cast(images, tf.float32)
    # The draw after those of `augment_images`.
    place = hash_uniform(keys, _DRAWS + 1)[:, _DRAWS] * (_QUANTILES - 1)
    below = tf.floor(place)
    # By table: TensorFlow has no inverse of the Beta distribution.
    table = tf.constant(_beta_quantiles(alpha))
    low, high = (tf.gather(table, tf.cast(below, tf.int64) + i) for i in (0, 1))
    share = low + (high - low) * (place - below)
    # At least half of itself, so that a row's own label stays the right one.
    share = tf.maximum(share, 1.0 - share)
    own = share[:, None, None, None]
    pairs = tf.reverse(tf.reshape(images, [-1, 2, *images.shape[1:]]), [1])
    return images * own + tf.reshape(pairs, tf.shape(images)) * (1.0 - own), share
