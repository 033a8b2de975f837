"""A language model of token ids, and what a classifier of texts takes from it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.rnn import CELLS

_DROPOUT = 0.3
# Words that the right one is told from, at each step of training: all are several times the work.
_SAMPLED = 1024


class LanguageModel(keras.Model):
    """Guesses each next word of a text from the words before it; `fit` needs ids alone.

    Its loss in training is sampled softmax (Jean et al., arXiv 1412.2007) over words drawn by rank,
    so ids have to be ranked by frequency. Its loss elsewhere is that of all words: its exponent is
    the perplexity. The embedding also writes the words (Press and Wolf, arXiv 1608.05859).
    """

    def __init__(self, vocab_size: int, embedding_dim: int, units: int, cell: str):
        """`cell` is "gru" or "lstm"; ids lie in [0, vocab_size), 0 is padding."""
        super().__init__(name="language_model")
        self.vocab_size = vocab_size
        self.embedding = keras.layers.Embedding(
            vocab_size,
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.1),
        )
        self.dropout = keras.layers.Dropout(_DROPOUT)
        self.recurrent = CELLS[cell](units, return_sequences=True)
        self.project = keras.layers.Dense(embedding_dim)
        self.bias = self.add_weight(shape=(vocab_size,), initializer="zeros", name="bias")

    def call(self, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """int [B, T] -> float32 [B, T - 1, E], what the words after the first should look like."""
        before = ids[:, :-1]
        x = self.dropout(self.embedding(before), training=training)
        x = self.recurrent(x, mask=keras.ops.not_equal(before, 0))
        return self.project(self.dropout(x, training=training))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The mean over all words but the first of each text, in nats a word."""
        after = tf.reshape(tf.cast(x[:, 1:], tf.int64), [-1])
        guesses = tf.reshape(y_pred, [-1, y_pred.shape[-1]])
        table, bias = (tf.convert_to_tensor(v) for v in (self.embedding.embeddings, self.bias))
        if training:
            losses = tf.nn.sampled_softmax_loss(
                table,
                bias,
                after[:, None],
                guesses,
                num_sampled=min(_SAMPLED, self.vocab_size),
                num_classes=self.vocab_size,
            )
        else:
            logits = tf.matmul(guesses, table, transpose_b=True) + bias
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(after, logits)
        real = tf.cast(after > 0, losses.dtype)
        return tf.reduce_sum(losses * real) / tf.maximum(tf.reduce_sum(real), 1.0)

    def to_bytes(self, words: Sequence[str]) -> bytes:
        """What `load_language_model` reads: an .npz file; `words` are those of the ids."""
        file = io.BytesIO()
        layer = {f"recurrent_{i}": v for i, v in enumerate(self.recurrent.get_weights())}
        vectors = self.embedding.get_weights()[0]
        # Joined: in an array of strings one long word would make all of them as wide.
        joined = np.frombuffer("\n".join(words).encode(errors="replace"), np.uint8)
        np.savez(file, words=joined, vectors=vectors, **layer)
        return file.getvalue()


def load_language_model(
    model: keras.Model, cell: str, path: str, words: Sequence[str] | None
) -> None:
    """Gives a recurrent classifier the vectors and the recurrent layer of a language model.

    Words that the language model lacks keep their vectors.

    Args:
        model: of `models.rnn.build_rnn`, in one direction.
        cell: the name of its recurrent layer.
        path: a file that `train.pretrain` wrote.
        words: those of the model's ids; None where the set has none.

    Raises:
        ValueError: no words, another file, one of other sizes, or none of the words in it.
        FileNotFoundError: there is no such file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"model: --weights {path} expected a file on this machine, received none there. Make "
            "it with python -m train.pretrain --output FILE, or name where it lies now"
        )
    if words is None:
        raise ValueError(
            f"model: --weights {path} expected a set that stores the words of its ids, received "
            "one that does not"
        )
    expected = f"model: --weights {path} expected a file of train.pretrain"
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        names = found["words"].tobytes().decode().split("\n")
        known = {word: i for i, word in enumerate(names)}
        vectors = found["vectors"]
        layer = [found[f"recurrent_{i}"] for i in range(len(found) - 2)]
        if len(names) != len(vectors):
            raise ValueError(f"{len(names):,} words and {len(vectors):,} vectors")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{expected}, received something else ({error})") from error
    embedding, recurrent = model.get_layer("embedding"), model.get_layer(cell)
    table = embedding.get_weights()[0]
    shapes = [table.shape[1:], *[w.shape for w in recurrent.get_weights()]]
    if (received := [vectors.shape[1:], *[w.shape for w in layer]]) != shapes:
        raise ValueError(
            f"{expected} for the same --model, --embedding-dim and --units (shapes {shapes}), "
            f"received shapes {received}"
        )
    # The first two ids are padding and the unknown word, in every set.
    rows = [(i, known[word]) for i, word in enumerate(words) if i < 2 or word in known]
    if len(rows) <= 2:
        raise ValueError(
            f"{expected} of texts in the same language: it knows none of the {len(words)} words. "
            "Its first words: " + ", ".join(names[2:7])
        )
    here, there = np.array(rows).T
    table[here] = vectors[there]
    embedding.set_weights([table])
    recurrent.set_weights(layer)
