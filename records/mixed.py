"""Several prepared sets opened as one: what they must have in common, and which records they give.

The records of each role stand one set after the other; `records.ordering.mixture` mixes them. What
reads, decodes and keeps examples sees one set with the shards of all.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from records.opened import OpenedSet
from records.ordering.mixture import Mixture
from records.ordering.order import mix64
from records.ordering.splits import cut_validation
from records.sets.class_choice import choose_classes
from records.sets.schema import TABULAR, TOKENS, Schema
from records.sets.target import SINGLE_LABEL
from records.shards.index import RecordIndex, join_indexes, select_records

_ROLES = ("train", "validation", "test")
_SHOWN = 5  # names in a message
BETWEEN_NAMES = " + "  # in the name of a mixture


@dataclasses.dataclass(frozen=True)
class MixedSet(OpenedSet):
    """Sets of one kind as one.

    Its splits are the roles that the sets have alone: `train` and `validation` of each, cut where
    it has no validation split, and `test` of those that have one.
    """

    parts: tuple[OpenedSet, ...] = ()  # the sets
    # Their training examples and shares.
    mixture: Mixture = dataclasses.field(default_factory=lambda: Mixture((), ()))
    indexes: dict[str, RecordIndex] = dataclasses.field(default_factory=dict, repr=False)  # by role
    seed: int = 0  # names the validation cuts

    @property
    def fingerprint(self) -> str:
        """As `OpenedSet.fingerprint`; other shares are other data."""
        return joint_fingerprint(self.parts, self.mixture.shares)

    @property
    def selection(self) -> str:
        """As `OpenedSet.selection`: which records there are depends on the cuts as well."""
        chosen = "; ".join(part.selection for part in self.parts)
        return f"{chosen} {self.seed} numpy-{np.__version__}"  # whose draws may differ

    @property
    def directories(self) -> tuple[str, ...]:
        """As `OpenedSet.directories`."""
        return tuple(part.schema.directory for part in self.parts)

    def describe(self, global_batch_size: int) -> list[str]:
        """A line for each set: its share of the rows, and how often an epoch shows its examples."""
        order = self.mixture.order(global_batch_size)
        lines = []
        for part, size, share in zip(self.parts, order.sizes, order.shares, strict=True):
            of_all = share / sum(order.shares)
            lines.append(
                f"{100 * of_all:.4g} % {part.schema.name}: {global_batch_size * of_all:.4g} of the "
                f"{global_batch_size} rows of a batch, each of its {size:,} training examples "
                f"{order.num_examples * of_all / size:.3g} times an epoch"
            )
        return lines

    def _read_index(self, split: str) -> RecordIndex:
        return self.indexes[split]


def mix_sets(parts: Sequence[OpenedSet], shares: Sequence[int], seed: int = 0) -> OpenedSet:
    """Sets as one, each with its share of every batch, as `Mixture.shares`; one set stays as it is.

    `seed` names the validation cuts.

    Raises:
      ValueError: a set stands twice, or they are of different kinds; lists how they differ.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    schemas = [part.schema for part in parts]
    for n, other in enumerate(schemas[1:], 1):
        if other.directory in [schema.directory for schema in schemas[:n]]:
            raise ValueError(
                f"data set: a mixture expected different sets, received {other.name} twice. Name "
                "it once, with a larger share"
            )
        if differing := _differences(first.schema, other):
            raise ValueError(
                "data set: a mixture expected sets of one kind with the same classes; "
                f"{first.schema.name} and {other.name} differ. {'. '.join(differing)}"
            )
    by_set = [_indexes(part, number, seed) for number, part in enumerate(parts)]
    for part, found in zip(parts, by_set):
        if part.schema.class_names != first.schema.class_names:  # in another order
            choice = choose_classes(first.schema.class_names, part.schema.class_names, "")
            for role, index in found.items():
                label = choice.relabel(index.label).astype(np.int32)
                found[role] = dataclasses.replace(index, label=label)
    roles = {role: [i[role] for i in by_set if role in i] for role in _ROLES}
    indexes = {role: join_indexes(found) for role, found in roles.items() if found}
    return MixedSet(
        _join(schemas, {role: index.num_records for role, index in indexes.items()}),
        first.shards,
        first.skip_damaged,
        parts=tuple(parts),
        mixture=Mixture(tuple(index.num_records for index in roles["train"]), tuple(shares)),
        indexes=indexes,
        seed=seed,
    )


