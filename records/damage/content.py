"""Compares a record's content with its set's schema: damage that CRCs cannot show."""

from __future__ import annotations

import functools
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from google.protobuf import message

from records.decoding.indexing import hash64, read_groups
from records.decoding.modality import modality_of
from records.decoding.parsing import Parse, make_parser, parse_what_fits, read_feature
from records.decoding.pixels import MAX_PIXELS
from records.sets.schema import Schema
from records.shards.index import RecordIndex


class ContentChecker:
    """Checks the content of one split's records; any thread may use it.

    A shard of which it has seen records may be begun again, `begin_again`.
    """

    def __init__(
        self,
        schema: Schema,
        split: str,
        index: RecordIndex | None = None,
        swapped: Collection[int] = (),
        max_pixels: int = MAX_PIXELS,
    ):
        """Opens nothing.

        Args:
          index: labels and groups are compared with its own, where there is one.
          swapped: shards that hold other records than those of the index.
          max_pixels: larger pictures are `unsupported`, and not looked at.
        """
        self._schema, self._index, self._swapped = schema, index, set(swapped)
        self._modality, self._max_pixels = modality_of(schema), max_pixels
        # By shard, in pieces: (numbers int64 [n] in the split, hashes uint64 [n]), and numbers.
        shards = range(len(schema.shard_lengths[split]))
        self._ids: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {i: [] for i in shards}
        self._unlabelled: dict[int, list[int]] = {i: [] for i in shards}
        self._unsupported: dict[int, dict[int, str]] = {i: {} for i in shards}
        # The number in the split of each shard's first record.
        self._firsts = np.cumsum([0, *schema.shard_lengths[split]])

    @property
    def ids(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(numbers int64 [n] in the split, hashes uint64 [n]) of the ids seen, in pieces."""
        return [piece for pieces in self._ids.values() for piece in pieces]

    @property
    def unlabelled(self) -> list[int]:
        """The numbers of the records of class -1."""
        return sorted(number for numbers in self._unlabelled.values() for number in numbers)

    @property
    def unsupported(self) -> dict[int, str]:
        """By number, what is said of records that may be whole, and cannot be trained on."""
        return {n: reason for found in self._unsupported.values() for n, reason in found.items()}

    def begin_again(self, shard: int) -> None:
        """Forgets what was seen of a shard; it is no longer compared with the index."""
        self._swapped.add(shard)
        self._ids[shard], self._unlabelled[shard], self._unsupported[shard] = [], [], {}

    def indexed_keys(self, shard: int) -> list[Hashable]:
        """What the index knows of each record of a shard: its class and group."""
        assert self._index is not None
        rows = self._index.shard == shard
        return list(zip(self._index.label[rows].tolist(), self._index.group[rows].tolist()))

    def keys(self, payloads: Sequence[bytes]) -> list[Hashable]:
        """The same of payloads, as they are; None of one that does not parse."""
        features, unparsable = parse_what_fits(self._parse, payloads)
        if not features:
            return [None] * len(payloads)
        labels = features[self._schema.label_name].numpy().tolist()
        found = iter(zip(labels, read_groups(self._schema, features).tolist()))
        return [None if row in unparsable else next(found) for row in range(len(payloads))]

    def check(self, shard: int, numbers: np.ndarray, payloads: Sequence[bytes]) -> dict[int, str]:
        """Damage by row of records `numbers` int64 [n] of a shard, whose CRCs match."""
        numbers = numbers + self._firsts[shard]
        features, unparsable = parse_what_fits(self._parse, payloads)
        found = {row: f"expected {expected}" for row, expected in unparsable.items()}
        if not features:
            return found
        rows = np.setdiff1d(np.arange(len(payloads)), list(unparsable))
        # The index tells of the records that were built, not of those that stand there now.
        index = None if shard in self._swapped else self._index
        damaged: dict[int, str] = {}
        for row, reason in self._look(shard, numbers[rows], features, index):
            # A record is told once, by the first thing that is wrong.
            damaged.setdefault(row, reason)
        kept = [payloads[row] for row in rows]
        damaged |= self._keep_ids(shard, numbers[rows], kept, damaged)
        return found | {int(rows[row]): reason for row, reason in damaged.items()}

    @functools.cached_property
    def _parse(self) -> Parse:
        """string [n] -> features of the records."""
        return make_parser(self._modality.parse_spec(index_features=True))

    def _look(
        self, shard: int, numbers: np.ndarray, row: dict[str, Any], index: RecordIndex | None
    ) -> Iterator[tuple[int, str]]:
        """(row, damage) of parsed records."""
        schema = self._schema
        labels = row[schema.label_name].numpy()
        last = schema.num_classes - 1
        for i in np.flatnonzero((labels < -1) | (labels > last)):
            yield int(i), f"its class is expected in 0 to {last}, and is {labels[i]}"
        self._unlabelled[shard] += numbers[labels == -1].tolist()
        # CRCs cannot tell a record that was swapped for another whole one: its class or group can.
        if index is not None:
            for i in np.flatnonzero(labels != index.label[numbers]):
                yield int(i), f"its class is {labels[i]}, in the index {index.label[numbers[i]]}"
            for i in np.flatnonzero(read_groups(schema, row) != index.group[numbers]):
                yield int(i), "its group is not the one in the index"
        for found in self._modality.check_content(row[schema.input_name], self._max_pixels):
            if found.is_damage:
                yield found.row, found.reason
            else:
                self._unsupported[shard][int(numbers[found.row])] = found.reason

    def _keep_ids(
        self, shard: int, numbers: np.ndarray, payloads: Sequence[bytes], damaged: dict[int, str]
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
        # Hashes, because the ids of all records of the set are held at once.
        hashes = np.array([hash64(repr(one).encode()) for one in ids.values()], np.uint64)
        self._ids[shard].append((numbers[list(ids)], hashes))
        return found
