"""LitData: chunks written by its `optimize`, read by its streaming dataset and data loader.

As https://github.com/Lightning-AI/litData#speed-up-model-training sets it up: chunks of 64 MB,
JPEG bytes kept, `shuffle=True`, a worker per processor, which stays alive between epochs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import litdata
import numpy as np
import torch
from protocol import Batch, serve
from rows import make_finish, read_rows, stack


class Collate:
    """Turns samples into one batch: decodes pictures, pads ids to the longest."""

    def __init__(self, request: dict[str, Any]):
        self.finish = make_finish(request)

    def __call__(self, samples: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = stack([self.finish(sample["input"]) for sample in samples])
        return torch.from_numpy(inputs), torch.tensor([sample["label"] for sample in samples])


def _make_sample(row: tuple[Any, int]) -> dict[str, Any]:
    return {"input": row[0], "label": row[1]}


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Writes the chunks and makes the loader."""
    folder = str(Path(request["scratch"], "chunks"))
    inputs, labels = read_rows(request)
    litdata.optimize(
        fn=_make_sample,
        inputs=list(zip(inputs, labels.tolist(), strict=True)),
        output_dir=folder,
        chunk_bytes="64MB",
        num_workers=1,
        start_method="fork",
        verbose=False,
    )
    loader = litdata.StreamingDataLoader(
        litdata.StreamingDataset(folder, shuffle=True, drop_last=False),
        batch_size=request["global_batch_size"],
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
        collate_fn=Collate(request),
    )

    def epoch() -> Iterator[Batch]:
        for inputs, labels in loader:
            yield inputs.numpy(), labels.numpy()

    return epoch


serve(prepare)
