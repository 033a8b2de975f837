"""FFCV: the same pictures in its own format, `jpg` (decoded in every epoch) or `raw`.

As https://docs.ffcv.io/performance_guide.html has it for data that fit in memory: `os_cache`, a
random order, a worker per processor; `raw` stores pictures of the final size. FFCV has no grey
pictures, so it moves three equal channels; it encodes JPEGs anew, and its own resize of them crops
to a square and averages.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opencv_picture
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter
from PIL import Image
from protocol import Batch, serve


class Pictures:
    """Files named `<label>/<number>.jpg`, resized where they are stored raw."""

    def __init__(self, request: dict[str, Any]):
        # Sorted: a folder's own order differs from disk to disk.
        self.files = sorted(Path(request["folder"]).glob("pictures/*/*.jpg"))
        self.shape = request["input_shape"] if request["mode"] == "raw" else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        file = self.files[number]
        label = int(file.parent.name)
        if self.shape:
            return opencv_picture.decode(file.read_bytes(), self.shape), label
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB")), label


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Writes the file and makes the loader."""
    file = Path(request["scratch"]) / "pictures.beton"
    fields = {"image": RGBImageField(write_mode=request["mode"]), "label": IntField()}
    DatasetWriter(str(file), fields, num_workers=1).from_indexed_dataset(Pictures(request))
    size = tuple(request["input_shape"][:2])
    decoder = (
        SimpleRGBImageDecoder()
        if request["mode"] == "raw"
        else CenterCropRGBImageDecoder(size, ratio=1)
    )
    loader = Loader(
        str(file),
        batch_size=request["global_batch_size"],
        num_workers=os.cpu_count(),
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        pipelines={"image": [decoder], "label": [IntDecoder()]},
    )
    for _ in loader:
        pass  # compiles

    def epoch() -> Iterator[Batch]:
        for inputs, labels in loader:
            # FFCV gives labels as [b, 1].
            yield np.asarray(inputs), np.asarray(labels).reshape(-1)

    return epoch


serve(prepare)
