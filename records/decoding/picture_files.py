"""Picture files as they are found, to the JPEG and PNG files that are stored and decoded.

The same at a build and for what is predicted: `builders.convert` and `train.predict` both use it.
"""

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image

from records.decoding.orientation import read_orientation, turn_upright
from records.decoding.pixels import MAX_PIXELS

# The longest side that can be asked for: a square of it is the largest picture that is decoded.
MAX_SIDE = 4096
_QUALITY = 95  # of a JPEG that was scaled down
# Pillow knows forty more, and would start a program for one of them, PostScript.
_READ_KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# Kinds of files by where their mark stands, and the mark.
_MARKS = {
    "WebP": (8, b"WEBP"),
    "GIF": (0, b"GIF8"),
    "BMP": (0, b"BM"),
    "TIFF": (0, b"II*\0"),
    "TIFF (big-endian)": (0, b"MM\0*"),
    "HEIC or AVIF": (4, b"ftyp"),
    "JPEG 2000": (4, b"jP  "),
    "JPEG XL": (0, b"\xff\x0a"),
    "JPEG XL (in a container)": (4, b"JXL "),
}


class TooLargeError(ValueError):
    """A picture of more pixels than training decodes."""


class _UnsupportedError(ValueError):
    """A whole picture of a kind that is not read."""


def other_kind(data: Any) -> str:
    """What kind of picture that is no JPEG or PNG begins with these bytes; "" for none."""
    found = (kind for kind, (at, mark) in _MARKS.items() if data[at : at + len(mark)] == mark)
    return next(found, "")


def to_stored_file(data: bytes, max_side: int | None = None) -> bytes:
    """The file's own bytes where training decodes them; else the picture stored anew.

    JPEG and PNG stay as they are. Other kinds that Pillow reads (WebP, BMP, GIF, TIFF) become
    PNG; of several pictures the first is taken, an alpha channel is dropped, of 16 bits 8 are
    kept. What is stored anew is turned upright by its EXIF orientation; what keeps its bytes is
    turned where it is decoded.

    Args:
      max_side: a picture whose longer side has more pixels is scaled down to so many.

    Raises:
      TooLargeError: more than `MAX_PIXELS`, and no `max_side`.
      ValueError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures from 89 million pixels on, and refuses twice as many;
            # and of odd EXIF data, of which the one tag that counts is read by us.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            with Image.open(io.BytesIO(data), formats=_READ_KINDS) as image:
                return _stored(image, data, max_side)
    except (TooLargeError, _UnsupportedError):
        raise
    except Image.UnidentifiedImageError:
        received = f", received {kind}" if (kind := other_kind(data)) else ""
        raise ValueError(f"no picture of a kind that can be read{received}") from None
    except Exception as error:  # Pillow's readers raise some ten kinds
        raise ValueError(f"damaged ({error})") from None


def _stored(image: Image.Image, data: bytes, max_side: int | None) -> bytes:
    """As `to_stored_file`, of a picture that is open."""
    width, height = image.size
    if max_side is None and width * height > MAX_PIXELS:
        raise TooLargeError(f"{width:,} x {height:,} pixels, of {MAX_PIXELS:,} at most")
    shrinks = max_side is not None and max(width, height) > max_side
    # MPO: a JPEG with more pictures behind it, as some cameras write.
    is_jpeg = image.format in ("JPEG", "MPO")
    if (is_jpeg or image.format == "PNG") and not shrinks:
        return data
    # A JPEG decodes to near the size itself, which is many times as fast.
    picture = image if is_jpeg else _eight_bits(image)
    if shrinks and max_side:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    # Pillow itself turns a TIFF.
    upright = turn_upright(np.asarray(_eight_bits(picture)), read_orientation(data))
    return _encode(Image.fromarray(upright), "JPEG" if is_jpeg else "PNG")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey or RGB of 8 bits."""
    if image.mode.startswith("I"):
        # Pillow itself would clip to 255.
        values = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if image.mode in ("F", "LAB", "HSV"):
        raise _UnsupportedError(f"pixels of the kind {image.mode}, which is not supported")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def _encode(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    options = {"quality": _QUALITY} if kind == "JPEG" else {}
    image.save(file, kind, **options)
    return file.getvalue()
