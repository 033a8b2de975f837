"""torch `DataLoader`, as https://docs.pytorch.org/docs/stable/data.html sets it up.

Pictures: a map-style dataset of files, a worker per processor that stays alive between epochs
(`persistent_workers`), decoded by Pillow, as torch's own guides do, or by OpenCV, as we do. Tables
and texts lie in memory: whole batches are indexed (a `BatchSampler` as the sampler, `batch_size=
None`) in this process, which the page prefers for small data in memory.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import opencv_picture
import pillow_picture
import torch
from protocol import Batch, serve
from source_files import pad, picture_file, read_examples
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler


class Pictures(Dataset):
    """Files that are read and decoded when they are asked for."""

    def __init__(self, request: dict[str, Any]):
        self.request, self.shape = request, request["input_shape"]
        self.labels = np.load(f"{request['folder']}/labels.npy", allow_pickle=False).tolist()
        by = {"opencv": opencv_picture, "pillow": pillow_picture}
        self.decode = by[request["decoder"]].decode

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        label = self.labels[number]
        file = picture_file(self.request, number, label)
        return self.decode(file.read_bytes(), self.shape), label


class Batches(Dataset):
    """Vectors or texts in memory, a batch at a time."""

    def __init__(self, request: dict[str, Any]):
        inputs, labels = zip(*read_examples(request), strict=True)
        self.texts = inputs if request["modality"] == "tokens" else None
        # Texts differ in length: they are no tensor before they are padded, batch by batch.
        self.table = None if self.texts else torch.from_numpy(np.stack(inputs))
        self.labels = torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, numbers: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        if self.table is not None:
            return self.table[numbers], self.labels[numbers]
        assert self.texts is not None
        padded = pad([self.texts[number] for number in numbers])
        return torch.from_numpy(padded), self.labels[numbers]


def make_loader(request: dict[str, Any]) -> DataLoader:
    """The loader of shuffled batches."""
    size = request["global_batch_size"]
    if request["modality"] != "image":
        data = Batches(request)
        # Every example once an epoch, as from all others.
        sampler = BatchSampler(RandomSampler(data), size, drop_last=False)
        return DataLoader(data, sampler=sampler, batch_size=None)
    return DataLoader(
        Pictures(request),
        batch_size=size,
        shuffle=True,
        num_workers=os.cpu_count() or 1,
        # Starting them anew would be a part of every epoch's time.
        persistent_workers=True,
    )


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Makes the loader; where nothing is kept (`keep`), every epoch reads tables and texts anew."""
    anew = request["modality"] != "image" and not request["keep"]
    kept = make_loader(request)

    def epoch() -> Iterator[Batch]:
        for inputs, labels in make_loader(request) if anew else kept:
            yield inputs.numpy(), labels.numpy()

    return epoch


serve(prepare)
