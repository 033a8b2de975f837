"""What is predicted: one class, several classes at once or numbers, and the feature that holds it.

Found from the feature spec; `--task` overrules where a feature can be read in two ways.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from records.sets.hints import rebuild_hint

SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label", "multi_label", "regression"
TASKS = (SINGLE_LABEL, MULTI_LABEL, REGRESSION)
# How a record stores it: the number of its class, the numbers of its classes, or C numbers; of
# float64 all digits stand in their bytes alone.
CLASS, CLASSES, WHOLE, FLOATS, DOUBLES = "class", "classes", "int64", "float32", "float64 bytes"
# Metadata may claim anything; more would only fill the memory with names.
_MOST_CLASSES = 2**20


@dataclasses.dataclass(frozen=True)
class Target:
    """What a model of the set gives."""

    task: str  # one of `TASKS`
    feature: str  # name of the label feature
    names: tuple[str, ...]  # C names, of the classes in label order, or of the numbers
    stored: str  # CLASS, CLASSES, WHOLE, FLOATS or DOUBLES


def find_target(
    directory: str,
    name: str,
    features: Mapping[str, Any],
    metadata: Mapping[str, Any],
    wanted: str | None,
    task: str | None = None,
) -> Target:
    """The target of a set.

    Args:
      wanted: the feature that metadata or supervised keys name.
      task: one of `TASKS`, or None for what the feature is made for.

    Raises:
      ValueError: no feature, or more than one, can be it; or its names are not usable.
    """
    # What the model reads is no target either, with another --task.
    able = [key for key in features if key == wanted or key != metadata.get("input_feature")]
    found = {key: _Label.of(key, features[key], metadata) for key in able}
    labels = {key: label for key, label in found.items() if label is not None}
    chosen = _choose(labels, wanted, task)
    if chosen is None:
        raise ValueError(_no_label(name, features, labels, wanted, task))
    label = labels[chosen]
    # Whole numbers may be counts, or classes without names.
    is_open = label.stored == WHOLE and label.tasks != (MULTI_LABEL,)
    if task not in (None, *label.tasks) or (task is None and is_open):
        raise ValueError(
            f"data set: {name}: label feature {chosen!r} expected a ClassLabel or numbers with a "
            f"fraction, received {features[chosen]!r}. Say what it is with "
            f"{' or '.join(f'--task {t}' for t in label.tasks)}; for classes store a ClassLabel"
        )
    if label.stored in (CLASS, CLASSES):
        _check_names_file(directory, chosen, name)
        names = _class_names(label.feature, chosen, name)
    else:
        names = _names(label, chosen, name, metadata)
    task = task or label.tasks[0]
    stored = CLASSES if task == MULTI_LABEL and label.stored == CLASS else label.stored
    return Target(task, chosen, names, stored)


@dataclasses.dataclass(frozen=True)
class _Label:
    """How a feature can be read as a target."""

    tasks: tuple[str, ...]  # what it can be, the usual one first
    stored: str  # as `Target`
    feature: Any  # that which has the class names, or the feature itself
    # Numbers of a record; None for classes, or where only their names tell.
    count: int | None = None
    is_no_input: bool = True  # a class, one number or numbers with names: an input has none of them

    @property
    def is_class(self) -> bool:
        """Its names are those of classes, in the feature itself."""
        return self.stored in (CLASS, CLASSES)

    @classmethod
    def of(cls, key: str, feature: Any, metadata: Mapping[str, Any]) -> _Label | None:
        import numpy as np
        import tensorflow_datasets as tfds

        if isinstance(feature, tfds.features.ClassLabel):
            return cls((SINGLE_LABEL, MULTI_LABEL), CLASS, feature)
        inner = getattr(feature, "feature", None)
        if isinstance(feature, tfds.features.Sequence) and isinstance(
            inner, tfds.features.ClassLabel
        ):
            return cls((MULTI_LABEL,), CLASSES, inner)
        if not isinstance(feature, tfds.features.Tensor) or isinstance(
            feature, tfds.features.Image | tfds.features.Text
        ):
            return None
        kind = np.dtype(feature.get_serialized_info().np_dtype).kind
        declared = np.dtype(feature.np_dtype).kind
        is_double = is_in_bytes(feature) and np.dtype(feature.np_dtype) == np.float64
        if (kind not in "fiub" and not is_double) or len(feature.shape) > 1:
            return None
        kind = "f" if is_double else kind
        stored = DOUBLES if is_double else FLOATS if kind == "f" else WHOLE
        if feature.shape == ():
            return cls((REGRESSION,), stored, feature, 1)
        has_names = _stored_names(key, metadata) is not None
        count = feature.shape[0]
        if count is None and not has_names:
            return None
        if kind == "f":
            return cls((REGRESSION,), stored, feature, count, has_names)
        tasks = (MULTI_LABEL,) if declared == "b" else (MULTI_LABEL, REGRESSION)
        return cls(tasks, stored, feature, count, has_names)


def describe_target(task: str, names: tuple[str, ...], target: Any) -> str:
    """Several classes [C] of 0 and 1, or numbers [C], for people."""
    if task == MULTI_LABEL:
        return ", ".join(name for name, there in zip(names, target) if there) or "none"
    # A float32 of small size with its own digits alone, a time stamp with all.
    return ", ".join(f"{n:.{7 if abs(n) < 1e6 else 12}g}" for n in target)


def is_in_bytes(feature: Any) -> bool:
    """A vector stored as the bytes of its numbers, which alone keep all digits of float64."""
    import tensorflow_datasets as tfds

    is_tensor = type(feature) is tfds.features.Tensor
    return is_tensor and feature.to_json_content().encoding == tfds.features.Encoding.BYTES.value


def _choose(labels: Mapping[str, _Label], wanted: str | None, task: str | None) -> str | None:
    """The name of the label feature; None where it cannot be told."""
    if task is None and wanted is not None:
        return wanted if wanted in labels else None
    has_class = any(found.stored == CLASS for found in labels.values())
    usual = task or (SINGLE_LABEL if has_class else MULTI_LABEL)
    made_for = [k for k, f in labels.items() if f.tasks[0] == usual and (task or f.is_class)]
    if wanted in made_for:
        return wanted
    free = [key for key in made_for if labels[key].is_no_input]
    if len(free) == 1:
        return free[0]
    if "label" in free:
        return "label"
    if wanted is not None and wanted in labels and task in labels[wanted].tasks:
        return wanted
    able = [key for key, found in labels.items() if found.is_class and task in found.tasks]
    return able[0] if len(able) == 1 else None


def _no_label(
    name: str,
    features: Mapping[str, Any],
    labels: Mapping[str, _Label],
    wanted: str | None,
    task: str | None,
) -> str:
    classes = sorted(key for key, label in labels.items() if label.stored == CLASS)
    if task in (None, SINGLE_LABEL):
        received = wanted if wanted is not None else classes or "none"
        hint = "; name one as label_feature in the builder's metadata" if classes else ""
        return (
            f"data set: {name}: one ClassLabel expected, received {received} of "
            f"{sorted(features)}{hint}"
        )
    what = {MULTI_LABEL: "one Sequence(ClassLabel)", REGRESSION: "one number or vector of numbers"}
    able = sorted(key for key, label in labels.items() if task in label.tasks)
    return (
        f"data set: {name}: --task {task} expected {what[task]}, received {able or 'none'} of "
        f"{sorted(features)}. Name one as label_feature in the builder's metadata, and build the "
        "set again"
    )


def _stored_names(key: str, metadata: Mapping[str, Any]) -> Any:
    """What metadata say of the numbers of a vector: `<feature>_names`, also of its singular."""
    keys = (f"{key}_names", f"{key.removesuffix('s')}_names")
    return next((metadata[k] for k in keys if metadata.get(k) is not None), None)


def _names(label: _Label, key: str, name: str, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    found = _stored_names(key, metadata)
    if found is None:
        count = int(label.count or 0)
        return (key,) if label.feature.shape == () else tuple(f"{key}_{i}" for i in range(count))
    is_list = isinstance(found, list | tuple) and all(type(one) is str and one for one in found)
    fits = is_list and found and len(set(found)) == len(found)
    if not fits or len(found) != (label.count or len(found)):
        raise ValueError(
            f"data set: {name}: metadata of feature {key!r} expected "
            f"{label.count or 'some'} different names, received {found!r:.300}. Mend it in the "
            "builder, and build the set again with --overwrite"
        )
    return tuple(found)


def _class_names(feature: Any, label: str, name: str) -> tuple[str, ...]:
    count = feature.num_classes
    if count is None or not 0 < count <= _MOST_CLASSES:
        raise ValueError(
            f"data set: {name}: label feature {label!r} expected 1 to {_MOST_CLASSES:,} classes, "
            f"received {count or 'none'}"
        )
    names = tuple(feature.names)
    # TFDS keeps a name in each line of a file, and leaves empty lines out.
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"data set: {name}: label feature {label!r} expected {count} class names, received "
            f"{len(names)}: {', '.join(names[:8])}. No name may be empty, stand twice or hold a "
            f"line break: mend {label}.labels.txt or the builder, and build the set again"
        )
    return names


def _check_names_file(directory: str, label: str, name: str) -> None:
    """Raises ValueError for a file of class names that holds none: TFDS would number them."""
    file = Path(directory) / f"{label}.labels.txt"
    if file.is_file() and not file.read_bytes().strip():
        raise ValueError(
            f"data set: {name}: {file} expected the names of the classes, received an empty file. "
            f"{rebuild_hint(directory)}"
        )
