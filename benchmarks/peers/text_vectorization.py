"""Keras `TextVectorization` inside a `tf.data` map: the way of Keras's text classification guides.

The texts are the stored ids written out as words, so that both sides start from equal text.
"""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.measuring.work import Work
from records.decoding.indexing import read_index
from records.decoding.modality import modality_of
from records.shards.index import RecordReader

_PREFETCH_BATCHES = 8


def make(work: Work, endless: bool = False) -> tf.data.Dataset:
    """`from_tensor_slices(texts).shuffle(N).batch(B).map(vectorize)`: (ids [b, T], labels [b])."""
    texts, labels, words = _read_texts(work)
    vectorize = keras.layers.TextVectorization(
        max_tokens=work.vocab_size,
        standardize=None,
        output_sequence_length=work.input_shape[0],
        # The layer itself has padding and out of vocabulary as ids 0 and 1.
        vocabulary=words[2 : work.vocab_size],
    )
    dataset = tf.data.Dataset.from_tensor_slices((texts, labels)).shuffle(work.num_examples)
    dataset = dataset.batch(work.global_batch_size)
    dataset = dataset.map(lambda x, y: (vectorize(x), y), tf.data.AUTOTUNE)
    dataset = dataset.repeat() if endless else dataset
    return dataset.prefetch(_PREFETCH_BATCHES)


def _read_texts(work: Work) -> tuple[list[str], np.ndarray, list[str]]:
    """(texts, labels int64 [N], words by id)."""
    schema = work.schema
    index = read_index(schema, work.split)
    payloads = RecordReader(index).read(np.arange(index.num_records))
    rows = tf.io.parse_example(
        tf.constant(payloads.tolist(), tf.string), modality_of(schema).parse_spec()
    )
    words = list(schema.vocabulary() or ())
    texts = [" ".join(words[i] for i in ids) for ids in rows[schema.input_name].to_list()]
    return texts, index.label, words
