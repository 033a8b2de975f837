"""Compares a record's content with its set's schema: damage that CRCs cannot show."""

import contextlib
import functools
from collections import Counter
from collections.abc import Collection, Container, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import message

from records.decoding.indexing import read_groups
from records.decoding.modality import modality_of, not_utf8
from records.decoding.modality_base import Finding, FindingKind
from records.decoding.parsing import (
    Parse,
    make_parser,
    parse_what_fits,
    read_targets,
    read_text,
)
from records.decoding.pixels import MAX_PIXELS
from records.sets.schema import Schema
from records.shards.index import RecordIndex
from records.system.quiet import NativeNotes

_NAMED = 8  # records of a kind in a line of a report


class Told(NamedTuple):
    """Why a record is told, and what it is called (" (id 'x')"; "" where that is not known)."""

    reason: str
    name: str


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
        notes: NativeNotes | None = None,
    ):
        """Opens nothing.

        Args:
          index: labels and groups are compared with its own, where there is one.
          swapped: shards that hold other records than those of the index.
          max_pixels: larger pictures are not supported, and not looked at.
          notes: hear what libraries in C say of a picture.
        """
        self._schema, self._index, self._swapped = schema, index, set(swapped)
        self._modality, self._max_pixels = modality_of(schema), max_pixels
        self._notes = notes
        # By shard, in pieces: (numbers int64 [n] in the split, hashes int64 [n]), and numbers.
        shards = range(len(schema.shard_lengths[split]))
        self._ids: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {i: [] for i in shards}
        self._unlabelled: dict[int, list[int]] = {i: [] for i in shards}
        self._others: dict[int, dict[FindingKind, dict[int, Told]]] = {i: {} for i in shards}
        # The number in the split of each shard's first record.
        self._firsts = np.cumsum([0, *schema.shard_lengths[split]])

    @property
    def ids(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(numbers int64 [n] in the split, hashes int64 [n]) of the ids seen, in pieces."""
        return [piece for pieces in self._ids.values() for piece in pieces]

    @property
    def unlabelled(self) -> list[int]:
        """The numbers of the records of class -1."""
        return sorted(number for numbers in self._unlabelled.values() for number in numbers)

    def others(self, kind: FindingKind) -> dict[int, Told]:
        """By number, what is said of records that are not damaged."""
        return {
            n: said for found in self._others.values() for n, said in found.get(kind, {}).items()
        }

    def begin_again(self, shard: int) -> None:
        """Forgets what was seen of a shard; it is no longer compared with the index."""
        self._swapped.add(shard)
        self._ids[shard], self._unlabelled[shard], self._others[shard] = [], [], {}

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
        labels = read_targets(self._schema, features[self._schema.label_name])[0].tolist()
        found = iter(zip(labels, read_groups(self._schema, features).tolist()))
        return [None if row in unparsable else next(found) for row in range(len(payloads))]

    def check(self, shard: int, numbers: np.ndarray, payloads: Sequence[bytes]) -> dict[int, str]:
        """Damage by row of records `numbers` int64 [n] of a shard, whose CRCs match."""
        numbers = numbers + self._firsts[shard]
        features, unparsable = parse_what_fits(self._parse, payloads)
        found = {row: f"expected {expected}" for row, expected in unparsable.items()}
        found = {row: reason + self._name(payloads[row]) for row, reason in found.items()}
        if not features:
            return found
        rows: np.ndarray = np.delete(np.arange(len(payloads)), list(unparsable))
        # The index tells of the records that were built, not of those that stand there now.
        index = None if shard in self._swapped else self._index
        damaged: dict[int, Told] = {}
        kept = [payloads[row] for row in rows]
        named: Counter[FindingKind] = Counter()
        for one in self._look_and_listen(shard, numbers[rows], features, index):
            told, key = damaged, one.row
            if one.kind is not FindingKind.DAMAGE:
                told = self._others[shard].setdefault(one.kind, {})
                key = int(numbers[rows[one.row]])
                named[one.kind] += 1
            # Reading a name takes longer than the check of a table's row.
            name = self._name(kept[one.row]) if named[one.kind] <= _NAMED else ""
            # A record is told once, by the first thing that is wrong.
            told.setdefault(key, Told(one.reason, name))
        found |= {int(rows[row]): one.reason + one.name for row, one in damaged.items()}
        no_example = self._keep_ids(shard, numbers[rows], kept, damaged)
        return found | {int(rows[row]): reason for row, reason in no_example.items()}

    @functools.cached_property
    def _parse(self) -> Parse:
        """string [n] -> features of the records."""
        text = tf.io.FixedLenFeature([], tf.string, default_value="")
        texts = dict.fromkeys(self._schema.text_names, text)
        return make_parser(texts | self._modality.parse_spec(index_features=True))

    def _look_and_listen(
        self, shard: int, numbers: np.ndarray, row: dict[str, Any], index: RecordIndex | None
    ) -> list[Finding]:
        """What is wrong with parsed records, and what libraries in C say of single ones."""
        notes = self._notes
        if notes is None:
            return list(self._look(shard, numbers, row, index))
        before = notes.num_bytes
        with notes.shared():
            found = list(self._look(shard, numbers, row, index))
        if notes.num_bytes == before:
            return found
        damaged = {one.row for one in found if one.kind is FindingKind.DAMAGE}
        for i in (i for i in range(len(numbers)) if i not in damaged):
            one = {name: feature[i : i + 1] for name, feature in row.items()}
            with notes.alone() as lines:
                list(self._modality.check_content(one, self._max_pixels))
            if lines:
                said = "; ".join(dict.fromkeys(lines))
                reason = f"its picture is read, and the decoder says: {said}"
                found.append(Finding(i, reason, FindingKind.NOTE))
        return found

    def _look(
        self, shard: int, numbers: np.ndarray, row: dict[str, Any], index: RecordIndex | None
    ) -> Iterator[Finding]:
        """What is wrong with parsed records."""
        schema = self._schema
        labels, _ = read_targets(schema, row[schema.label_name])
        last = schema.num_classes - 1
        for i in np.flatnonzero((labels < -1) | (labels > last)):
            yield Finding(int(i), f"its class is expected in 0 to {last}, and is {labels[i]}")
        self._unlabelled[shard] += numbers[labels == -1].tolist()
        # CRCs cannot tell a record that was swapped for another whole one: its class or group can.
        if index is not None:
            for i in np.flatnonzero(labels != index.label[numbers]):
                stored = index.label[numbers[i]]
                yield Finding(int(i), f"its class is {labels[i]}, in the index {stored}")
            for i in np.flatnonzero(read_groups(schema, row) != index.group[numbers]):
                yield Finding(int(i), "its group is not the one in the index")
        yield from self._modality.check_content(row, self._max_pixels)
        # Texts that --feature may name as the input.
        for name in schema.text_names:
            for number in not_utf8(row[name].numpy()) if name != schema.input_name else ():
                yield Finding(number, f"its text {name!r} is not UTF-8", FindingKind.MISREAD)

    def _name(self, payload: bytes) -> str:
        """The id and the file of a record, as far as they can be read, to be put behind a text."""
        found = {}
        for feature in (self._schema.id_name, "filename"):
            with contextlib.suppress(message.DecodeError):
                found[feature] = read_text(payload, feature)
        said = ", ".join(f"{feature} {text!r}" for feature, text in found.items() if text)
        return f" ({said})" if said else ""

    def _keep_ids(
        self, shard: int, numbers: np.ndarray, payloads: Sequence[bytes], damaged: Container[int]
    ) -> dict[int, str]:
        """Remembers the ids of undamaged records; damage, by row, that only this reading finds."""
        if self._schema.id_name is None:
            return {}
        found: dict[int, str] = {}
        rows, hashes = [], []
        parse, name = tf.train.Example.FromString, self._schema.id_name
        for i in range(len(payloads)):
            if i not in damaged:
                try:
                    stored = parse(payloads[i]).features.feature[name].SerializeToString()
                except message.DecodeError:  # parse_example skips what it is not asked for
                    found[i] = "expected a tf.train.Example"
                    continue
                rows.append(i)
                # Hashes, because the ids of all records of the set are held at once.
                hashes.append(hash(stored))
        self._ids[shard].append((numbers[rows], np.array(hashes, np.int64)))
        return found
