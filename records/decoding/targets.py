"""From the stored label of a record to what a model is to give: a class, classes or numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from records.sets.schema import Schema
from records.sets.target import CLASS, CLASSES, FLOATS, MULTI_LABEL, SINGLE_LABEL


def target_feature(schema: Schema) -> Any:
    """The label feature as `tf.io.parse_example` is to read it."""
    if schema.label_stored == CLASS:
        return tf.io.FixedLenFeature([], tf.int64)
    if schema.label_stored == CLASSES:
        return tf.io.RaggedFeature(tf.int64)
    stored = tf.float32 if schema.label_stored == FLOATS else tf.int64
    return tf.io.FixedLenFeature([schema.num_classes], stored)


def read_targets(schema: Schema, feature: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """What the index keeps of parsed labels.

    Returns:
      (int64 [n], float32 [n, C] or None). Of one class its number, and None. Else 0, or -1 where
      the record has no target; and the target: 1 for each class that is there, or the numbers.
    """
    if schema.task == SINGLE_LABEL:
        return feature.numpy(), None
    known = np.ones(int(feature.nrows() if schema.label_stored == CLASSES else len(feature)), bool)
    if schema.label_stored == CLASSES:
        found = np.zeros((len(known), schema.num_classes), np.float32)
        rows, classes = feature.value_rowids().numpy(), feature.flat_values.numpy()
        inside = (classes >= 0) & (classes < schema.num_classes)
        known[rows[~inside]] = False
        found[rows[inside], classes[inside]] = 1
    else:
        found = feature.numpy().astype(np.float32)
        fits = np.isfinite(found)
        if schema.task == MULTI_LABEL:
            fits &= (found == 0) | (found == 1)
        known = fits.all(1)
    return np.where(known, 0, -1), found
