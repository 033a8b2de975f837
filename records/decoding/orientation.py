"""Which way up a picture is: the orientation in its EXIF data, and how pixels are turned by it.

One rule, wherever a picture is decoded: upright, as a viewer shows it. The EXIF data of a JPEG lie
in a segment before all but APP and COM segments, those of a PNG in a chunk eXIf, those of a WebP in
a chunk EXIF; XMP is not looked at. `records.decoding.decode_ops` repeats the rule as TensorFlow
ops, but for WebP, which no graph takes.
"""

from typing import Any

import numpy as np

UPRIGHT = 1
# The tag that holds it, and the type of its value, a whole number of two bytes.
TAG, SHORT = 0x0112, 3
EXIF = b"Exif\0\0"
# No file needs as many: one with millions would block a server that looks through all.
MOST_SEGMENTS, MOST_CHUNKS = 100, 10_000
_ORDERS: dict[bytes, Any] = {b"II*\0": "little", b"MM\0*": "big"}


def read_orientation(data: Any) -> int:
    """The orientation 1 to 8 of a JPEG, PNG or WebP (bytes or a buffer); 1 where it says none."""
    if data[:2] == b"\xff\xd8":
        return _read_tag(_jpeg_exif(data))
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _read_tag(_png_exif(data))
    if data[8:12] == b"WEBP":
        return _read_tag(_webp_exif(data))
    return UPRIGHT


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, ...] as a viewer shows it, [W, H, ...] from orientation 5 on; contiguous."""
    if orientation == UPRIGHT:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if rows else 1, :: -1 if columns else 1])


def _jpeg_exif(data: Any) -> Any:
    """What follows `EXIF` in the first such segment; b"" without one."""
    at = 2
    for _ in range(MOST_SEGMENTS):
        head = bytes(data[at : at + 10])
        # APP0 to APP15, and COM.
        if len(head) < 10 or head[0] != 0xFF or not (0xE0 <= head[1] <= 0xEF or head[1] == 0xFE):
            break
        end = at + 2 + int.from_bytes(head[2:4])
        if head[1] == 0xE1 and head[4:] == EXIF:
            return data[at + 10 : end]
        at = end
    return b""


def _png_exif(data: Any) -> Any:
    at = 8
    for _ in range(MOST_CHUNKS):
        if at + 10 > len(data):
            break
        size = int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] == b"eXIf":
            return data[at + 8 : at + 8 + size]
        at += 12 + size
    return b""


def _webp_exif(data: Any) -> Any:
    at = 12
    for _ in range(MOST_CHUNKS):
        if at + 10 > len(data):
            break
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            found = data[at + 8 : at + 8 + size]
            return found[len(EXIF) :] if found[: len(EXIF)] == EXIF else found
        at += 8 + size + size % 2  # to an even number of bytes
    return b""


def _read_tag(exif: Any) -> int:
    """The orientation that EXIF data, a TIFF without pixels, hold in their first directory."""
    order = _ORDERS.get(bytes(exif[:4]))
    if order is None:
        return UPRIGHT

    def number(at: int, size: int = 2) -> int:
        return int.from_bytes(exif[at : at + size], order)

    first = number(4, 4) + 2
    for entry in range(first, min(first + 12 * number(first - 2), len(exif) - 11), 12):
        if number(entry) == TAG:
            value = number(entry + 8)
            return value if number(entry + 2) == SHORT and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
