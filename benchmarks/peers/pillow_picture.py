"""A picture decoded and resized by Pillow: for libraries that leave this to it."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image


def decode(data: bytes, shape: Sequence[int]) -> np.ndarray:
    """Decodes a file's bytes to uint8 [S, S, C]: grey for one channel, else RGB."""
    mode = "L" if shape[2] == 1 else "RGB"
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft(mode, None)  # grey: libjpeg gives its luma plane, 1.6 times as fast
        return resize(picture.convert(mode), shape)


def resize(picture: Image.Image, shape: Sequence[int]) -> np.ndarray:
    """uint8 [S, S, C], bilinear without antialiasing, which `Image.resize` does not offer."""
    height, width, channels = shape
    scale = (picture.width / width, 0, 0, 0, picture.height / height, 0)
    small = picture.transform(
        (width, height), Image.Transform.AFFINE, scale, Image.Resampling.BILINEAR
    )
    return np.array(small).reshape(height, width, channels)
