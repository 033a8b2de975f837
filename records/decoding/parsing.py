"""From serialised records to features and targets, and which record it is that does not parse."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from records.sets.schema import Schema
from records.sets.target import CLASS, CLASSES, DOUBLES, FLOATS, MULTI_LABEL, SINGLE_LABEL
from records.shards.index import RecordIndex, record_damage

# What `tf.io.parse_example` raises for a damaged record. TensorFlow quotes the record, and where
# its bytes are no UTF-8 the message itself cannot be decoded.
PARSE_ERRORS = (tf.errors.InvalidArgumentError, UnicodeDecodeError)

# string [n], serialised records, to their features.
Parse = Callable[[tf.Tensor], dict[str, Any]]
# Serialised records [n].
Payloads = Sequence[bytes] | np.ndarray


def make_parser(spec: dict[str, Any]) -> Parse:
    """What parses records by a spec.

    Traced once: reading the spec anew in every call takes longer than parsing a small unit.
    """
    traced = tf.function(lambda serialised: tf.io.parse_example(serialised, spec), autograph=False)
    return traced.get_concrete_function(tf.TensorSpec([None], tf.string))


def parse_records(
    parse: Parse, index: RecordIndex, numbers: np.ndarray, payloads: Payloads
) -> dict[str, Any]:
    """The features of the records `numbers` int64 [n] of a split, from their payloads [n].

    Raises:
      ValueError: the content of a record does not fit the schema; names the first such record.
    """
    features, unparsable = parse_what_fits(parse, payloads)
    for row in sorted(unparsable):
        raise record_damage(index, int(numbers[row]), unparsable[row])
    return features


def parse_what_fits(parse: Parse, payloads: Payloads) -> tuple[dict[str, Any], dict[int, str]]:
    """(features of the records that parse; what is expected of each other one, by its row).

    No features where none parses.
    """
    try:
        return parse(tf.constant(list(payloads), tf.string)), {}
    except PARSE_ERRORS:
        unparsable = dict(_unparsable_rows(parse, payloads))
    rest = [payload for row, payload in enumerate(payloads) if row not in unparsable]
    return parse(tf.constant(rest, tf.string)) if rest else {}, unparsable


def _unparsable_rows(parse: Parse, payloads: Payloads, first: int = 0) -> Iterator[tuple[int, str]]:
    """(row, what is expected of it) of payloads whose first row is `first`.

    TensorFlow does not say which record of a batch it is: the batch is halved until one is left.
    """
    try:
        parse(tf.constant(list(payloads), tf.string))
    except PARSE_ERRORS as error:
        if len(payloads) == 1:
            yield first, _describe(error)
            return
        half = len(payloads) // 2
        yield from _unparsable_rows(parse, payloads[:half], first)
        yield from _unparsable_rows(parse, payloads[half:], first + half)


def _describe(error: Exception) -> str:
    """What `tf.io.parse_example` misses in a record, without the names of TensorFlow's nodes."""
    if isinstance(error, UnicodeDecodeError):
        return "content that fits the schema (Could not parse example input)"
    text = error.message.splitlines()[0]  # type: ignore[attr-defined]
    reason = re.sub(r"^.*?\}\}\s*|\s*\[Op:.*$|^Name: .*?, ", "", text)
    return f"content that fits the schema ({reason})"


def read_feature(payload: bytes, name: str) -> list[Any]:
    """The values of one feature of a serialised `tf.train.Example`; [] where it has none."""
    feature = tf.train.Example.FromString(payload).features.feature
    if name not in feature:
        return []
    kind = feature[name].WhichOneof("kind")
    return list(getattr(feature[name], kind).value) if kind else []


def read_text(payload: bytes, name: str | None) -> str:
    """The first value of a feature as text; "" where the record has none."""
    values = read_feature(payload, name) if name else []
    if not values:
        return ""
    return str(values[0], "utf-8", "replace") if isinstance(values[0], bytes) else str(values[0])


def target_feature(schema: Schema) -> Any:
    """The label feature as `tf.io.parse_example` is to read it."""
    if schema.label_stored == CLASS:
        return tf.io.FixedLenFeature([], tf.int64)
    if schema.label_stored == CLASSES:
        return tf.io.RaggedFeature(tf.int64)
    if schema.label_stored == DOUBLES:
        return tf.io.FixedLenFeature([], tf.string)
    stored = tf.float32 if schema.label_stored == FLOATS else tf.int64
    return tf.io.FixedLenFeature([schema.num_classes], stored)


def read_targets(schema: Schema, feature: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """What the index keeps of parsed labels.

    Returns:
      (int64 [n], array [n, C] or None). Of one class its number, and None. Else 0, or -1 where
      the record has no target; and the target: float32 1 for each class that is there, or the
      numbers in float64.
    """
    if schema.task == SINGLE_LABEL:
        return feature.numpy(), None
    known: np.ndarray = np.ones(
        int(feature.nrows() if schema.label_stored == CLASSES else len(feature)), bool
    )
    if schema.label_stored == CLASSES:
        found = np.zeros((len(known), schema.num_classes), np.float32)
        rows, classes = feature.value_rowids().numpy(), feature.flat_values.numpy()
        inside = (classes >= 0) & (classes < schema.num_classes)
        known[rows[~inside]] = False
        found[rows[inside], classes[inside]] = 1
    else:
        found = _numbers(schema, feature.numpy())
        fits = np.isfinite(found)
        if schema.task == MULTI_LABEL:
            fits &= (found == 0) | (found == 1)
        known = np.asarray(fits.all(1))
    return np.where(known, 0, -1), found


def _numbers(schema: Schema, stored: np.ndarray) -> np.ndarray:
    """[n, C] in the dtype of the targets; NaN where bytes are no C numbers."""
    if schema.label_stored != DOUBLES:
        return stored.astype(schema.target_dtype)
    lacking = np.full(schema.num_classes, np.nan).tobytes()
    rows = (row if len(row) == len(lacking) else lacking for row in stored)
    return np.frombuffer(b"".join(rows), np.float64).reshape(len(stored), -1)
