"""SPDL: a pipeline of threads over files, which decodes by FFmpeg.

As its guide has it (https://facebookresearch.github.io/spdl/main/getting_started/): a source of
shuffled batches of paths, `pipe` with as many tasks at once as there are processors, a sink of
three batches, endless, so that it and its threads last over epochs. SPDL has no format of its
own: vectors and texts are rows of mapped NumPy files. FFmpeg has no bilinear resize without
antialiasing (the nearest to ours is 27 dB off), so OpenCV resizes. It keeps nothing in memory.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import spdl.io
from protocol import Batch, serve
from source_files import pad
from spdl.pipeline import PipelineBuilder

_WORKERS = os.cpu_count() or 1
_SINK = 3  # batches, its default
# Batches that it may hold: in the sink, in each task, and one that waits before and behind it.
_AHEAD = _SINK + 3 * _WORKERS
cv2.setNumThreads(0)  # the pipeline has the threads


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Makes the pipeline; nothing is converted."""
    folder, size = Path(request["folder"]), request["global_batch_size"]
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    read = _reader(request, folder, labels)

    def shuffled() -> Iterator[np.ndarray]:
        # One generator for all epochs, so that no two have the same order.
        random = np.random.default_rng(0)
        while True:
            order = random.permutation(len(labels))
            yield from (order[start : start + size] for start in range(0, len(order), size))

    pipeline = (
        PipelineBuilder()
        .add_source(shuffled())
        # In order: a batch of the next epoch must not overtake this one's last.
        .pipe(lambda rows: (read(rows), labels[rows]), concurrency=_WORKERS, output_order="input")
        .add_sink(_SINK)
        .build(num_threads=_WORKERS)
    )
    pipeline.start()
    batches = iter(pipeline)
    return lambda: islice(batches, -(-len(labels) // size))


def _reader(
    request: dict[str, Any], folder: Path, labels: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """What turns rows int [b] into inputs."""
    if request["modality"] == "tabular":
        features = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
        return lambda rows: features[rows]
    if request["modality"] == "tokens":
        ids = np.load(folder / "ids.npy", mmap_mode="r", allow_pickle=False)
        offsets = np.load(folder / "offsets.npy", allow_pickle=False)
        return lambda rows: pad([ids[offsets[i] : offsets[i + 1]] for i in rows])
    height, width, channels = request["input_shape"]
    pixels = "gray" if channels == 1 else "rgb24"

    def read(rows: np.ndarray) -> np.ndarray:
        batch = np.empty((len(rows), height, width, channels), np.uint8)
        for picture, i in zip(batch, rows.tolist(), strict=True):
            file = str(folder / f"pictures/{labels[i]}/{i:06d}.jpg")
            decoded = spdl.io.load_image(file, filter_desc=f"format={pixels}")
            whole = spdl.io.to_numpy(decoded)
            cv2.resize(whole, (width, height), dst=picture, interpolation=cv2.INTER_LINEAR)
        return batch

    return read


serve(prepare, read_ahead=_AHEAD)
