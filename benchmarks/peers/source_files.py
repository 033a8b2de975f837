"""The source files that every library starts from, read one example each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def read_examples(request: dict[str, Any]) -> Iterator[tuple[Any, int]]:
    """(input, label) of each example: a JPEG's bytes, float32 [F], or int32 ids, not padded."""
    folder = Path(request["folder"])
    labels = np.load(folder / "labels.npy", allow_pickle=False).tolist()
    if request["modality"] == "image":
        for number, label in enumerate(labels):
            yield picture_file(request, number, label).read_bytes(), label
    elif request["modality"] == "tabular":
        yield from zip(np.load(folder / "features.npy", allow_pickle=False), labels, strict=True)
    else:
        ids = np.load(folder / "ids.npy", allow_pickle=False)
        offsets = np.load(folder / "offsets.npy", allow_pickle=False)
        yield from zip(np.split(ids, offsets[1:-1]), labels, strict=True)


def picture_file(request: dict[str, Any], number: int, label: int) -> Path:
    """The JPEG of the example of that number."""
    return Path(request["folder"], "pictures", str(label), f"{number:06d}.jpg")


def pad(texts: list[np.ndarray]) -> np.ndarray:
    """int32 [b, t], padded with 0 to the longest text of the batch."""
    lengths = np.array([len(ids) for ids in texts])
    batch = np.zeros((len(texts), lengths.max(initial=0)), np.int32)
    batch[np.arange(batch.shape[1]) < lengths[:, None]] = np.concatenate(texts)
    return batch
