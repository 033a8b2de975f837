"""What a prepared set holds and how it trains: found from the feature spec, not from its name.

A set is opened by directory (`tfds.builder_from_directory`): no builder is imported.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

from records.sets import metadata_keys
from records.sets.hints import rebuild_hint
from records.sets.target import (
    CLASS,
    CLASSES,
    REGRESSION,
    SINGLE_LABEL,
    describe_target,
    find_target,
    is_in_bytes,
)
from records.sets.tfds_metadata import open_builder

TABULAR, IMAGE, TOKENS, TEXT = "tabular", "image", "tokens", "text"


@dataclasses.dataclass(frozen=True)
class Schema:
    """The part of a prepared set's description that reading and training need.

    Attributes:
      name: `name/config/version`.
      directory: where shards and metadata lie.
      modality: `tabular` (fixed-length vector), `image` (encoded pictures), `tokens`
        (variable-length integer ids) or `text` (strings).
      input_name, label_name: the features that are the model's input and its target.
      id_name, group_name, grey_name: features with a stable id, with the group that must
        not straddle splits, and with the flag of grey pictures; None where the set has none.
      group_is_text: groups are strings (an artist), not integers.
      input_shape: shape of one example's input, None for variable sizes.
      input_dtype: NumPy name of the input's dtype.
      class_names: the classes in label order; of numbers their names.
      split_counts: examples per split.
      shards: paths of the TFRecord files per split, in order.
      shard_lengths: records of each of them by the metadata.
      metadata: the builder's own metadata.
      input_in_bytes: a vector is stored as the bytes of its numbers, `Tensor(encoding="bytes")`.
      text_names: the features that are texts, whatever the model reads.
      task, label_stored: what the target is, and how a record stores it (`records.sets.target`).
    """

    name: str
    directory: str
    modality: str
    input_name: str
    label_name: str
    id_name: str | None
    group_name: str | None
    group_is_text: bool
    grey_name: str | None
    input_shape: tuple[int | None, ...]
    input_dtype: str
    class_names: tuple[str, ...]
    split_counts: dict[str, int]
    shards: dict[str, tuple[str, ...]]
    shard_lengths: dict[str, tuple[int, ...]]
    metadata: dict[str, Any]
    input_in_bytes: bool = False
    text_names: tuple[str, ...] = ()
    task: str = SINGLE_LABEL
    label_stored: str = CLASS

    @property
    def num_classes(self) -> int:
        """C, the number of classes, or of the numbers that are predicted."""
        return len(self.class_names)

    @property
    def target_dtype(self) -> str:
        """Of other targets than one class: float32 of classes; numbers may be time stamps."""
        return "float64" if self.task == REGRESSION else "float32"

    def describe_label(self, label: Any) -> str:
        """A label of `Examples`, the number of a class or [C] of other targets, for people."""
        if self.task == SINGLE_LABEL:
            return self.class_names[label]
        return describe_target(self.task, self.class_names, label)

    @property
    def names_note(self) -> str:
        """What to say where no file names the classes, so that TFDS has numbered them; or ""."""
        file = Path(self.directory) / f"{self.label_name}.labels.txt"
        if self.label_stored not in (CLASS, CLASSES) or file.exists():
            return ""
        return (
            f"{file} is not there: classes are called by their numbers, 0 to "
            f"{self.num_classes - 1}. Where the set had names, put that file back or build it again"
        )

    @property
    def parts(self) -> dict[str, str]:
        """Splits that repeat some examples of another: {part: the split that holds them all}.

        They may be measured on, and are counted nowhere: every example of a part stands twice.
        """
        return dict(self.metadata.get("part_of") or {})

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Of a table's columns; () where the set names none, or those of another input."""
        named = self.metadata.get("input_feature") in (None, self.input_name)
        found = tuple(self.metadata.get("feature_names") or ()) if named else ()
        return found if self.input_shape == (len(found),) else ()

    def check_split(self, split: str) -> None:
        """Raises ValueError, naming the splits there are, unless `split` is one of them."""
        if split not in self.split_counts:
            raise ValueError(
                f"data set: {self.name}: split expected one of "
                f"{sorted(self.split_counts)}, received {split!r}"
            )

    @property
    def pooled_splits(self) -> tuple[str, ...]:
        """The labelled splits, in the order in which `pooled` numbers their records."""
        return tuple(s for s in ("train", "validation", "test") if s in self.split_counts)

    def pooled(self) -> tuple[Schema, str]:
        """(the same set with one more split, all its labelled splits together; that split's name).

        For cross-validation over all rows, with settings that were chosen without the test split.
        """
        parts = self.pooled_splits
        name = "+".join(parts)
        counts = self.split_counts | {name: sum(self.split_counts[s] for s in parts)}
        shards = self.shards | {name: tuple(path for s in parts for path in self.shards[s])}
        lengths = {name: tuple(n for s in parts for n in self.shard_lengths[s])}
        found = dataclasses.replace(
            self,
            split_counts=counts,
            shards=shards,
            shard_lengths=self.shard_lengths | lengths,
        )
        return found, name

    def vocabulary(self) -> tuple[str, ...] | None:
        """The tokens of a `tokens` input by id, or None where the set stores none."""
        path = Path(self.directory) / f"{self.input_name}.vocabulary.txt"
        if not path.exists():
            return None
        # Not `splitlines`: a token may hold one of the other characters that Unicode calls a line
        # end.
        try:
            return tuple(path.read_text(encoding="utf-8").rstrip("\n").split("\n"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"data set: {path}: expected UTF-8, one token in a line, received: {error}. "
                f"{rebuild_hint(self.directory)}"
            ) from None


def read_schema(
    directory: str, input_feature: str | None = None, task: str | None = None
) -> Schema:
    """Reads the schema of a prepared set.

    Args:
      input_feature: the feature to train on; default: what the builder's metadata or the
        supervised keys name, else the only feature that can be an input.
      task: one of `records.sets.target.TASKS`; default: what the label feature is made for.

    Raises:
      ValueError: no feature, or more than one, can be the input or the label, or a stored
        encoding or file format is not supported, and the message lists the features there are; or
        the metadata are damaged, or name what is not there.
    """
    info = open_builder(directory).info
    name = "/".join(p for p in (info.name, info.config_name, str(info.version)) if p)
    features: dict[str, Any] = dict(info.features.items())
    metadata = dict(info.metadata or {})
    metadata_keys.check_names(name, metadata, features)
    keys = info.supervised_keys if isinstance(info.supervised_keys, tuple) else (None, None)
    keys = tuple(key if isinstance(key, str) else None for key in keys)  # some are nested dicts
    wanted = metadata.get("label_feature") or keys[1]
    target = find_target(directory, name, features, metadata, wanted, task)
    metadata_keys.check_values(name, metadata, target, info.splits.keys())
    id_name = metadata.get("id_feature") or _existing(features, "id", "filename")
    group, is_text = metadata_keys.check_group(name, features, metadata.get("group_feature"))
    own = metadata.get("input_feature") or keys[0]
    others = (id_name, group, target.feature, "id", "filename")
    source = _choose_input(features, input_feature or own, name, others, target.feature)
    modality = _modality(features[source])
    assert modality is not None  # _choose_input only returns features with a modality
    _check_encoding(features[source], source, name)
    tensor = features[source].get_tensor_info()
    shape = features[source].shape if modality == IMAGE else tensor.shape
    # Of the set's own input: one that --feature names may have other columns.
    if modality == TABULAR and (not input_feature or own == source):
        metadata_keys.check_columns(name, metadata, shape[0])
    return Schema(
        name=name,
        directory=str(directory),
        modality=modality,
        input_name=source,
        label_name=target.feature,
        id_name=id_name,
        group_name=group,
        group_is_text=is_text,
        grey_name=metadata_keys.grey_flag(features) if modality == IMAGE else None,
        input_shape=tuple(shape),
        input_dtype=str(getattr(tensor.np_dtype, "__name__", tensor.np_dtype)),
        class_names=target.names,
        split_counts={k: int(v.num_examples) for k, v in info.splits.items()},
        shards={k: tuple(str(p) for p in v.filepaths) for k, v in info.splits.items()},
        shard_lengths={k: tuple(map(int, v.shard_lengths)) for k, v in info.splits.items()},
        metadata=metadata,
        input_in_bytes=modality == TABULAR and is_in_bytes(features[source]),
        text_names=tuple(k for k, f in features.items() if _modality(f) == TEXT),
        task=target.task,
        label_stored=target.stored,
    )


def _existing(features: dict[str, Any], *names: str) -> str | None:
    return next((n for n in names if n in features), None)


def _modality(feature: Any) -> str | None:
    """The modality of a TFDS feature, or None if it cannot be a model's input."""
    import numpy as np
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return None
    if isinstance(feature, tfds.features.Image):
        return IMAGE
    if isinstance(feature, tfds.features.Text):
        return TEXT
    others = (tfds.features.FeaturesDict, tfds.features.Dataset, tfds.features.Audio)
    if isinstance(feature, others):
        return None
    info = feature.get_tensor_info()
    if not hasattr(info, "shape") or len(info.shape) != 1:
        return None
    if info.shape[0] is not None:
        return TABULAR if np.issubdtype(info.np_dtype, np.number) else None
    return TOKENS if info.np_dtype in (np.int32, np.int64) else None


def _has_known_encoding(feature: Any, name: str) -> bool:
    try:
        _check_encoding(feature, "", name)
    except ValueError:
        return False
    return True


def _check_encoding(feature: Any, source: str, name: str) -> None:
    """Raises ValueError for a feature whose stored bytes are not what they stand for."""
    import numpy as np
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Image):
        # TFDS stores float32 pictures as PNGs of four channels that hold the floats' bytes.
        if feature.np_dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"data set: {name}: feature {source!r} expected a picture of uint8, "
                f"received {np.dtype(feature.np_dtype).name}. Build it with Image(dtype=np.uint8)"
            )
    elif _modality(feature) == TEXT or (_modality(feature) == TABULAR and is_in_bytes(feature)):
        return
    elif np.issubdtype(feature.get_serialized_info().np_dtype, np.object_):
        raise ValueError(
            f"data set: {name}: feature {source!r} expected a tensor stored as numbers, "
            "received one stored as bytes. Build it with Tensor(..., encoding='none')"
        )


