"""TFDS's own reader, as its guides use it, doing the same work as this system.

Both give batches of (inputs [b, ...], labels [b]): pictures as uint8 [S, S, C] (stretched and
rounded alike), ids cut and padded to T, vectors as they are.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from benchmarks.measuring.work import Work
from records.sets.schema import IMAGE, TOKENS

_OOV_ID = 1
# Not AUTOTUNE: that buffer grows to hundreds of small batches, fills while other systems have
# their turn, and short repetitions would then measure how fast it empties. 8 batches are enough
# for the producer and the consumer to overlap.
_PREFETCH_BATCHES = 8


def make_plain(work: Work, endless: bool = False) -> tf.data.Dataset:
    """`tfds.load(...).map(...).batch(...).prefetch(...)`: the reader at its defaults.

    TFDS caches the decoded examples of a small set by itself, since no files are shuffled.
    """
    builder = tfds.builder_from_directory(work.schema.directory)
    dataset = builder.as_dataset(split=work.split)
    dataset = dataset.map(_finish(work), tf.data.AUTOTUNE).batch(work.global_batch_size)
    dataset = dataset.repeat() if endless else dataset
    return dataset.prefetch(_PREFETCH_BATCHES)


def make_tuned(work: Work, endless: bool = False) -> tf.data.Dataset:
    """The guides' recipe for speed: decode only what is used, cache, shuffle, batch, prefetch.

    Pictures are decoded straight to the C channels asked for, in any order, and the cache holds
    finished uint8, vectors, or ids of any length, which are padded to the longest of their batch.
    """
    schema = work.schema
    builder = tfds.builder_from_directory(schema.directory)
    # No types here: TFDS takes a set of names as "these features, as they are".
    skip = {schema.input_name: tfds.decode.SkipDecoding()} if schema.modality == IMAGE else None
    wanted = {schema.input_name, schema.label_name}
    dataset = builder.as_dataset(
        split=work.split,
        shuffle_files=True,
        decoders=tfds.decode.PartialDecoding(wanted, decoders=skip),
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    dataset = dataset.map(_finish(work, is_encoded=True), tf.data.AUTOTUNE, deterministic=False)
    # After the costly work and before the shuffle: each epoch has another order of finished
    # examples.
    dataset = dataset.cache().shuffle(work.num_examples)
    if schema.modality == TOKENS:
        dataset = dataset.padded_batch(work.global_batch_size)
    else:
        dataset = dataset.batch(work.global_batch_size)
    dataset = dataset.repeat() if endless else dataset
    return dataset.prefetch(_PREFETCH_BATCHES)


def _finish(work: Work, is_encoded: bool = False) -> Callable[[Any], Any]:
    """Turns one example into (input, label); encoded pictures are decoded, ids not yet padded."""
    schema = work.schema

    def finish(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        x, label = example[schema.input_name], example[schema.label_name]
        if schema.modality == TOKENS:
            return (_cut_ids if is_encoded else _pad_ids)(x, work), label
        if schema.modality != IMAGE:
            return tf.cast(x, work.input_dtype), label
        channels = work.input_shape[2]
        if not is_encoded:
            return _resize(x[..., :channels], work), label
        x = tf.io.decode_image(x, channels=channels, expand_animations=False)
        x.set_shape([None, None, channels])
        return _resize(x, work), label

    return finish


def _resize(picture: tf.Tensor, work: Work) -> tf.Tensor:
    resized = tf.image.resize(picture, work.input_shape[:2])
    pixels = tf.cast(tf.round(resized), tf.uint8)
    # A grey picture in a set that is not all grey gets the same value in every channel.
    return tf.broadcast_to(pixels, work.input_shape)


def _pad_ids(x: tf.Tensor, work: Work) -> tf.Tensor:
    length, ids = work.input_shape[0], _cut_ids(x, work)
    return tf.ensure_shape(tf.pad(ids, [[0, length - tf.size(ids)]]), [length])


def _cut_ids(x: tf.Tensor, work: Work) -> tf.Tensor:
    ids = tf.cast(x[: work.input_shape[0]], tf.int32)
    return tf.where(ids < work.vocab_size, ids, _OOV_ID)
