"""NVIDIA DALI on the CPU: its own TFRecord reader, decoder and resize.

As https://docs.nvidia.com/deeplearning/dali/user-guide/docs/examples/general/data_loading/
dataloading_tfrecord.html sets them up, shuffled in the reader's buffer at its default, a thread
per processor; the pipeline is built before the clock starts and decodes ahead as it does by
default. DALI reads shards of TFRecords, so it starts from the same files as we do.
"""

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
        request["input_name"]: tfrec.FixedLenFeature((), tfrec.string, ""),
        request["label_name"]: tfrec.FixedLenFeature([1], tfrec.int64, -1),
    }

    @pipeline_def(batch_size=batch, num_threads=os.cpu_count(), device_id=None)
    def pictures() -> Any:
        row = fn.readers.tfrecord(
            path=request["shards"],
            index_path=request["indexes"],
            features=features,
            random_shuffle=True,
            pad_last_batch=True,
            name="reader",
        )
        colour = types.GRAY if channels == 1 else types.RGB
        decoded = fn.decoders.image(row[request["input_name"]], device="cpu", output_type=colour)
        resized = fn.resize(
            decoded,
            resize_x=size,
            resize_y=size,
            interp_type=types.INTERP_LINEAR,
            # As `tf.image.resize` at its default, and as ours.
            antialias=False,
        )
        return resized, row[request["label_name"]]

    pipe = pictures()
    pipe.build()

    def epoch() -> Iterator[Batch]:
        # The reader pads its last batch by repeating an example, then starts anew.
        # Counted here: the batches hold the padding, too.
        left = count
        while left > 0:
            inputs, labels = (output.as_array() for output in pipe.run())
            real = min(left, batch)
            yield inputs[:real], labels[:real]
            left -= real
        pipe.reset()

    return epoch


serve(prepare)
