"""From serialised records to the tensors that are cached: whole batches at a time.

What comes out is small and final: uint8 pictures, int32 ids, float32 vectors. Casting to
float, scaling and augmenting happen on the device, in the step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from records.schema import IMAGE, TEXT, TOKENS, Schema

PAD_ID, OOV_ID = 0, 1


def parse_spec(schema: Schema, index_features: bool = False) -> dict[str, Any]:
    """The `tf.io.parse_example` spec of the input and the label.

    With `index_features` also of the group and grey features that the index keeps.
    """
    spec: dict[str, Any] = {schema.label_name: tf.io.FixedLenFeature([], tf.int64)}
    if schema.modality in (IMAGE, TEXT):
        spec[schema.input_name] = tf.io.FixedLenFeature([], tf.string)
    elif schema.modality == TOKENS:
        spec[schema.input_name] = tf.io.RaggedFeature(tf.int64)
    else:  # tf.train.Example knows float32 and int64 only
        floating = tf.as_dtype(schema.input_dtype).is_floating
        stored = tf.float32 if floating else tf.int64
        spec[schema.input_name] = tf.io.FixedLenFeature(schema.input_shape, stored)
    if index_features:
        if schema.grey_name:
            spec[schema.grey_name] = tf.io.FixedLenFeature([], tf.int64)
        if schema.group_name and schema.group_name not in spec:
            stored = tf.string if schema.group_is_text else tf.int64
            spec[schema.group_name] = tf.io.FixedLenFeature([], stored)
    return spec


def parse_rows(serialised: tf.Tensor, schema: Schema) -> tuple[Any, tf.Tensor]:
    """Parses a batch of records at once.

    Args:
      serialised: string [B].

    Returns:
      (inputs, labels int32 [B]); inputs are float32 [B, F], string [B] (encoded pictures or
      texts) or, for ids, int32 ragged [B, None].
    """
    row = tf.io.parse_example(serialised, parse_spec(schema))
    inputs = row[schema.input_name]
    if schema.modality == TOKENS:
        inputs = tf.cast(inputs, tf.int32)
    elif schema.modality == TEXT:
        inputs = split_words(inputs)
    elif schema.modality != IMAGE:
        inputs = tf.cast(inputs, tf.float32)
    return inputs, tf.cast(row[schema.label_name], tf.int32)


def decode_picture(encoded: tf.Tensor, image_size: int, channels: int) -> tf.Tensor:
    """Decodes one JPEG or PNG to uint8 [S, S, channels].

    One channel of a JPEG is its luma plane: libjpeg skips colour conversion, and for a grey
    picture the result is the grey itself. The picture is stretched to S x S (no cropping, the
    aspect is not kept) by bilinear interpolation at pixel centres without antialiasing, as
    `tf.image.resize` does by default, and rounded to the nearest integer.
    """
    picture = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    picture.set_shape([None, None, channels])
    resized = tf.image.resize(picture, [image_size, image_size])
    return tf.cast(tf.round(resized), tf.uint8)


def split_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Splits string [B] to lower-case words, punctuation removed: string ragged [B, None].

    The rule of Keras's TextVectorization (`lower_and_strip_punctuation`, whitespace).
    """
    lowered = tf.strings.lower(texts, encoding="utf-8")
    bare = tf.strings.regex_replace(lowered, r"[!-/:-@\[-`{-~]", "")
    return tf.strings.split(bare)


def rank_ids(ids: np.ndarray, num_ids: int) -> np.ndarray:
    """Ranks ids by their frequency in a training subset.

    Args:
      ids: int [n], all ids of the subset's examples, one after the other.
      num_ids: V, ids lie in [0, V).

    Returns:
      int32 [V], the new id of each id: 0 and 1 (pad, out of vocabulary) stay; the most
      frequent becomes 2; ties keep their order; ids that the subset lacks become 1.
    """
    counts = np.bincount(ids, minlength=num_ids).astype(np.int64)
    counts[[PAD_ID, OOV_ID]] = 0
    by_rank = np.argsort(-counts, kind="stable")
    seen = by_rank[: int((counts > 0).sum())]
    table = np.full(num_ids, OOV_ID, np.int32)
    table[seen] = np.arange(2, 2 + len(seen), dtype=np.int32)
    table[PAD_ID] = PAD_ID
    return table


def pad_ids(
    ids: np.ndarray, splits: np.ndarray, sequence_length: int, table: np.ndarray, vocab_size: int
) -> np.ndarray:
    """Maps ids to ranks and pads them on the right.

    Args:
      ids: int32, the ids of all examples, one after the other.
      splits: int64 [N + 1], where each example begins and ends in `ids`.
      sequence_length: T; longer examples lose their end.
      table: int32 [V] from `rank_ids`.
      vocab_size: ranks at or above it become 1, out of vocabulary; none is dropped.

    Returns:
      int32 [N, T].
    """
    ranked = table[ids]
    ranked[ranked >= vocab_size] = OOV_ID
    lengths = np.minimum(np.diff(splits), sequence_length)
    padded = np.full((len(lengths), sequence_length), PAD_ID, np.int32)
    columns = np.arange(sequence_length)
    filled = columns < lengths[:, None]
    padded[filled] = ranked[(splits[:-1, None] + columns)[filled]]
    return padded


def pad_ragged(
    ids: tf.RaggedTensor, sequence_length: int, table: np.ndarray, vocab_size: int
) -> tf.Tensor:
    """`pad_ids` in a graph: int32 ragged [B, None] -> int32 [B, T].

    Args:
      ids: a batch of examples' ids.
      sequence_length, vocab_size: as `pad_ids`.
      table: int32 [V + 1] from `rank_ids`, then the rank of all ids that it lacks.
    """
    padded = ids.to_tensor(PAD_ID, shape=[None, sequence_length])
    ranked = tf.gather(tf.constant(table), tf.minimum(padded, len(table) - 1))
    return tf.where(ranked < vocab_size, ranked, OOV_ID)