def _choose_input(
    features: dict[str, Any],
    wanted: str | None,
    name: str,
    others: Collection[str | None] = ("id", "filename"),
    target: str | None = None,
) -> str:
    """The name of the input feature; one of `others` only where it is `wanted`, never `target`."""
    modalities = {k: m for k, f in features.items() if (m := _modality(f))}
    usable = sorted(k for k in modalities if _has_known_encoding(features[k], name))
    if wanted is not None:
        if wanted not in modalities:
            raise ValueError(
                f"data set: {name}: input feature expected one of "
                f"{usable or 'none'} (a picture, a fixed-length vector, ids or text), "
                f"received {wanted!r}"
            )
        if wanted == target:
            raise ValueError(
                f"data set: {name}: input and target expected to be two features, received "
                f"{wanted!r} for both. Name another input with --feature"
            )
        return wanted
    # Names, ids and groups are texts, too, and no input, unless a group is all there is.
    free = modalities.keys() - set(others) or modalities.keys() - {"id", "filename"}
    found = sorted(free)
    if len(found) == 1:
        return found[0]
    # Several, of whatever kinds: guessing would train on the wrong one.
    remedy = "Store one in the builder, and build the set again"
    if named := [one for one in found if one in usable]:
        flags = " or ".join(f"--feature {shlex.quote(one)}" for one in named)
        remedy = f"Name it with {flags}, or as input_feature in the builder's metadata"
    raise ValueError(
        f"data set: {name}: one input feature expected (a picture, a fixed-length vector, "
        f"ids or text), received {found or 'none'} of {sorted(features)}. {remedy}"
    )
