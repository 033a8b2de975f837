"""`records.decoding.decode.decode_pictures` as TensorFlow ops, for a model that takes pictures as
files.

Both take the same files and give the same pixels, bit for bit. `tf.image.resize` in place of the
ops here gave pixels one grey level apart, and by these, probabilities of an EfficientNet-Lite0 up
to 0.04 apart and other labels for 1 % of the test pictures of brain_tumor_mri.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from records.decoding.orientation import EXIF, MOST_CHUNKS, MOST_SEGMENTS, SHORT, TAG, UPRIGHT
from records.decoding.pixels import MAX_PIXELS

_SCALE = 2048  # OpenCV's INTER_RESIZE_COEF_SCALE
_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_CMYK = 4  # channels of a JPEG
_GREY = (9798, 19235, 3735)  # of red, green and blue in 1/32768: ITU-R 601, as OpenCV has them


def decode_pictures(
    encoded: tf.Tensor, image_size: int, channels: int, max_pixels: int = MAX_PIXELS
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pictures' files, string [B], to (uint8 [B, S, S, channels], bool [B]: which are usable).

    What cannot be decoded is black and not usable: it costs no other picture.
    """
    pixels = tf.TensorSpec([image_size, image_size, channels], tf.uint8)

    def decode(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        picture = tf.data.Dataset.from_tensors(data)
        limits = (image_size, channels, max_pixels)
        picture = picture.map(lambda data: (decode_picture(data, *limits), True))
        nothing = tf.data.Dataset.from_tensors((tf.zeros(pixels.shape, pixels.dtype), False))
        # Only tf.data goes on after an operation that failed.
        found = picture.ignore_errors().concatenate(nothing).take(1)
        return tuple(found.get_single_element())

    return tf.map_fn(decode, encoded, fn_output_signature=(pixels, tf.TensorSpec([], tf.bool)))


def decode_picture(
    encoded: tf.Tensor, image_size: int, channels: int, max_pixels: int = MAX_PIXELS
) -> tf.Tensor:
    """A JPEG or PNG, string [], to uint8 [S, S, channels]; see `records.decoding.decode`."""
    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG_START)) == _JPEG_START
    is_png = tf.strings.substr(encoded, 0, len(_PNG_START)) == _PNG_START
    shape = tf.cond(
        is_jpeg, lambda: tf.image.extract_jpeg_shape(encoded), lambda: _png_shape(encoded)
    )
    fits = tf.reduce_prod(tf.cast(shape[:2], tf.int64)) <= max_pixels
    tf.debugging.Assert((is_jpeg | is_png) & fits, ["expected JPEG or PNG", shape])
    pixels = tf.cond(
        is_jpeg & (shape[2] == _CMYK),
        lambda: decode_cmyk(encoded, channels),
        lambda: decode_plain(encoded, channels),
    )
    pixels = turn_upright(pixels, read_orientation(encoded))
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


def turn_upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """`records.decoding.orientation.turn_upright` of [H, W, C]."""

    def turn() -> tf.Tensor:
        turned = tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2])
        flips = [tf.reduce_any(orientation == which) for which in ([3, 4, 7, 8], [2, 3, 6, 7])]
        axes = tf.boolean_mask([0, 1], tf.stack(flips))
        return tf.reverse(tf.transpose(pixels, turned), axes)

    return tf.cond(orientation == UPRIGHT, lambda: pixels, turn)


def read_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """`records.decoding.orientation.read_orientation` of a JPEG or PNG, string [] -> int64 []."""

    def look() -> tf.Tensor:
        raw = tf.io.decode_raw(encoded, tf.uint8)
        is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG_START)) == _JPEG_START
        start, end = tf.cond(
            is_jpeg,
            lambda: _find(_jpeg_segment, raw, 2, MOST_SEGMENTS),
            lambda: _find(_png_chunk, raw, len(_PNG_START), MOST_CHUNKS),
        )
        return _read_tag(tf.cast(raw[start:end], tf.int64))

    # Most pictures have none: one look over all bytes is faster than a walk.
    may_have = tf.strings.regex_full_match(encoded, r"\C*(Exif|eXIf)\C*")
    return tf.cond(may_have, look, lambda: tf.constant(UPRIGHT, tf.int64))


def _find(
    part: Callable[..., Any], raw: tf.Tensor, at: int, most: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """(start, end) of the EXIF data in raw uint8 [n], int64 []; (n, n) without any.

    Args:
      part: from the first ten bytes of a part, int64 [10], to (whether parts go on, whether it is
        that of the EXIF data, its bytes before its content, its bytes to the end of the content, to
        that of the part).
      at: where the first part begins.
      most: parts that are looked at.
    """

    def step(at: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, ...]:
        goes_on, is_exif, before, content, whole = part(tf.cast(raw[at : at + 10], tf.int64))
        return (
            tf.where(goes_on & ~is_exif, at + whole, size),
            tf.where(is_exif, at + before, start),
            tf.where(is_exif, at + content, end),
        )

    size = tf.size(raw, tf.int64)
    start = (tf.constant(at, tf.int64), size, size)
    found = tf.while_loop(
        lambda at, *_: at + 10 <= size, step, start, maximum_iterations=most, parallel_iterations=1
    )
    return found[1], found[2]


def _jpeg_segment(head: tf.Tensor) -> tuple[Any, ...]:
    is_app = (head[1] >= 0xE0) & (head[1] <= 0xEF)
    goes_on = (head[0] == 0xFF) & (is_app | (head[1] == 0xFE))
    is_exif = goes_on & (head[1] == 0xE1) & tf.reduce_all(head[4:] == list(EXIF))
    end = 2 + _number(head, 2, 2, False)
    return goes_on, is_exif, 10, end, end


def _png_chunk(head: tf.Tensor) -> tuple[Any, ...]:
    size = _number(head, 0, 4, False)
    return True, tf.reduce_all(head[4:8] == list(b"eXIf")), 8, 8 + size, 12 + size


def _read_tag(exif: tf.Tensor) -> tf.Tensor:
    """The orientation int64 [] that EXIF data int64 [n] hold."""
    size = tf.size(exif, tf.int64)
    exif = tf.concat([exif, tf.zeros(12, tf.int64)], 0)
    little, big = (tf.reduce_all(exif[:4] == list(mark)) for mark in (b"II*\0", b"MM\0*"))
    first = tf.minimum(_number(exif, 4, 4, little), size) + 2
    count = tf.clip_by_value((size - first) // 12, 0, _number(exif, first - 2, 2, little))
    entries = tf.reshape(exif[first : first + 12 * count], [-1, 12])
    # The first of them alone.
    tagged = tf.boolean_mask(entries, _number(entries, 0, 2, little) == TAG)[:1]
    kind, value = (_number(tagged, at, 2, little) for at in (2, 8))
    is_valid = (little | big) & (kind == SHORT) & (value >= 1) & (value <= 8)
    return tf.reduce_max(tf.concat([[UPRIGHT], tf.where(is_valid, value, UPRIGHT)], 0))


def _number(data: tf.Tensor, at: Any, size: int, is_little: Any) -> tf.Tensor:
    """`size` bytes from `at` on, of int64 [..., n], as a whole number int64 [...]."""
    digits = data[..., at : at + size]
    places = tf.constant([256**place for place in range(size)], tf.int64)
    return tf.reduce_sum(digits * tf.where(is_little, places, places[::-1]), -1)


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
