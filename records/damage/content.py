"""Whether a record's content is what its set's schema says: what CRCs cannot tell."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import message

from records.decoding import decode
from records.sets.schema import IMAGE, TABULAR, TEXT, TOKENS, Schema
from records.shards.index import RecordIndex, hash64, read_groups


class ContentChecker:
    """Checks the content of one split's records; any thread may use it.

    Attributes:
      ids: (numbers int64 [n] in the split, hashes uint64 [n]) of the ids seen, in pieces; none
        where the set has no id feature.
      unlabelled: numbers of records of class -1.
    """

    def __init__(
        self,
        schema: Schema,
        split: str,
        index: RecordIndex | None = None,
        swapped: Collection[int] = (),
    ):
        """Opens nothing.

        Args:
          schema, split: what is checked.
          index: labels and groups are compared with its own, where there is one.
          swapped: shards that hold other records than those of the index.
        """
        self._schema, self._index, self._swapped = schema, index, swapped
        self.ids: list[tuple[np.ndarray, np.ndarray]] = []
        self.unlabelled: list[int] = []
        self._firsts = np.cumsum([0, *schema.shard_lengths[split]])

    def check(self, shard: int, numbers: np.ndarray, payloads: Sequence[bytes]) -> dict[int, str]:
        """Damage by row of records `numbers` int64 [n] of a shard, whose CRCs match."""
        numbers = numbers + self._firsts[shard]
        try:
            row = self._parse(tf.constant(list(payloads), tf.string))
        except decode.PARSE_ERRORS as error:
            if len(payloads) == 1:
                return {0: f"expected {decode.describe_parse_error(error)}"}
            halves = np.array_split(np.arange(len(payloads)), 2)
            found: dict[int, str] = {}
            for half in halves:
                part = self.check(shard, numbers[half] - self._firsts[shard], _take(payloads, half))
                found |= {int(half[i]): reason for i, reason in part.items()}
            return found
        found = {}
        index = None if shard in self._swapped else self._index
        for i, reason in self._look(numbers, row, index):
            found.setdefault(i, reason)
        found |= self._keep_ids(numbers, payloads, found)
        return found

    @functools.cached_property
    def _parse(self) -> Callable[[tf.Tensor], dict[str, Any]]:
        """string [n] -> features of the records, traced once."""
        spec = decode.parse_spec(self._schema, index_features=True)
        traced = tf.function(lambda serialised: tf.io.parse_example(serialised, spec))
        return traced.get_concrete_function(tf.TensorSpec([None], tf.string))

    def _look(
        self, numbers: np.ndarray, row: dict[str, Any], index: RecordIndex | None
    ) -> Iterator[tuple[int, str]]:
        """(row, damage) of parsed records."""
        schema = self._schema
        labels = row[schema.label_name].numpy()
        last = schema.num_classes - 1
        for i in np.flatnonzero((labels < -1) | (labels > last)):
            yield int(i), f"its class is expected in 0 to {last}, and is {labels[i]}"
        self.unlabelled += numbers[labels == -1].tolist()
        if index is not None:
            for i in np.flatnonzero(labels != index.label[numbers]):
                yield int(i), f"its class is {labels[i]}, by the index {index.label[numbers[i]]}"
            for i in np.flatnonzero(read_groups(schema, row) != index.group[numbers]):
                yield int(i), "its group is another one than by the index"
        yield from self._look_at_inputs(row[schema.input_name])

    def _look_at_inputs(self, inputs: Any) -> Iterator[tuple[int, str]]:
        schema = self._schema
        if schema.modality == IMAGE:
            yield from _damaged_pictures(inputs.numpy().tolist())
        elif schema.modality == TEXT:
            for row, text in enumerate(inputs.numpy()):
                try:
                    text.decode()
                except UnicodeDecodeError:
                    yield row, "its text is no UTF-8"
        elif schema.modality == TOKENS:
            vocabulary = schema.vocabulary()
            most = len(vocabulary) if vocabulary else 2**31
            ids = inputs.flat_values.numpy()
            of_row = inputs.value_rowids().numpy()
            for i in np.unique(of_row[(ids < 0) | (ids >= most)]):
                yield int(i), f"an id lies outside 0 to {most - 1}"
        elif schema.modality == TABULAR:
            for i in np.flatnonzero(~np.isfinite(inputs.numpy()).all(1)):
                yield int(i), "a number is not finite"

    def _keep_ids(
        self, numbers: np.ndarray, payloads: Sequence[bytes], damaged: dict[int, str]
    ) -> dict[int, str]:
        """Remembers the ids of undamaged records; damage, by row, that only this reading finds."""
        if self._schema.id_name is None:
            return {}
        found: dict[int, str] = {}
        ids: dict[int, list[Any]] = {}
        for i in range(len(payloads)):
            if i not in damaged:
                try:
                    ids[i] = read_feature(payloads[i], self._schema.id_name)
                except message.DecodeError:  # parse_example skips what it is not asked for
                    found[i] = "expected a tf.train.Example"
        hashes = np.array([hash64(repr(one).encode()) for one in ids.values()], np.uint64)
        self.ids.append((numbers[list(ids)], hashes))
        return found


def read_feature(payload: bytes, name: str) -> list[Any]:
    """The values of one feature of a serialised `tf.train.Example`; [] where it has none."""
    feature = tf.train.Example.FromString(payload).features.feature
    if name not in feature:
        return []
    kind = feature[name].WhichOneof("kind")
    return list(getattr(feature[name], kind).value) if kind else []


def _damaged_pictures(pictures: list[bytes]) -> Iterator[tuple[int, str]]:
    """(row, damage) of pictures that cannot be decoded whole."""
    first = 0
    while first < len(pictures):
        try:
            decode.decode_pictures(pictures[first:], 1, 1)
            return
        except decode.PictureError as error:
            yield first + error.row, f"its picture cannot be decoded ({error})"
            first += error.row + 1


def _take(payloads: Sequence[bytes], rows: np.ndarray) -> list[bytes]:
    return [payloads[i] for i in rows]