def joint_fingerprint(parts: Sequence[OpenedSet], shares: Sequence[int]) -> str:
    """Names the data of a mixture: its sets, wherever they lie, and their shares."""
    if len(parts) == 1:
        return parts[0].fingerprint
    named = [f"{share} {part.fingerprint}" for share, part in zip(shares, parts, strict=True)]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


def _indexes(part: OpenedSet, number: int, seed: int) -> dict[str, RecordIndex]:
    """The records of a set's roles: those that it has without the others."""
    part.schema.check_split("train")
    found = {role: part.read_index(role) for role in part.schema.pooled_splits}
    if "test" in found and found["test"].label_range == (-1, -1):  # without classes
        del found["test"]
    if "validation" not in found:
        train = found["train"]
        keep = np.zeros(train.num_records, bool)
        keep[cut_validation(train.label, train.group, seed)[0]] = True
        found["train"] = select_records(train, keep, train.label)
        found["validation"] = select_records(train, ~keep, train.label)
    if part.schema.group_name and not part.schema.group_is_text:
        # Numbers that count the groups of one set say nothing of another's.
        own = np.uint64(mix64(number))
        found = {r: dataclasses.replace(i, group=i.group ^ own) for r, i in found.items()}
    return found


def _join(schemas: Sequence[Schema], counts: dict[str, int]) -> Schema:
    """One schema for all: what they have in common."""
    first = schemas[0]

    def common(value: Callable[[Schema], Any]) -> Any:
        found = [value(schema) for schema in schemas]
        return found[0] if all(one == found[0] for one in found) else None

    described = [schema.metadata for schema in schemas]
    metadata = {
        key: value
        for key, value in first.metadata.items()
        if all(key in one and one[key] == value for one in described)
    }
    metadata["generated"] = any(one.get("generated") for one in described)
    if all("conversion" in one for one in described):
        # Of equal columns only what fills a missing value can differ.
        metadata["conversion"] = first.metadata["conversion"]
    return dataclasses.replace(
        first,
        name=BETWEEN_NAMES.join(s.name for s in schemas),
        id_name=common(lambda s: s.id_name),
        group_name=common(lambda s: s.group_name),
        split_counts=counts,
        shards={},
        shard_lengths={},
        metadata=metadata,
    )


def _differences(one: Schema, other: Schema) -> list[str]:
    """In what two sets differ that those of a mixture have in common, for people."""
    kinds: dict[str, Callable[[Schema], Any]] = {
        "input": lambda s: f"{s.input_name} ({s.modality})",
        "label": lambda s: f"{s.label_name} ({s.task}, {s.label_stored})",
    }
    same_kind = one.modality == other.modality
    if same_kind and one.modality == TABULAR:
        kinds["numbers"] = lambda s: (
            f"{s.input_shape[0]} of {s.input_dtype}" + ", stored as bytes" * s.input_in_bytes
        )
    found = [
        f"{what}: {value(one)} and {value(other)}"
        for what, value in kinds.items()
        if value(one) != value(other)
    ]
    # Of one class the numbers are mended where they stand in another order.
    is_one_class = one.task == SINGLE_LABEL
    lists = {"classes": (one.class_names, other.class_names)}
    if same_kind and one.modality == TABULAR:
        lists["columns"] = one.feature_names, other.feature_names
    if same_kind and one.modality == TOKENS:
        lists["words (take the texts themselves, --feature)"] = (
            one.vocabulary() or (),
            other.vocabulary() or (),
        )
    for what, (left, right) in lists.items():
        alone = _alone(one, left, right), _alone(other, right, left)
        if any(alone):
            found.append(f"{what}: {', '.join(filter(None, alone))}")
        elif left != right and not (what == "classes" and is_one_class):
            found.append(f"{what} in another order")
    return found


def _alone(schema: Schema, own: Sequence[str], others: Sequence[str]) -> str:
    lacking = set(others)
    names = [name for name in own if name not in lacking]
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{schema.name} alone has {', '.join(names[:_SHOWN])}{more}" if names else ""
