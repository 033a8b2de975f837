"""Grain over ArrayRecord: random access, a global shuffle, worker processes.

As its guide has it (https://google-grain.readthedocs.io/en/latest/tutorials/
dataset_basic_tutorial.html): `MapDataset` shuffled, mapped, batched and repeated, then
`mp_prefetch`, because decoding in Python holds Python's lock. Its iterator starts its processes,
so one without end serves all epochs, as in a training. ArrayRecords hold one example a group, as
the README of ArrayRecord asks for random access. It keeps nothing in memory.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import grain
import numpy as np
from array_record.python import array_record_module
from pillow_picture import decode
from protocol import Batch, serve
from source_files import pad, read_examples

_WORKERS = os.cpu_count() or 1
_LABEL_BYTES = 8
# Batches that each worker may hold: one in its thread, two in its own and one in its buffer.
_AHEAD = 4 * _WORKERS


class Parse:
    """Makes (input, label) of a record."""

    def __init__(self, request: dict[str, Any]):
        self.modality, self.shape = request["modality"], request["input_shape"]

    def __call__(self, record: bytes) -> tuple[np.ndarray, np.ndarray]:
        label = np.frombuffer(record, np.int64, 1)[0]
        data = record[_LABEL_BYTES:]
        if self.modality == "image":
            return decode(data, self.shape), label
        return np.frombuffer(data, np.float32 if self.modality == "tabular" else np.int32), label


def collate_texts(examples: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """Pads to the longest of the batch."""
    texts, labels = zip(*examples, strict=True)
    return pad(list(texts)), np.array(labels)


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Writes the records and starts the workers."""
    files = [f"{request['scratch']}/{n}.array_record" for n in range(_WORKERS)]
    writers = [array_record_module.ArrayRecordWriter(file, "group_size:1") for file in files]
    for number, (data, label) in enumerate(read_examples(request)):
        payload = data if isinstance(data, bytes) else data.tobytes()
        writers[number % _WORKERS].write(np.int64(label).tobytes() + payload)
    for writer in writers:
        writer.close()
    dataset = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files))
    dataset = dataset.seed(0).shuffle().map(Parse(request))
    # Grain's own collation stacks, which texts of several lengths cannot be.
    collate = collate_texts if request["modality"] == "tokens" else None
    dataset = dataset.batch(request["global_batch_size"], batch_fn=collate)
    steps = len(dataset)
    read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    workers = grain.MultiprocessingOptions(num_workers=_WORKERS, per_worker_buffer_size=1)
    batches = iter(dataset.repeat().to_iter_dataset(read).mp_prefetch(workers))
    return lambda: islice(batches, steps)


if __name__ == "__main__":  # its workers import this file
    serve(prepare, read_ahead=_AHEAD)
