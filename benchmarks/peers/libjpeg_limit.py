"""The limit of decoding: libjpeg-turbo alone, a process per core, JPEG bytes in memory.

`resize` adds the same bilinear resize in C (OpenCV), into one array: what a first epoch cannot
do without. The grey plane is decoded where one channel is asked for.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from protocol import Batch, serve

_STATE: dict[str, Any] = {}


def _decode(rows: range) -> int:
    """Decodes a part of the pictures that the process inherited; returns a checksum."""
    import cv2  # here: OpenCV hangs in a fork of a process that has loaded it

    cv2.setNumThreads(0)
    total, request = 0, _STATE["request"]
    size, _, channels = request["input_shape"]
    # Used again for every picture: fresh memory would take time that is not the decoder's.
    buffer = np.empty(64 * 2**20, np.uint8)
    small = np.empty((size, size, channels), np.uint8)
    for row in rows:
        pixels = simplejpeg.decode_jpeg(
            _STATE["pictures"][row],
            colorspace="GRAY" if channels == 1 else "RGB",
            fastdct=False,
            buffer=buffer,
        )
        if request["resize"]:
            cv2.resize(pixels, (size, size), dst=small, interpolation=cv2.INTER_LINEAR)
            pixels = small
        total += int(pixels[0, 0, 0])
    return total


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Reads the files, then starts the processes, which share them."""
    files = sorted(Path(request["folder"]).glob("pictures/*/*.jpg"))
    _STATE["pictures"] = [file.read_bytes() for file in files]
    _STATE["request"] = request
    labels = np.array([int(file.parent.name) for file in files])
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork"))
    # 32 pictures a unit: handing one over costs little of it, and all cores end at about one time.
    units = [range(start, min(start + 32, len(files))) for start in range(0, len(files), 32)]
    list(pool.map(_decode, units[:4]))  # the processes are up

    def epoch() -> Iterator[Batch]:
        for _ in pool.map(_decode, units):
            pass
        # The pixels stay where they were decoded: moving them is no part of this limit.
        yield np.zeros((1, 1), np.uint8), labels

    return epoch


serve(prepare)
