"""From serialised records to the tensors that are cached: whole batches at a time.

What comes out is small and final: uint8 pictures, int32 ids, float32 vectors. Casting to
float, scaling and augmenting happen on the device, in the step.
"""

import functools
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from records.decoding.decode_ops import decode_cmyk, decode_plain
from records.decoding.orientation import read_orientation, turn_upright
from records.decoding.picture_files import other_kind
from records.decoding.pixels import MAX_PIXELS
from records.system.memory import recycled_inputs

# As in Keras's TextVectorization. The models mask id 0.
PAD_ID, OOV_ID = 0, 1
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_CMYK, _ANIMATED = 4, -1  # colours of a JPEG; of an animated PNG OpenCV draws the first frame
_PNG_START = b"\x89PNG\r\n\x1a\n"


class PictureError(ValueError):
    """A picture that cannot be decoded: its `row` in the batch, and a `remedy`.

    The latter says what to do with one that may be whole, but is not supported; else it is "".
    """

    def __init__(self, row: int, reason: str, remedy: str = ""):
        super().__init__(reason)
        self.row, self.remedy = row, remedy


@functools.cache
def _opencv() -> Any:
    import cv2  # a table or a text need not wait for it

    # What is wrong with a picture is said by `decode_pictures`.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # The pool of `records.loading.load` has a thread per core; threads of OpenCV's own would only
    # crowd.
    cv2.setNumThreads(0)
    return cv2


@functools.cache  # reading a package's metadata takes 1 ms
def opencv_version() -> str:
    """The version of what decodes pictures."""
    return importlib.metadata.version("opencv-python-headless")


def decode_pictures(
    encoded: Any,
    image_size: int,
    channels: int,
    out: Sequence[np.ndarray] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
) -> Any:
    """Decodes JPEGs or PNGs to uint8 [n, S, S, channels], by OpenCV (libjpeg-turbo, libpng).

    One channel of a JPEG is its luma plane: libjpeg skips colour conversion, and for a grey
    picture the result is the grey itself. Decoding is bit-exact with `tf.io.decode_jpeg(
    dct_method="INTEGER_ACCURATE")` and Pillow; JPEGs of four colours (CMYK) and animated PNGs, of
    which the still picture is taken, are decoded by TensorFlow itself. The picture is turned
    upright by its EXIF orientation (`records.decoding.orientation`), then stretched to S x S (no
    cropping, the aspect is not kept) by bilinear interpolation at pixel centres without
    antialiasing, the rule of `tf.image.resize`, in fixed point: at most 1 grey level from it, PSNR
    58.7 dB on every seventh training picture of brain_tumor_mri (41.7 dB from Pillow's antialiased
    bilinear). No float tensor is made. Per core about 1.3 times as fast as TensorFlow's ops and
    0.88 times as libjpeg-turbo alone (separate runs, a busy machine).

    Args:
      encoded: bytes objects or buffers [n].
      channels: 1 or 3.
      out: where each picture goes, contiguous uint8 [S, S, channels]; None for a new array.
      max_pixels: larger pictures are refused undecoded.

    Returns:
      `out`, or uint8 [n, S, S, channels].

    Raises:
      PictureError: one is damaged, truncated, of another format, or too large.
    """
    cv2 = _opencv()
    shape = (len(encoded), image_size, image_size, channels)
    targets: Any = recycled_inputs(shape, np.uint8) if out is None else out
    for row, data in enumerate(encoded):
        pixels = decode_whole(row, data, channels, max_pixels)
        size = (image_size, image_size)
        cv2.resize(pixels, size, dst=targets[row], interpolation=cv2.INTER_LINEAR)
    return targets


