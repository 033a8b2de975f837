"""The file of an index, `<split>.index.npz` beside the shards: written, read, told from another.

It is rebuilt when it is missing or does not fit the shards (`records.decoding.indexing`). A large
one is mapped into memory, not read: opening it costs the same for any number of records, and the
processes of a host share its pages. The file of a mapped index may be replaced, never written into.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from records.sets.schema import Schema
from records.sets.target import SINGLE_LABEL
from records.shards.index import COLUMNS, RecordIndex, lie_inside
from records.system.npz import map_arrays, read_arrays, write_arrays

# A smaller index (some 300,000 records) is read whole, and all of it is checked at every start.
_LOADED_BYTES = 2**24


def index_path(schema: Schema, split: str) -> Path:
    """The one file of a split's index."""
    # A set may be read for one target and for another: neither writes over the other's.
    task = "" if schema.task == SINGLE_LABEL else f".{schema.task}"
    return Path(schema.directory) / f"{split}{task}.index.npz"


def _content_key(schema: Schema) -> str:
    """What, besides the shards, shapes an index: the features it was parsed from."""
    parts = (schema.input_name, schema.label_name, schema.group_name, schema.grey_name)
    return "\n".join(str(p) for p in parts)


def write_index(index: RecordIndex, schema: Schema, split: str) -> None:
    """Stores a split's index beside its shards, whole or not at all."""
    arrays = {"key": np.array(_content_key(schema))}
    arrays |= {name: getattr(index, name) for name in COLUMNS}
    if index.target is not None:
        arrays["target"] = index.target
    write_arrays(index_path(schema, split), arrays)


def index_problems(schema: Schema, split: str) -> list[str]:
    """Why the index that stands beside the shards is of no use; none where it is for another input.

    It remembers the group feature, also where metadata.json has lost it.
    """
    path = index_path(schema, split)
    mend = "Remove it where that is meant; the next reader writes it again"
    if not path.exists():
        return []
    stored = _stored_key(schema, split, in_full=True)
    if stored is None:
        return [f"shards: {path}: is damaged. Remove it; the next reader writes it again"]
    # The input and its flag: `--feature` may have named another one.
    of_set = ("class", 1, schema.label_name), ("group", 2, str(schema.group_name))
    for what, i, now in of_set:
        if stored[i] != now:
            return [
                f"shards: {path}: was written when the {what} feature was {stored[i]!r}, and is "
                f"now {now!r}: features.json or metadata.json was changed or lost. Restore it. "
                f"{mend}"
            ]
    return [] if stored[0] != schema.input_name else [f"shards: {path}: does not fit. {mend}"]


def check_group_is_kept(schema: Schema, split: str) -> None:
    """Raises ValueError where the stored index knows a group feature that the set has lost.

    Without its metadata.json one group would stand on both sides of a cut.
    """
    stored = _stored_key(schema, split)
    if schema.group_name is None and stored is not None and stored[2] not in ("", "None"):
        raise ValueError(index_problems(schema, split)[0])


def _stored_key(schema: Schema, split: str, in_full: bool = False) -> list[str] | None:
    """The names of `_content_key` in the stored index; None where it is missing or damaged."""
    try:
        key = str(_stored_arrays(index_path(schema, split), in_full)["key"])
    except (OSError, KeyError, ValueError):
        return None
    return [*key.split("\n"), "", "", ""]


def _stored_arrays(path: Path, in_full: bool = False) -> dict[str, np.ndarray]:
    if path.stat().st_size <= _LOADED_BYTES:
        return read_arrays(path)
    return map_arrays(path, in_full=in_full)


def read_stored_index(schema: Schema, split: str, *, in_full: bool = False) -> RecordIndex | None:
    """The stored index, whether or not the shards still are as they were; None without one.

    An index of other features, of another number of records or a damaged one counts as none. With
    `in_full` all of a large one is looked at, too, else what its file's time does not vouch for.
    """
    path = index_path(schema, split)
    try:
        stored = _stored_arrays(path, in_full)
        if str(stored["key"]) != _content_key(schema):
            return None
        arrays: dict[str, Any] = {name: stored[name] for name in COLUMNS}
        if schema.task != SINGLE_LABEL:
            arrays["target"] = target = stored["target"]
            wanted = (schema.split_counts[split], schema.num_classes)
            if target.shape != wanted or target.dtype != schema.target_dtype:
                return None
        index = RecordIndex(paths=schema.shards[split], **arrays)
        if not _has_shape(index, schema.split_counts[split]):
            return None
        is_mapped = path.stat().st_size > _LOADED_BYTES
    except (OSError, KeyError, ValueError):
        return None
    if (in_full or not is_mapped) and not _is_possible(index):
        return None
    # Older ones hold int64.
    return dataclasses.replace(index, label=index.label.astype(np.int32, copy=False))


def _has_shape(index: RecordIndex, count: int) -> bool:
    """Whether the arrays are of the kinds that `build_index` makes."""
    kinds = {field.name: "i" for field in dataclasses.fields(index)}
    kinds |= {"group": "u", "is_grey": "b"}
    for name in COLUMNS:
        array = getattr(index, name)
        length = len(index.paths) if name == "shard_bytes" else count
        if array.shape != (length,) or array.dtype.kind != kinds[name]:
            return False
    return True


def _is_possible(index: RecordIndex) -> bool:
    """Whether the records lie within the shards, one after the other.

    The file's sums say that it is as it was written, not that we wrote it.
    """
    return all(
        lie_inside(index, rows).all()
        # With the row before: shards must not fall from one part to the next.
        and not (np.diff(index.shard[max(0, rows.start - 1) : rows.stop]) < 0).any()
        for rows in index.walk()
    )
