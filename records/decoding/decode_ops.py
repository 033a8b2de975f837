"""`records.decoding.decode.decode_pictures` as TensorFlow ops, for a model that takes pictures as
files.

Both take the same files and give the same pixels, bit for bit. `tf.image.resize` in place of the
ops here gave pixels one grey level apart, and by these, probabilities of an EfficientNet-Lite0 up
to 0.04 apart and other labels for 1 % of the test pictures of brain_tumor_mri.
"""

from __future__ import annotations

import tensorflow as tf

from records.decoding.pixels import MAX_PIXELS

_SCALE = 2048  # OpenCV's INTER_RESIZE_COEF_SCALE
_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_CMYK = 4  # channels of a JPEG
_GREY = (9798, 19235, 3735)  # of red, green and blue in 1/32768: ITU-R 601, as OpenCV has them


def decode_pictures(
    encoded: tf.Tensor, image_size: int, channels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pictures' files, string [B], to (uint8 [B, S, S, channels], bool [B]: which are usable).

    What cannot be decoded is black and not usable: it costs no other picture.
    """
    pixels = tf.TensorSpec([image_size, image_size, channels], tf.uint8)

    def decode(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        picture = tf.data.Dataset.from_tensors(data)
        picture = picture.map(lambda data: (decode_picture(data, image_size, channels), True))
        nothing = tf.data.Dataset.from_tensors((tf.zeros(pixels.shape, pixels.dtype), False))
        # Only tf.data goes on after an operation that failed.
        found = picture.ignore_errors().concatenate(nothing).take(1)
        return tuple(found.get_single_element())

    return tf.map_fn(decode, encoded, fn_output_signature=(pixels, tf.TensorSpec([], tf.bool)))


def decode_picture(encoded: tf.Tensor, image_size: int, channels: int) -> tf.Tensor:
    """A JPEG or PNG, string [], to uint8 [S, S, channels]; see `records.decoding.decode`."""
    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG_START)) == _JPEG_START
    is_png = tf.strings.substr(encoded, 0, len(_PNG_START)) == _PNG_START
    shape = tf.cond(
        is_jpeg, lambda: tf.image.extract_jpeg_shape(encoded), lambda: _png_shape(encoded)
    )
    fits = tf.reduce_prod(tf.cast(shape[:2], tf.int64)) <= MAX_PIXELS
    tf.debugging.Assert((is_jpeg | is_png) & fits, ["expected JPEG or PNG", shape])
    pixels = tf.cond(
        is_jpeg & (shape[2] == _CMYK),
        lambda: decode_cmyk(encoded, channels),
        lambda: decode_plain(encoded, channels),
    )
    resized = resize_bilinear(pixels, image_size)
    return tf.ensure_shape(resized, [image_size, image_size, channels])


def _png_shape(encoded: tf.Tensor) -> tf.Tensor:
    """int32 [3] as `tf.image.extract_jpeg_shape`, of a PNG; its channels are not looked at."""
    size = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
    return tf.stack([size[1], size[0], 0])


def decode_plain(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """A JPEG of one or three colours or a PNG, string [], to uint8 [H, W, channels].

    Of an animated PNG the still picture that it holds for viewers of PNG.
    """
    # It takes PNGs as well, whatever its name.
    return tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")


def decode_cmyk(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """A JPEG of four colours, string [], to uint8 [H, W, channels].

    OpenCV turns it into red, green and blue by a formula that is up to 2 levels apart, and
    TensorFlow gives no grey of it.
    """
    pixels = decode_plain(encoded, 3)
    if channels == 3:
        return pixels
    weighted = tf.reduce_sum(tf.cast(pixels, tf.int32) * _GREY, -1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(weighted + 2**14, 15), tf.uint8)


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
