"""Decoded examples in types that a GPU gathers, and keeps in its own memory.

TensorFlow has no GPU kernel that gathers uint8, and it keeps int32 in the host's memory: a cache of
pictures or token ids "on the device" would cross to the host, or from it, in every step. So
pictures and ids are held as words of the same bits, float32 or int64, and get their type back once
the rows of a batch are gathered. `tests/train/step/gpu_audit_test.py` reads the kernels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from records.system.memory import empty_inputs


def pack_rows(inputs: np.ndarray) -> np.ndarray:
    """The same examples in words that a GPU can gather.

    Args:
      inputs: [N, ...]; uint8 and int32 are packed, other types are returned as they are.

    Returns:
      [N, W] int64 or float32, on the same memory where words divide a row, else a copy whose rows
      are filled up with zeros.
    """
    if inputs.dtype not in (np.uint8, np.int32):
        return inputs
    flat = inputs.reshape(len(inputs), -1)
    row_bytes = flat.shape[1] * flat.itemsize
    for word in (np.int64, np.float32):
        if flat.flags.c_contiguous and row_bytes % np.dtype(word).itemsize == 0:
            return flat.view(word)
    words = empty_inputs((len(flat), -(-row_bytes // 8)), np.int64)
    words[:, -1:] = 0
    words.view(np.uint8)[:, :row_bytes] = flat.view(np.uint8)
    return words


def take_rows(packed: tf.Tensor, rows: tf.Tensor, spec: tf.TensorSpec, length: Any) -> tf.Tensor:
    """Gathers examples and gives them their type back.

    Args:
      packed: [N, W] of `pack_rows`, or [N, ...] of what it does not pack.
      rows: int64 [b].
      spec: one example, without the batch.
      length: ids to which texts are cut, a number or int32 []; not used for other inputs.

    Returns:
      [b, ...] of the spec's type; ids int64 [b, length], because int32 would lie on the host.
    """
    taken = tf.gather(packed, rows)
    if packed.dtype == spec.dtype:
        return taken
    taken = tf.bitcast(taken, spec.dtype)
    if spec.dtype == tf.int32:
        taken = tf.cast(taken, tf.int64)
    if taken.shape.rank == 3:  # several numbers to a word
        taken = tf.reshape(taken, [-1, taken.shape[1] * taken.shape[2]])
    if spec.dtype == tf.int32:
        return taken[:, :length]
    return tf.reshape(taken[:, : spec.shape.num_elements()], [-1, *spec.shape])


@dataclasses.dataclass(frozen=True)
class RowFormat:
    """How the arrays of an example lie side by side in one row of int64 words.

    A step gathers one array; a model may take several, and targets come with weights.

    Attributes:
      structure: of the arrays: one, or tuples and dicts of them; here their `tf.TensorSpec`s,
        without the batch.
    """

    structure: Any

    @classmethod
    def of(cls, arrays: Any) -> RowFormat:
        """Of arrays [N, ...] in any structure."""
        specs = tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape[1:], a.dtype), arrays)
        return cls(specs)

    def join(self, arrays: Any) -> np.ndarray:
        """The rows int64 [N, W] of arrays [N, ...] in the structure."""
        packed = [_to_words(a) for a in tf.nest.flatten(arrays)]
        return np.ascontiguousarray(np.concatenate(packed, 1))

    def part(self, rows: tf.Tensor) -> Any:
        """The arrays [b, ...] in the structure, of rows int64 [b, W]."""
        found, begin = [], 0
        for spec in tf.nest.flatten(self.structure):
            values = spec.shape.num_elements()
            width = -(-values * spec.dtype.size // 8)
            cut = rows[:, begin : begin + width]
            begin += width
            # A number of 8 bytes is a word; of smaller ones several are.
            cut = tf.reshape(tf.bitcast(cut, spec.dtype), [-1, width * 8 // spec.dtype.size])
            found.append(tf.reshape(cut[:, :values], [-1, *spec.shape]))
        return tf.nest.pack_sequence_as(self.structure, found)


def _to_words(array: np.ndarray) -> np.ndarray:
    """[N, ...] of any type as int64 [N, W], rows filled up with zeros."""
    flat = np.ascontiguousarray(array).reshape(len(array), -1)
    row_bytes = flat.shape[1] * flat.itemsize
    words = np.zeros((len(flat), -(-row_bytes // 8)), np.int64)
    words.view(np.uint8).reshape(len(flat), -1)[:, :row_bytes] = flat.view(np.uint8)
    return words
