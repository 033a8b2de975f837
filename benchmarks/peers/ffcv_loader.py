"""FFCV: the same pictures in its own format, `jpg` (decoded in every epoch) or `raw`.

Decoded pictures are stored in `raw`, of the final size, as its guide advises for data that fit
in memory; FFCV has no grey pictures, so it moves three equal channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter
from PIL import Image
from protocol import Batch, serve


class Pictures:
    """Files named `<label>/<number>.jpg`, resized where they are stored raw."""

    def __init__(self, request: dict[str, Any]):
        self.files = sorted(Path(request["folder"]).glob("pictures/*/*.jpg"))
        self.size = request["input_shape"][0] if request["mode"] == "raw" else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        with Image.open(self.files[number]) as picture:
            colour = picture.convert("RGB")
            if self.size:
                colour = colour.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.asarray(colour), int(self.files[number].parent.name)


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
            yield np.asarray(inputs), np.asarray(labels).reshape(-1)

    return epoch


serve(prepare)
