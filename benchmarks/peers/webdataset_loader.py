"""WebDataset: tar shards, read in sequence by worker processes of torch's DataLoader.

As its guide has it (https://webdataset.github.io/webdataset/gettingstarted/): shards and a buffer
of 1,000 examples are shuffled, `decode` reads pictures by Pillow and arrays as `.npy`, and batches
are made in the workers, each of whose last ones is smaller. Workers stay between epochs. It keeps
nothing in memory.
"""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import webdataset as wds
from pillow_picture import resize
from protocol import Batch, serve
from source_files import pad, read_examples

_SHARDS_PER_WORKER = 4  # one worker at a time reads a shard
_BUFFER = 1000  # examples, the figure of the guide


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Writes the shards and makes the loader."""
    workers = os.cpu_count() or 1
    key = "jpg" if request["modality"] == "image" else "npy"
    shards = [f"{request['scratch']}/{n}.tar" for n in range(_SHARDS_PER_WORKER * workers)]
    writers = [wds.TarWriter(shard) for shard in shards]
    for number, (data, label) in enumerate(read_examples(request)):
        example = {"__key__": f"{number:09d}", key: data, "cls": label}
        # In turn: shards of one size keep all workers busy to the end.
        writers[number % len(writers)].write(example)
    for writer in writers:
        writer.close()
    shape = request["input_shape"]
    dataset = wds.WebDataset(shards, shardshuffle=len(shards)).shuffle(_BUFFER)
    if key == "jpg":
        dataset = dataset.decode("pill" if shape[2] == 1 else "pilrgb").to_tuple(key, "cls")
        dataset = dataset.map_tuple(functools.partial(resize, shape=shape), int)
    else:
        dataset = dataset.decode().to_tuple(key, "cls")
    collate = _pad if request["modality"] == "tokens" else wds.filters.default_collation_fn
    dataset = dataset.batched(request["global_batch_size"], collation_fn=collate)
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=True)

    def epoch() -> Iterator[Batch]:
        for inputs, labels in loader:
            yield inputs.numpy(), labels.numpy()

    return epoch


def _pad(examples: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    texts, labels = zip(*examples, strict=True)
    return pad(list(texts)), np.array(labels)


serve(prepare)
