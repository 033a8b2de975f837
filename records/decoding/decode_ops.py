"""`records.decoding.decode.decode_pictures` as TensorFlow ops, for a model that takes pictures as
files.

JPEGs, and PNGs that need no change of channels, come out the same, bit for bit. `tf.image.resize`
in place of the ops here gave pixels one grey level apart, and by these, probabilities of an
EfficientNet-Lite0 up to 0.04 apart and other labels for 1 % of the test pictures of
brain_tumor_mri.
"""

from __future__ import annotations

import tensorflow as tf

_SCALE = 2048  # OpenCV's INTER_RESIZE_COEF_SCALE


def decode_picture(encoded: tf.Tensor, image_size: int, channels: int) -> tf.Tensor:
    """A JPEG or PNG, string [], to uint8 [S, S, channels]; see `records.decoding.decode`."""
    # It takes PNGs as well, whatever its name.
    pixels = tf.io.decode_jpeg(encoded, channels=channels, dct_method="INTEGER_ACCURATE")
    resized = resize_bilinear(pixels, image_size)
    return tf.ensure_shape(resized, [image_size, image_size, channels])


def resize_bilinear(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """OpenCV's INTER_LINEAR in its fixed-point arithmetic: uint8 [H, W, C] -> uint8 [S, S, C].

    Source: HResizeLinear and VResizeLinear in modules/imgproc/src/resize.cpp of OpenCV 4.
    """
    shape = tf.shape(pixels)
    top, bottom, upper, lower = _taps(shape[0], size, keeps_edge_weights=True)
    left, right, before, after = _taps(shape[1], size, keeps_edge_weights=False)
    wide = tf.cast(pixels, tf.int32)
    rows = tf.gather(wide, left, axis=1) * before[:, None]
    rows += tf.gather(wide, right, axis=1) * after[:, None]
    # The shifts by 4, 16 and 2 are OpenCV's, and each one truncates: merged, they would round other
    # pixels.
    rows = tf.bitwise.right_shift(rows, 4)
    total = tf.bitwise.right_shift(tf.gather(rows, top) * upper[:, None, None], 16)
    total += tf.bitwise.right_shift(tf.gather(rows, bottom) * lower[:, None, None], 16)
    return tf.saturate_cast(tf.bitwise.right_shift(total + 2, 2), tf.uint8)


def _taps(
    length: tf.Tensor, size: int, *, keeps_edge_weights: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """(first source, second source, weight of each in 1/2048), each int32 [S].

    Beyond the edge OpenCV gives columns all weight to one source, and rows to the same one twice.
    """
    scale = 1 / (tf.constant(size, tf.float64) / tf.cast(length, tf.float64))
    # In float64 and then cut to float32, as OpenCV does: the weights are rounded from it.
    place = tf.cast((tf.range(size, dtype=tf.float64) + 0.5) * scale - 0.5, tf.float32)
    floor = tf.floor(place)
    share, first = place - floor, tf.cast(floor, tf.int32)
    if not keeps_edge_weights:
        # Before the clip: it depends on where the source would lie.
        share = tf.where((first < 0) | (first >= length - 1), 0.0, share)
    weights = [tf.cast(tf.round(w * _SCALE), tf.int32) for w in (1 - share, share)]
    sources = [tf.clip_by_value(first + i, 0, length - 1) for i in (0, 1)]
    return sources[0], sources[1], weights[0], weights[1]
