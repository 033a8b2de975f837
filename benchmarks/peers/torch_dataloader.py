"""torch DataLoader with Pillow and two worker processes, over files in a folder per class.

Workers stay alive between epochs (`persistent_workers`), as the guide advises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from protocol import Batch, serve


class Pictures(torch.utils.data.Dataset):
    """Files named `<label>/<number>.jpg`."""

    def __init__(self, request: dict[str, Any]):
        self.files = sorted(Path(request["folder"]).glob("pictures/*/*.jpg"))
        self.size, _, channels = request["input_shape"]
        self.mode = "L" if channels == 1 else "RGB"

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        file = self.files[number]
        with Image.open(file) as picture:
            size = (self.size, self.size)
            box = picture.convert(self.mode)
            # Bilinear without antialiasing, as the others do it.
            data = (box.width / self.size, 0, 0, 0, box.height / self.size, 0)
            small = box.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        pixels = np.asarray(small).reshape(self.size, self.size, -1)
        return torch.from_numpy(pixels.copy()), int(file.parent.name)


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Makes the loader."""
    loader = torch.utils.data.DataLoader(
        Pictures(request),
        batch_size=request["global_batch_size"],
        shuffle=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )

    def epoch() -> Iterator[Batch]:
        for inputs, labels in loader:
            yield inputs.numpy(), labels.numpy()

    return epoch


serve(prepare)
