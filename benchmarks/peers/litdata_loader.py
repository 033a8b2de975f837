"""LitData: chunks written by its `optimize`, read by its streaming dataset and data loader.

As https://github.com/Lightning-AI/litData#speed-up-model-training sets it up: chunks of 64 MB,
JPEG bytes kept, decoded in `transform` (by OpenCV: its own decoder is torchvision's, whose wheel
wants CUDA's torch), `shuffle=True`, a worker per processor, which stays alive between epochs.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import litdata
import opencv_picture
import torch
from protocol import Batch, serve
from source_files import pad, read_examples


def collate_texts(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """One batch, padded to the longest of it."""
    texts = pad([sample["input"] for sample in samples])
    labels = torch.tensor([sample["label"] for sample in samples])
    return {"input": torch.from_numpy(texts), "label": labels}


def _make_sample(row: tuple[Any, int]) -> dict[str, Any]:
    return {"input": row[0], "label": row[1]}


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Writes the chunks and makes the loader."""
    folder = str(Path(request["scratch"], "chunks"))
    litdata.optimize(
        fn=_make_sample,
        inputs=list(read_examples(request)),
        output_dir=folder,
        chunk_bytes="64MB",
        # Writing is not timed: one process is enough.
        num_workers=1,
        start_method="fork",
        verbose=False,
    )

    def decode(sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {"input": opencv_picture.decode(sample["input"], request["input_shape"])}

    pictures = request["modality"] == "image"
    dataset = litdata.StreamingDataset(
        folder, shuffle=True, drop_last=False, transform=decode if pictures else None
    )
    loader = litdata.StreamingDataLoader(
        dataset,
        batch_size=request["global_batch_size"],
        num_workers=os.cpu_count() or 1,
        # Starting them anew would be a part of every epoch's time.
        persistent_workers=True,
        collate_fn=collate_texts if request["modality"] == "tokens" else None,
    )

    def epoch() -> Iterator[Batch]:
        for batch in loader:
            yield batch["input"].numpy(), batch["label"].numpy()

    return epoch


serve(prepare)