def decode_whole(row: int, data: Any, channels: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3] of one JPEG or PNG, upright; errors as `decode_pictures`."""
    cv2 = _opencv()
    is_jpeg = data[:2] == _JPEG_START
    kind = "JPEG" if is_jpeg else "PNG"
    # OpenCV knows a dozen other formats, whose decoders no picture of ours needs.
    if not is_jpeg and data[: len(_PNG_START)] != _PNG_START:
        if other := other_kind(data):
            remedy = "Store it as JPEG or PNG"
            raise PictureError(row, f"expected JPEG or PNG, received {other}", remedy)
        raise PictureError(row, "expected JPEG or PNG")
    # A picture of a few KB can claim gigabytes, and OpenCV's own limit can be set only before it is
    # loaded, by whoever that is.
    width, height, colours, at = _jpeg_size(data) if is_jpeg else (*_png_size(data), 0)
    if at and (bits := data[at + 4]) != 8:
        reason = f"a JPEG of {bits} bits a colour, of which 8 can be read"
        raise PictureError(row, reason, "Store it with 8 bits")
    # libjpeg fills a truncated picture with grey, and only warns. A thumbnail before the picture
    # has an end of its own.
    if is_jpeg and data[-2:] != _JPEG_END and bytes(data).find(_JPEG_END, at) < 0:
        raise PictureError(row, "its end is missing")
    if width * height > max_pixels:
        received = f"{width:,} x {height:,} pixels, of {max_pixels:,} at most"
        remedy = f"Raise the limit with --max-pixels {width * height}, or store smaller pictures"
        raise PictureError(row, f"it has {received}", remedy)
    if not width * height:
        raise PictureError(row, f"expected a whole {kind}")
    if colours in (_CMYK, _ANIMATED):
        pixels = _decode_as_exported(row, data, channels, colours, kind)
        return turn_upright(pixels, read_orientation(data))
    flags = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    # By our own reading of the tag, which an exported model repeats: OpenCV's differs for odd ones.
    flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise PictureError(row, f"expected a whole {kind} ({error.err})") from None
    if pixels is None:
        raise PictureError(row, f"expected a whole {kind}")
    return turn_upright(pixels, read_orientation(data))


def _decode_as_exported(row: int, data: Any, channels: int, colours: int, kind: str) -> np.ndarray:
    """Of what OpenCV makes other pixels than libjpeg and libpng do in the exported model."""
    decode = decode_cmyk if colours == _CMYK else decode_plain
    try:
        return decode(bytes(data), channels).numpy()
    except tf.errors.InvalidArgumentError:
        raise PictureError(row, f"expected a whole {kind}") from None


def _jpeg_size(data: Any) -> tuple[int, int, int, int]:
    """(width, height, colours, where) as libjpeg finds them: by the first frame header.

    All are 0 without one.
    """
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:  # libjpeg looks for the next marker, too
            at += 1
            continue
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[i : i + 2]) for i in (at + 5, at + 7))
            return width, height, int.from_bytes(data[at + 9 : at + 10]), at
        if marker in (0x00, 0xFF):
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # those without content
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0, 0, 0, 0


def _png_size(data: Any) -> tuple[int, int, int]:
    """(width, height, `_ANIMATED` or 0) of a PNG.

    All are 0 where not all chunks lie in the file: OpenCV would allocate them.
    """
    at, animated = len(_PNG_START), 0
    if data[at + 4 : at + 8] != b"IHDR":
        return 0, 0, 0
    while at + 12 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind == b"acTL":
            animated = _ANIMATED
        if kind == b"IEND" and end <= len(data):
            return int.from_bytes(data[16:20]), int.from_bytes(data[20:24]), animated
        at = end
    return 0, 0, 0


def split_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Splits string [B] to lower-case words, punctuation removed: string ragged [B, None].

    The rule of Keras's TextVectorization (`lower_and_strip_punctuation`, whitespace).
    """
    lowered = tf.strings.lower(texts, encoding="utf-8")
    bare = tf.strings.regex_replace(lowered, r"[!-/:-@\[-`{-~]", "")
    return tf.strings.split(bare)


def rank_ids(counts: np.ndarray) -> np.ndarray:
    """The new id of each id, int32 [V], by how often it occurs in training, `counts` int64 [V].

    0 and 1 (pad, out of vocabulary) stay; the most frequent becomes 2; ties keep their order; ids
    that do not occur become 1.
    """
    counts = counts.copy()
    # Their ids are fixed, however often a set's own texts hold them.
    counts[[PAD_ID, OOV_ID]] = 0
    # Stable: the same counts give the same ranks on every machine.
    by_rank = np.argsort(-counts, kind="stable")
    seen = by_rank[: int((counts > 0).sum())]
    table = np.full(len(counts), OOV_ID, np.int32)
    table[seen] = np.arange(2, 2 + len(seen), dtype=np.int32)
    table[PAD_ID] = PAD_ID
    return table


def pad_ids(
    ids: np.ndarray, splits: np.ndarray, sequence_length: int, table: np.ndarray, vocab_size: int
) -> np.ndarray:
    """Maps ids to ranks and pads them on the right.

    Args:
      ids: int32, the ids of all examples, one after the other.
      splits: int64 [N + 1], where each example begins and ends in `ids`.
      sequence_length: T; longer examples lose their end.
      table: int32 [V + 1] from `rank_ids`, then the rank of all ids that it lacks.
      vocab_size: ranks at or above it become 1, out of vocabulary; none is dropped.

    Returns:
      int32 [N, T].
    """
    # Ids beyond the table take its last entry, out of vocabulary.
    ranked = table[np.minimum(ids, len(table) - 1)]
    ranked[ranked >= vocab_size] = OOV_ID
    lengths = np.minimum(np.diff(splits), sequence_length)
    padded = np.full((len(lengths), sequence_length), PAD_ID, np.int32)
    columns = np.arange(sequence_length)
    filled = columns < lengths[:, None]
    padded[filled] = ranked[(splits[:-1, None] + columns)[filled]]
    return padded
