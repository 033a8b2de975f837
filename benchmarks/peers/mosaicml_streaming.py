"""MosaicML Streaming: MDS shards on this machine's disk, its dataset and data loader.

As https://docs.mosaicml.com/projects/streaming/en/stable/getting_started/quick_start.html and
.../distributed_training/performance_tuning.html set it up: `MDSWriter`, a subclass that turns a
sample into tensors, `shuffle=True`, `batch_size` given to the dataset and to the loader, a
worker per processor; no compression, since nothing is downloaded. Pictures keep their JPEG bytes
and are decoded by OpenCV: faster than the column `jpeg`, which Pillow decodes.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opencv_picture
import torch
from protocol import Batch, serve
from source_files import pad, read_examples

_COLUMNS = {"image": "bytes", "tabular": "ndarray:float32", "tokens": "ndarray:int32"}


def _import_streaming() -> Any:
    """It imports torchvision, whose wheel knows torch with CUDA only; none of it is used here."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # "operator torchvision::nms does not exist": declared, it imports
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
    import streaming

    return streaming


streaming = _import_streaming()
_Dataset: Any = streaming.StreamingDataset


class Rows(_Dataset):
    """Samples as NumPy arrays, pictures decoded."""

    def __init__(self, request: dict[str, Any], local: str):
        super().__init__(local=local, shuffle=True, batch_size=request["global_batch_size"])
        self.shape = request["input_shape"]

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        sample = super().__getitem__(number)
        value = sample["input"]
        if isinstance(value, bytes):
            value = opencv_picture.decode(value, self.shape)
        return value, sample["label"]


def collate_texts(samples: list[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch, padded to the longest of it."""
    texts, labels = zip(*samples, strict=True)
    return torch.from_numpy(pad(list(texts))), torch.tensor(labels)


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Writes the shards and makes the loader."""
    # What a killed run left in shared memory would clash with this one's.
    streaming.base.util.clean_stale_shared_memory()
    folder = str(Path(request["scratch"], "mds"))
    columns = {"input": _COLUMNS[request["modality"]], "label": "int"}
    with streaming.MDSWriter(out=folder, columns=columns) as writer:
        for value, label in read_examples(request):
            writer.write({"input": value, "label": label})
    loader = streaming.StreamingDataLoader(
        Rows(request, folder),
        batch_size=request["global_batch_size"],
        num_workers=os.cpu_count() or 1,
        # Starting them anew would be a part of every epoch's time.
        persistent_workers=True,
        collate_fn=collate_texts if request["modality"] == "tokens" else None,
    )

    def epoch() -> Iterator[Batch]:
        for inputs, labels in loader:
            yield inputs.numpy(), labels.numpy()

    return epoch


serve(prepare)
