"""The keys of a set's own metadata that this project reads: each must name something there is."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from records.sets.target import SINGLE_LABEL, Target

_OF_FEATURES = ("input_feature", "label_feature", "id_feature", "group_feature")
# Those that shape training: "group_features" is a slip, and no key of somebody's own.
_SHAPING = (*_OF_FEATURES, "feature_names", "part_of")
_ALIKE = 0.85


def check_names(name: str, metadata: Mapping[str, Any], features: Collection[str]) -> None:
    """Checks the keys themselves, and those that name one of the set's features.

    Raises:
      ValueError: a key is all but one of ours, or names no feature. A group feature that is
        misspelt would put one group on both sides of a cut.
    """
    for key in metadata.keys() - set(_SHAPING):
        meant = difflib.get_close_matches(key.lower().replace("-", "_"), _SHAPING, 1, _ALIKE)
        if meant:
            raise ValueError(
                f"data set: {name}: metadata key {key!r} expected as {meant[0]!r}, which it looks "
                f"like. Rename it in the builder, and build the set again with --overwrite"
            )
    for key in _OF_FEATURES:
        value = metadata.get(key)
        if value is not None and not (isinstance(value, str) and value in features):
            raise _wrong(name, key, f"one of the features {sorted(features)}", value)


def check_values(
    name: str, metadata: Mapping[str, Any], target: Target, splits: Collection[str]
) -> None:
    """Checks the keys that name classes or splits; `splits` are the names there are.

    Raises:
      ValueError: a key names none of them, or holds something of another kind.
    """
    counts = metadata.get("class_counts")
    # Those of another target are the classes of another feature.
    known = set(target.names) if target.task == SINGLE_LABEL else None
    if counts is not None and not (
        _is_counts(counts) and (known is None or counts.keys() <= known)
    ):
        raise _wrong(name, "class_counts", f"numbers by class, of {sorted(known or ())}", counts)
    dropped = metadata.get("dropped")
    if dropped is not None and not _is_counts(dropped):
        raise _wrong(name, "dropped", "numbers by reason", dropped)
    if metadata.get("generated") not in (None, True, False):
        raise _wrong(name, "generated", "true or false", metadata["generated"])
    language = metadata.get("language")
    if not isinstance(language, str | None):
        raise _wrong(name, "language", "a text", language)
    parts = metadata.get("part_of")
    if parts is None:
        return
    fits = isinstance(parts, dict) and all(
        isinstance(whole, str) and {part, whole} <= set(splits) and part != whole
        for part, whole in parts.items()
    )
    if not fits:
        expected = f"{{a split: the split that holds its examples}}, of {sorted(splits)}"
        raise _wrong(name, "part_of", expected, parts)


def check_columns(name: str, metadata: Mapping[str, Any], columns: int) -> None:
    """Checks `feature_names` of a table of so many columns.

    Raises:
      ValueError: they are not as many different texts.
    """
    found = metadata.get("feature_names")
    if found is None:
        return
    is_list = isinstance(found, list | tuple) and all(isinstance(one, str) for one in found)
    if not is_list or len(found) != columns:
        received = f"{len(found)}: {list(found)}" if is_list else found
        raise _wrong(name, "feature_names", f"{columns} texts, one for each column", received)
    twice = sorted({one for one in found if list(found).count(one) > 1})
    if twice:
        raise _wrong(name, "feature_names", "different names", f"{twice} more than once")


def check_group(
    name: str, features: Mapping[str, Any], group: str | None
) -> tuple[str | None, bool]:
    """(the group feature, whether it is stored as bytes), as the index keeps it.

    Raises:
      ValueError: it is neither an integer nor a text: groups are compared for equality.
    """
    kind = "" if group is None else _scalar_kind(features[group])
    if group is not None and (not kind or kind not in "biuO"):
        raise ValueError(
            f"data set: {name}: group feature {group!r} expected an integer or a text, received "
            f"{features[group]!r}. Store the group as one of them, and build the set again"
        )
    return group, kind == "O"


def grey_flag(features: Mapping[str, Any]) -> str | None:
    """The flag of grey pictures, where there is one."""
    kind = _scalar_kind(features.get("is_grey"))
    return "is_grey" if kind and kind in "biu" else None


def _scalar_kind(feature: Any) -> str:
    """NumPy's letter of what is stored of one number or text ("O": bytes); "" of other features."""
    import numpy as np
    import tensorflow_datasets as tfds

    if not isinstance(feature, tfds.features.Tensor) or feature.shape != ():
        return ""
    return str(np.dtype(feature.get_serialized_info().np_dtype).kind)


def _is_counts(value: Any) -> bool:
    # `type`, not `isinstance`: JSON's true is an int to Python.
    return isinstance(value, dict) and all(type(count) is int for count in value.values())


def _wrong(name: str, key: str, expected: str, received: Any) -> ValueError:
    said = received if isinstance(received, str) and key == "feature_names" else repr(received)
    return ValueError(
        f"data set: {name}: metadata key {key!r} expected {expected}, received {said[:300]}. Mend "
        "it in the builder, and build the set again with --overwrite"
    )
