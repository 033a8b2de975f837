"""What `records.describe` reads of a split: whole batches of features, hashes of their content."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.decoding.modality import modality_of
from records.decoding.parsing import make_parser, parse_records
from records.sets.schema import TOKENS, Schema
from records.sets.target import SINGLE_LABEL
from records.shards.index import RecordIndex, RecordReader
from records.system.progress import show_progress

_READ_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Section:
    """What one kind of data has to say."""

    lines: list[str]
    figures: dict[str, bytes]  # PNG bytes by file name
    # By what was compared ("file bytes"), then by split: uint64 [N], equal for examples of equal
    # content.
    copies: dict[str, dict[str, np.ndarray]]


def shown_classes(schema: Schema) -> tuple[str, ...]:
    """The classes into which examples fall by their index's label: one where that is no class."""
    return schema.class_names if schema.task == SINGLE_LABEL else ("all examples",)


def main_split(schema: Schema) -> str:
    """The split that statistics come from: `train`, so that nothing is learnt from the test
    split; else the largest one.
    """
    if schema.split_counts.get("train"):
        return "train"
    return max(schema.split_counts, key=lambda split: schema.split_counts[split])


def stored_features(schema: Schema) -> dict[str, Any]:
    """All features of the set by name, as TFDS describes them."""
    import tensorflow_datasets as tfds

    return dict(tfds.builder_from_directory(schema.directory).info.features.items())


def read_features(
    schema: Schema, split: str, index: RecordIndex, extra: dict[str, Any] | None = None
) -> Iterator[tuple[slice, dict[str, Any]]]:
    """Reads a split in record order, parsed in batches of 1024.

    Args:
      extra: `tf.io.parse_example` spec of features besides input and label.

    Yields:
      (rows, features): the record numbers of the batch, and its tensors by feature name: the
      input as stored (float32 or int64 [b, F], int64 ragged [b, None], or string [b]), the
      label int64 [b], and the extra ones.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    reader, modality = RecordReader(index), modality_of(schema)
    parse = make_parser(modality.parse_spec() | (extra or {}))
    starts = range(0, index.num_records, _READ_ROWS)
    numbers = (np.arange(s, min(s + _READ_ROWS, index.num_records)) for s in starts)
    payloads = (reader.read(n) for n in numbers)
    at = 0
    for batch in show_progress(payloads, index.num_records, f"reading {schema.name} {split}"):
        rows = slice(at, at + len(batch))
        features = parse_records(parse, index, np.arange(rows.start, rows.stop), batch)
        modality.check_parsed(features[schema.input_name], index, np.arange(rows.start, rows.stop))
        yield rows, features
        at = rows.stop


def hash_strings(strings: tf.Tensor) -> np.ndarray:
    """Content hashes of string [b]: uint64 [b]."""
    # 2^63 - 1 is the most that the op takes: among a million texts two collide with a chance of
    # about 1 in 20 million.
    return tf.strings.to_hash_bucket_fast(strings, 2**63 - 1).numpy().astype(np.uint64)


def hash_sequences(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Content hashes, uint64 [b], of b sequences of the given lengths, int [b].

    Args:
      values: [sum of lengths], all sequences one after the other; always of one dtype.
    """
    ends = np.cumsum(lengths)
    rows = [values[end - n : end].tobytes() for end, n in zip(ends, lengths, strict=True)]
    return hash_strings(tf.constant(rows, tf.string))


def quantile_line(name: str, values: np.ndarray, unit: str) -> str:
    """One line of quantiles and the mean of int or float [n]."""
    shares = (0, 5, 25, 50, 75, 95, 99, 100)
    found = np.percentile(values, shares)
    # With a space before each: numbers of any size stay apart.
    cells = "".join(f" {value:>10,.0f}" for value in found)
    return f"  {name:<12}{cells} {values.mean():>12,.1f}  {unit}"


def quantile_header() -> str:
    """The header above `quantile_line`."""
    names = ("least", "5 %", "25 %", "median", "75 %", "95 %", "99 %", "most")
    return f"  {'':12}{''.join(f' {name:>10}' for name in names)} {'mean':>12}"


def id_dtype(schema: Schema) -> str:
    """What the input holds, for headings."""
    return "ids" if schema.modality == TOKENS else "words"
