"""The one way in which a prepared set is opened: found, compared with its fingerprint, described.

Commands and training open a set once and pass the `OpenedSet` on, so that shards are hashed once
per process at most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from records.damage.skipping import read_marked_index
from records.damage.walk import walk_shard
from records.decoding.indexing import read_index
from records.sets.class_choice import ClassChoice, choose_classes
from records.sets.find import find_directory
from records.sets.fingerprint import CheckedShards, FingerprintMismatch, check_shards
from records.sets.schema import Schema, read_schema
from records.sets.target import REGRESSION
from records.shards.index import RecordIndex, select_records


@dataclasses.dataclass(frozen=True)
class OpenedSet:
    """A prepared set whose shards are those that were built.

    Attributes:
      schema: what it holds.
      shards: how its files compare with the stored fingerprint.
      skip_damaged: damaged records are marked and passed over; else they end what reads them.
      choice: of classes; the schema and the indexes are those of the chosen records. None: all.
      whole: with a choice, the set with all its classes.
    """

    schema: Schema
    shards: CheckedShards
    skip_damaged: bool = False
    choice: ClassChoice | None = None
    whole: OpenedSet | None = None
    # Of this opening alone. `dataclasses.replace` shares it: a pooled set has one split more.
    _indexes: dict[str, RecordIndex] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def fingerprint(self) -> str:
        """Names the data: equal for equal shards and features, wherever they lie.

        A set without a stored fingerprint (not one of our builders') is hashed at the first use.
        """
        return self.shards.content

    @property
    def selection(self) -> str:
        """Names which records of the files are used; "" for all."""
        return "" if self.choice is None else str(self.choice.asked)

    @property
    def directories(self) -> tuple[str, ...]:
        """Where the set lies; of a mixture one for each of its sets."""
        return (self.schema.directory,)

    def read_index(self, split: str) -> RecordIndex:
        """The index of a split, read once; with `skip_damaged` every record is checked first.

        Raises:
          ValueError: a shard is damaged, or the records are not as many as the metadata say.
        """
        if split not in self._indexes:
            self.schema.check_split(split)
            self._indexes[split] = self._read_index(split)
        return self._indexes[split]

    def _read_index(self, split: str) -> RecordIndex:
        if self.whole is not None and self.choice is not None:
            index = self.whole.read_index(split)
            return select_records(index, *self.choice.apply(index.label, index.target))
        if self.skip_damaged:
            return read_marked_index(self.schema, split, self.shards.differing)
        return read_index(self.schema, split)

    def pooled(self) -> tuple[OpenedSet, str]:
        """(the set with one more split, all labelled ones together; its name): `Schema.pooled`."""
        schema, name = self.schema.pooled()
        whole = None if self.whole is None else self.whole.pooled()[0]
        return dataclasses.replace(self, schema=schema, whole=whole), name

    def choose(self, classes: Sequence[str] | None) -> OpenedSet:
        """The set with the records of these classes alone, in their order: `--classes`.

        Classes are numbered as they are named; NEW=A,B makes one of two. Of several classes at once
        a record stays with those of its classes that are chosen. Splits without such a
        record are left out. The fingerprint stays: it names the files. None: the set as it is.

        Raises:
          ValueError: a class that is not there, fewer than two, or the split train lacks one; or
            numbers are predicted.
        """
        if classes is None:
            return self
        schema = self.schema
        if schema.task == REGRESSION:
            raise ValueError(
                f"data set: --classes: {schema.name}: expected with classes, received with --task "
                f"{REGRESSION}"
            )
        choice = choose_classes(classes, schema.class_names, schema.name)
        indexes = {split: self.read_index(split) for split in schema.split_counts}
        made = {s: choice.apply(index.label, index.target) for s, index in indexes.items()}
        counts = {split: int(keep.sum()) for split, (keep, *_) in made.items() if keep.any()}
        if "train" in made:
            keep, label, target = made["train"]
            found = label[keep] if target is None else np.flatnonzero(target[keep].any(0))
            lacking = sorted(set(range(len(choice.names))) - set(found.tolist()))
            if lacking:
                raise ValueError(
                    f"data set: --classes: {schema.name}: split train expected examples of each "
                    f"class, received none of {', '.join(choice.names[n] for n in lacking)}"
                )
        chosen = dataclasses.replace(schema, class_names=choice.names, split_counts=counts)
        left = {split: schema.split_counts[split] for split in counts}
        whole = dataclasses.replace(self, schema=dataclasses.replace(schema, split_counts=left))
        return dataclasses.replace(self, schema=chosen, choice=choice, whole=whole, _indexes={})


def open_set(
    dataset: str,
    data_dir: str | None = None,
    *,
    feature: str | None = None,
    task: str | None = None,
    skip_damaged: bool = False,
) -> OpenedSet:
    """Opens a prepared set.

    Args:
      dataset, data_dir: as `records.sets.find.find_directory`.
      feature: the input feature; None lets the schema choose.
      task: single_label, multi_label or regression; None: what the label feature is made for.
      skip_damaged: shards may be missing or damaged, and damaged records are passed over.

    Raises:
      FileNotFoundError: there is no such set.
      ValueError: its shards are not those that were built (names the first damaged record), or it
        has no input or label that can be trained on.
    """
    directory = find_directory(dataset, data_dir)
    try:
        shards = check_shards(directory, skip_damaged=skip_damaged)
    except FingerprintMismatch as error:
        # The fingerprint names a file only. The walk costs one pass over it, on the way to an
        # error.
        raise FingerprintMismatch(error.path, error.difference, _first_damage(error)) from None
    return OpenedSet(read_schema(directory, feature, task), shards, skip_damaged)


def _first_damage(error: FingerprintMismatch) -> str:
    """The first damaged record of a shard that is not as it was built, "" where none is."""
    if not error.difference.is_readable or not error.path.exists():  # in its store, still
        return ""
    scan = walk_shard(str(error.path), None)
    first = min(scan.damaged, default=None)
    if first is None:
        return ""
    place = f"number {first} at byte {scan.layout.offset[first]}"
    return f" Its first damaged record is {place}: {scan.damaged[first]}."
