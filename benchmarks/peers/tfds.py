"""TensorFlow Datasets at its defaults: `as_dataset`, `map`, `batch`, `prefetch`.

As https://www.tensorflow.org/datasets/overview loads a set, and
https://www.tensorflow.org/datasets/keras_example trains on it, in an environment of its own. TFDS
caches the decoded examples of a small set by itself (`try_autocache`), since no files are shuffled.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
import tensorflow_datasets as tfds
from protocol import Batch, serve

_OOV_ID = 1


def _make_finish(request: dict[str, Any]) -> Callable[[dict[str, tf.Tensor]], Any]:
    """Turns one decoded example into (input, label)."""
    shape, kind = request["input_shape"], request["modality"]

    def finish(example: dict[str, tf.Tensor]) -> Any:
        value = example[request["input_name"]]
        if kind == "image":
            resized = tf.image.resize(value[..., : shape[2]], shape[:2])
            value = tf.broadcast_to(tf.cast(tf.round(resized), tf.uint8), shape)
        elif kind == "tokens":
            ids = tf.cast(value[: shape[0]], tf.int32)
            ids = tf.where(ids < request["vocab_size"], ids, _OOV_ID)
            value = tf.ensure_shape(tf.pad(ids, [[0, shape[0] - tf.size(ids)]]), shape)
        else:
            value = tf.cast(value, tf.float32)
        return value, example[request["label_name"]]

    return finish


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Opens the prepared set and makes the dataset."""
    builder = tfds.builder_from_directory(request["directory"])
    dataset = builder.as_dataset(
        split=request["split"],
        read_config=tfds.ReadConfig(try_autocache=request["keep"]),
    )
    dataset = dataset.map(_make_finish(request), num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(request["global_batch_size"]).prefetch(tf.data.AUTOTUNE)

    def epoch() -> Iterator[Batch]:
        yield from dataset.as_numpy_iterator()

    return epoch


serve(prepare)
