"""What can be said of a picture from its pixels: size, grey or colour, identity, near copies.

NumPy, Pillow and OpenCV, for builders, their threads and command-line tools.

Near copies are found on thumbnails: the grey plane, averaged down to 32x32. Two pictures are near
copies if the Pearson correlation of their thumbnails is at least NEAR_COPY_CORRELATION; a group
is what is connected by such pairs.
"""

import hashlib
import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from records.decoding.orientation import read_orientation, turn_upright

# 16.8 million, 8 times the largest brain MRI picture; a file that claims more is refused undecoded.
MAX_PIXELS = 4096 * 4096
THUMBNAIL_SIDE = 32
# Chosen on the 2870 distinct brain MRI pictures. A sample of pairs looked at: from 0.95 up, one
# slice scaled or compressed anew, or neighbouring slices of one head; at 0.92 different heads are
# among them. Largest group: 11 pictures at 0.95, 196 at 0.92, 358 at 0.90.
NEAR_COPY_CORRELATION = 0.95
_BLOCK_ROWS = 512  # rows of the correlation matrix at a time: 12 MB for 2870 pictures


@dataclass(frozen=True)
class PictureFacts:
    """What a scan keeps of a picture."""

    # height and width: size in pixels.
    height: int
    width: int
    is_grey: bool  # one channel, or all channels equal in every pixel
    # Hex digits; equal for equal decoded pixels. A grey picture stored in three channels has the
    # hash of its one plane.
    pixel_hash: str
    thumbnail: np.ndarray  # uint8 [32, 32], the grey plane averaged down


def read_facts(data: bytes, name: str) -> PictureFacts:
    """Decodes a JPEG file completely and describes it; errors as `decode_jpeg`."""
    return describe_pixels(decode_jpeg(data, name))


def describe_pixels(pixels: np.ndarray) -> PictureFacts:
    """Describes a picture uint8 [H, W, C], C 1 or 3."""
    # Once, for all that looks at a plane: on strided views the rest took 1.9 instead of 1.2 ms.
    planes = cv2.split(pixels)
    is_grey = all(np.array_equal(planes[0], plane) for plane in planes[1:])
    # `convert`: the brightness by ITU-R 601-2.
    plane = planes[0] if is_grey else np.asarray(Image.fromarray(pixels).convert("L"))
    return PictureFacts(
        height=pixels.shape[0],
        width=pixels.shape[1],
        is_grey=is_grey,
        pixel_hash=hash_pixels(plane[..., None] if is_grey else pixels),
        thumbnail=make_thumbnail(plane),
    )


def decode_jpeg(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a whole JPEG file, turned upright by its EXIF orientation: uint8 [H, W, C], C 1 or 3.

    Raises:
      ValueError: no JPEG, damaged or truncated, too large, or neither grey nor RGB. Names file,
        expected and received.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format != "JPEG":
                raise ValueError(f"{name}: expected a JPEG picture, received {image.format}")
            if image.width * image.height > max_pixels:
                raise ValueError(
                    f"{name}: expected at most {max_pixels} pixels, received "
                    f"{image.width}x{image.height}"
                )
            if image.mode not in ("L", "RGB"):
                raise ValueError(f"{name}: expected grey or RGB, received mode {image.mode}")
            pixels = np.asarray(image)
    except Image.UnidentifiedImageError:
        raise ValueError(
            f"{name}: expected a JPEG picture, received {len(data)} bytes that are no picture "
            f"(they start with {data[:12]!r})"
        ) from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name}: expected a complete JPEG picture, received a damaged or truncated one of "
            f"{len(data)} bytes ({error})"
        ) from None
    return turn_upright(pixels if pixels.ndim == 3 else pixels[..., None], read_orientation(data))


def is_grey_picture(pixels: np.ndarray) -> bool:
    """Whether uint8 [H, W, C] has one channel or equal channels in every pixel."""
    return all(np.array_equal(pixels[..., 0], pixels[..., c]) for c in range(1, pixels.shape[-1]))


def hash_pixels(pixels: np.ndarray) -> str:
    """SHA-256 of the shape and values of uint8 [H, W, C], as hex digits."""
    # With the shape: the same bytes may be a picture of 2 x 8 or of 4 x 4.
    digest = hashlib.sha256("x".join(map(str, pixels.shape)).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def make_thumbnail(plane: np.ndarray) -> np.ndarray:
    """Averages uint8 [H, W] down (or repeats it up) to uint8 [32, 32], ignoring its proportions."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX))


def group_near_copies(thumbnails: np.ndarray) -> np.ndarray:
    """The first picture of each one's group, int64 [N]: near-copy pairs connect pictures to groups.

    `thumbnails` are uint8 [N, 32, 32]. Sums are exact integers in float64 and compared in a fixed
    order, so every machine finds the same groups.
    """
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float64)
    count = flat.shape[1]
    sums = flat.sum(1)
    # n * sum(x^2) - sum(x)^2: 1024 pixels of at most 255 stay below 2^53, so float64 is exact.
    variances = count * (flat * flat).sum(1) - sums * sums
    # A forest of union and find, whose roots are always the lowest number of a group.
    first = np.arange(len(flat))
    for start in range(0, len(flat), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        covariances = count * (flat[rows] @ flat.T) - np.outer(sums[rows], sums)
        # A picture of one colour has no variance, and no near copies but those listed as equal.
        limits = NEAR_COPY_CORRELATION * np.sqrt(np.outer(variances[rows], variances))
        near = (covariances >= limits) & (limits > 0)
        for i, j in zip(*np.nonzero(near)):
            if i + start < j:
                _join(first, int(i) + start, int(j))
    return np.array([_root(first, i) for i in range(len(first))], np.int64)


def _root(first: np.ndarray, i: int) -> int:
    """The first picture of the group of picture `i`; shortens the way there."""
    while first[i] != i:
        first[i] = first[first[i]]
        i = int(first[i])
    return i


def _join(first: np.ndarray, i: int, j: int) -> None:
    # The lower one becomes the root: a group is named by its first picture.
    low, high = sorted((_root(first, i), _root(first, j)))
    first[high] = low
