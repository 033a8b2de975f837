"""The one way in which a prepared set is opened: found, compared with its fingerprint, described.

Commands and training open a set once and pass the `OpenedSet` on, so that shards are hashed once
per process at most.
"""

from __future__ import annotations

import dataclasses

from records.damage.skipping import read_marked_index
from records.damage.walk import walk_shard
from records.decoding.indexing import read_index
from records.sets.find import find_directory
from records.sets.fingerprint import CheckedShards, FingerprintMismatch, check_shards
from records.sets.schema import Schema, read_schema
from records.shards.index import RecordIndex


@dataclasses.dataclass(frozen=True)
class OpenedSet:
    """A prepared set whose shards are those that were built.

    Attributes:
      schema: what it holds.
      shards: how its files compare with the stored fingerprint.
      skip_damaged: damaged records are marked and passed over; else they end what reads them.
    """

    schema: Schema
    shards: CheckedShards
    skip_damaged: bool = False
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

    def read_index(self, split: str) -> RecordIndex:
        """The index of a split, read once; with `skip_damaged` every record is checked first.

        Raises:
          ValueError: a shard is damaged, or the records are not as many as the metadata say.
        """
        if split not in self._indexes:
            self.schema.check_split(split)
            self._indexes[split] = (
                read_marked_index(self.schema, split, self.shards.differing)
                if self.skip_damaged
                else read_index(self.schema, split)
            )
        return self._indexes[split]

    def pooled(self) -> tuple[OpenedSet, str]:
        """(the set with one more split, all labelled ones together; its name): `Schema.pooled`."""
        schema, name = self.schema.pooled()
        return dataclasses.replace(self, schema=schema), name


def open_set(
    dataset: str,
    data_dir: str | None = None,
    *,
    feature: str | None = None,
    skip_damaged: bool = False,
) -> OpenedSet:
    """Opens a prepared set.

    Args:
      dataset: `name[/config[/version]]` below `data_dir`, or the set's own directory.
      data_dir: TFDS's data directory; default `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
      feature: the input feature; None lets the schema choose.
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
    return OpenedSet(read_schema(directory, feature), shards, skip_damaged)


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
