"""Fills the index of a split with what its records hold: classes, groups, sizes of texts."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from records.decoding.modality import modality_of
from records.decoding.parsing import make_parser, parse_records, read_targets
from records.sets.schema import Schema, read_schema
from records.sets.target import REGRESSION
from records.shards.framing import scan_shard
from records.shards.index import RecordIndex, RecordReader, frame, shard_bytes
from records.shards.index_file import check_group_is_kept, read_stored_index, write_index
from records.stores.mirror import fetch_all

_INT32 = np.iinfo(np.int32).min, np.iinfo(np.int32).max
_PARSE_BATCH = 1024  # rows in one call: 155k to 215k rows/s from 128 to 1024 rows


def write_indexes(directory: str, feature: str | None = None) -> None:
    """Writes the index of every split of a set whose shards and metadata are complete.

    `feature`: the input feature; None lets the schema choose.
    """
    schema = read_schema(directory, feature)
    for split in schema.shards:
        write_index(build_index(schema, split), schema, split)


def read_index(schema: Schema, split: str) -> RecordIndex:
    """Reads a split's index; rebuilds it, and stores it if it can, when it does not fit.

    Raises:
      ValueError: a shard is damaged, or the records are not as many as the metadata say, or they
        were in groups that the metadata no longer name.
    """
    schema.check_split(split)
    index = read_stored_index(schema, split)
    if index is None:
        check_group_is_kept(schema, split)
    if index is None or not np.array_equal(index.shard_bytes, shard_bytes(schema, split)):
        index = build_index(schema, split)
        try:
            write_index(index, schema, split)
        except OSError:
            pass  # a read-only data directory: the index serves this process alone
    return index


def build_index(schema: Schema, split: str) -> RecordIndex:
    """Builds a split's index from its shards; errors as `read_index`."""
    fetch_all(schema.shards[split])
    index = frame(schema, split, [scan_shard(p) for p in schema.shards[split]])
    fill_index(schema, index, np.arange(index.num_records))
    return index


def fill_index(schema: Schema, index: RecordIndex, numbers: np.ndarray) -> None:
    """Fills in what the index keeps of the content of records `numbers` int64 [n], in batches."""
    modality = modality_of(schema)
    parse = make_parser(modality.parse_spec(index_features=True))
    reader = RecordReader(index)  # names the record where one is damaged
    for at in range(0, len(numbers), _PARSE_BATCH):
        rows = numbers[at : at + _PARSE_BATCH]
        payloads = reader.read(rows)
        features = parse_records(parse, index, rows, payloads)
        # Cut to int32 without wrapping around: what is too large stays outside of the classes.
        labels, targets = read_targets(schema, features[schema.label_name])
        index.label[rows] = np.clip(labels, *_INT32)
        if index.target is not None:
            index.target[rows] = targets
        index.group[rows] = read_groups(schema, features)
        modality.fill_index(index, rows, payloads, features)


def count_classes(schema: Schema, indexes: Iterable[RecordIndex]) -> dict[str, int]:
    """Examples of each class by name, left out those without; {} where none is predicted."""
    counts = np.zeros(schema.num_classes, np.int64)
    for index in indexes:
        known = index.label >= 0
        if index.target is None:
            counts += np.bincount(index.label[known], minlength=schema.num_classes)
        else:
            counts += index.target[known].sum(0).astype(np.int64)
    named = dict(zip(schema.class_names, counts.tolist(), strict=True))
    return {} if schema.task == REGRESSION else named


def read_groups(schema: Schema, features: dict[str, Any]) -> np.ndarray:
    """uint64 [n], the group of each record: the set's own group feature, else equal inputs."""
    if schema.group_name:
        values = features[schema.group_name].numpy()
        if values.dtype != object:
            return values.astype(np.uint64)
        return _hash_all(values)
    # Without a group feature only exact copies are kept together.
    return _hash_all(modality_of(schema).hashed_bytes(features[schema.input_name]))


def _hash_all(values: Iterable[bytes]) -> np.ndarray:
    """`hash64` of each, uint64 [n]."""
    digests = [hashlib.blake2b(value, digest_size=8).digest() for value in values]
    return np.frombuffer(b"".join(digests), "<u8")


def hash64(data: bytes) -> int:
    """A 64-bit content hash (BLAKE2b)."""
    # Not Python's `hash`, which differs between processes: stored indexes hold these numbers.
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
