"""NVIDIA DALI on the CPU: its own TFRecord reader, decoder and resize, as its guide sets them up.

Two threads per the machine's cores; the pipeline is built before the clock starts and decodes
ahead as it does by default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import nvidia.dali.tfrecord as tfrec
from nvidia.dali import fn, pipeline_def, types
from protocol import Batch, serve


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Builds the pipeline over the shards of the request."""
    (size, _, channels), count = request["input_shape"], request["count"]
    batch = request["global_batch_size"]
    features = {
        "image": tfrec.FixedLenFeature((), tfrec.string, ""),
        "label": tfrec.FixedLenFeature([1], tfrec.int64, -1),
    }

    @pipeline_def(batch_size=batch, num_threads=os.cpu_count(), device_id=None)
    def pictures() -> Any:
        row = fn.readers.tfrecord(
            path=request["shards"], index_path=request["indexes"], features=features, name="reader"
        )
        colour = types.GRAY if channels == 1 else types.RGB
        decoded = fn.decoders.image(row["image"], device="cpu", output_type=colour)
        resized = fn.resize(
            decoded,
            resize_x=size,
            resize_y=size,
            interp_type=types.INTERP_LINEAR,
            antialias=False,
        )
        return resized, row["label"]

    pipe = pictures()
    pipe.build()

    def epoch() -> Iterator[Batch]:
        # The reader starts anew after its last batch and pads that one with the next epoch's.
        left = count
        while left > 0:
            inputs, labels = (output.as_array() for output in pipe.run())
            real = min(left, batch)
            yield inputs[:real], labels[:real]
            left -= real
        pipe.reset()

    return epoch


serve(prepare)
