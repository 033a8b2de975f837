"""tf.data tuned by hand, by TensorFlow's guide https://www.tensorflow.org/guide/data_performance.

Its recipe: the TFRecord shards read by a parallel `interleave`, user functions in a parallel `map`,
vectorised (batched first) where they can be, `cache` after the costly work, `prefetch`; besides,
no order is kept and the threads are as many as the processors
(https://www.tensorflow.org/api_docs/python/tf/data/Options). Cold epochs have no cache and
shuffle records; warm ones (`keep`) cache finished examples in memory and shuffle them.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from protocol import Batch, serve

_AUTOTUNE = tf.data.AUTOTUNE
_OOV_ID = 1
# What shuffles encoded records: all of these sets.
_SHUFFLE_RECORDS = 2**15


def _make_parse(request: dict[str, Any]) -> Callable[[tf.Tensor], Any]:
    """Parses records string [b] to (inputs, labels); pictures stay encoded, string [b]."""
    kind, shape = request["modality"], request["input_shape"]
    name, label = request["input_name"], request["label_name"]
    value = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "tabular": tf.io.FixedLenFeature(shape, tf.float32),
        "tokens": tf.io.RaggedFeature(tf.int64),
    }[kind]
    spec = {name: value, label: tf.io.FixedLenFeature([], tf.int64)}

    def parse(records: tf.Tensor) -> Any:
        row = tf.io.parse_example(records, spec)
        inputs = row[name]
        if kind == "tokens":
            # In the cache all are as long as T; else as the longest of their batch.
            longest = [None, shape[0] if request["keep"] else None]
            inputs = inputs.to_tensor(shape=longest)[:, : shape[0]]
            inputs = tf.cast(tf.where(inputs < request["vocab_size"], inputs, _OOV_ID), tf.int32)
        return inputs, row[label]

    return parse


def _make_decode(request: dict[str, Any]) -> Callable[[tf.Tensor, tf.Tensor], Any]:
    """Decodes and resizes one picture: uint8 [S, S, C]."""
    size, _, channels = request["input_shape"]

    def decode(data: tf.Tensor, label: tf.Tensor) -> Any:
        pixels = tf.io.decode_jpeg(data, channels=channels)
        resized = tf.image.resize(pixels, [size, size])
        return tf.cast(tf.round(resized), tf.uint8), label

    return decode


def make_dataset(request: dict[str, Any]) -> tf.data.Dataset:
    """Batches of one epoch."""
    size, keep = request["global_batch_size"], request["keep"]
    dataset = tf.data.Dataset.from_tensor_slices(request["shards"]).interleave(
        tf.data.TFRecordDataset, num_parallel_calls=_AUTOTUNE, deterministic=False
    )
    if not keep:
        dataset = dataset.shuffle(min(request["count"], _SHUFFLE_RECORDS))
    dataset = dataset.batch(size).map(_make_parse(request), num_parallel_calls=_AUTOTUNE)
    if request["modality"] == "image":
        # Pictures of several sizes are no batch before they are resized.
        dataset = dataset.unbatch().map(_make_decode(request), num_parallel_calls=_AUTOTUNE)
        dataset = dataset if keep else dataset.batch(size, num_parallel_calls=_AUTOTUNE)
    elif keep:
        dataset = dataset.unbatch()
    if keep:
        dataset = dataset.cache().shuffle(request["count"])
        dataset = dataset.batch(size, num_parallel_calls=_AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = False
    options.threading.private_threadpool_size = os.cpu_count() or 1
    options.threading.max_intra_op_parallelism = 1
    return dataset.prefetch(_AUTOTUNE).with_options(options)


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Makes the dataset and reads it once, which traces it and fills the cache."""
    dataset = make_dataset(request)
    for _ in dataset:
        pass

    def epoch() -> Iterator[Batch]:
        yield from dataset.as_numpy_iterator()

    return epoch


serve(prepare)
