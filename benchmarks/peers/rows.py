"""The examples of a request, for peers that leave reading and decoding to the user's code.

NumPy, and Pillow or OpenCV where pictures are decoded. Imports nothing of this project.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def picture_files(request: dict[str, Any]) -> list[Path]:
    """The files of the pictures, `<label>/<number>.jpg`."""
    return sorted(Path(request["folder"], "pictures").glob("*/*.jpg"))


def read_rows(request: dict[str, Any]) -> tuple[list[Any], np.ndarray]:
    """(inputs, labels int64 [N]): bytes of JPEGs, float32 [F], or int32 ids [t]."""
    folder = Path(request["folder"])
    if request["modality"] == "image":
        files = picture_files(request)
        return [f.read_bytes() for f in files], np.array([int(f.parent.name) for f in files])
    labels = np.load(folder / "labels.npy")
    if request["modality"] == "tabular":
        return list(np.load(folder / "features.npy")), labels
    ids, offsets = np.load(folder / "ids.npy"), np.load(folder / "offsets.npy")
    return np.split(ids, offsets[1:-1]), labels


def stack(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """[b, ...]; ids are padded with 0 to the longest of the batch."""
    if inputs[0].ndim != 1 or inputs[0].dtype != np.int32:
        return np.stack(inputs)
    lengths = np.array([len(ids) for ids in inputs])
    padded = np.zeros((len(inputs), lengths.max()), np.int32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(inputs)
    return padded


def make_finish(request: dict[str, Any]) -> Callable[[Any], np.ndarray]:
    """What turns one input of `read_rows` into one of a batch: decodes pictures.

    `request["decoder"]` is `opencv`, the fastest there is for Python, or `pillow`.
    """
    if request["modality"] != "image":
        return np.asarray
    return _with_opencv(request) if request["decoder"] == "opencv" else _with_pillow(request)


def _with_opencv(request: dict[str, Any]) -> Callable[[bytes], np.ndarray]:
    size, _, channels = request["input_shape"]

    def decode(data: bytes) -> np.ndarray:
        import cv2  # here: a forked worker must not inherit its threads

        cv2.setNumThreads(0)
        colour = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), colour | cv2.IMREAD_IGNORE_ORIENTATION)
        resized = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
        return resized.reshape(size, size, channels)

    return decode


def _with_pillow(request: dict[str, Any]) -> Callable[[bytes], np.ndarray]:
    from PIL import Image

    size, _, channels = request["input_shape"]
    mode = "L" if channels == 1 else "RGB"

    def decode(data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as picture:
            picture.draft(mode, None)  # libjpeg gives the luma plane, not Pillow from colours
            whole = picture.convert(mode)
        # `resize` would antialias.
        box = (whole.width / size, 0, 0, 0, whole.height / size, 0)
        how = Image.Resampling.BILINEAR
        small = whole.transform((size, size), Image.Transform.AFFINE, box, how)
        return np.asarray(small).reshape(size, size, channels)

    return decode
