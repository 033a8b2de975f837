"""Writes a conversion as a set, by the builders' base: whole or not at all."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from builders.base import RecordsBuilder
from builders.convert.source import Conversion, Example
from builders.writing import NumberedExamples, SourcedKey
from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL

_KeyExample = tuple[str, dict[str, Any]]
_SHARDS = {"table": 4, "pictures": 16, "texts": 8}


class ConvertedSet(RecordsBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A set of the examples of a conversion."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, name: str, conversion: Conversion, origin: dict[str, Any], **kwargs: Any):
        """Makes a builder of the set `name`; `origin` is kept in its metadata."""
        self.name, self._conversion, self._origin = name, conversion, origin
        self.NUM_SHARDS = _SHARDS[conversion.kind]
        super().__init__(**kwargs)

    @property
    def place(self) -> str:
        """First words of messages."""
        return "convert"

    def write_synthetic_source(self, directory: Path) -> None:
        """There is none."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        found = self._conversion
        features = dict(found.features)
        features["label"] = self._label_feature()
        features[found.id_feature] = tfds.features.Text()
        has_groups = any(example.group is not None for example in found.examples)
        if has_groups:
            features["group"] = tfds.features.Text()
        values = {
            "input_feature": found.input_feature,
            "label_feature": "label",
            "id_feature": found.id_feature,
            "group_feature": "group" if has_groups else None,
            "generated": False,
            "dropped": {},
            "class_counts": {},
            **({"label_names": found.class_names} if found.labels.task == REGRESSION else {}),
            **found.metadata,
            "converted_from": self._origin
            | ({"label": dataclasses.asdict(found.labels)} if found.labels.columns else {}),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Made by builders.convert: {found.kind}.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=(found.input_feature, "label"),
            metadata=tfds.core.MetadataDict(values),
        )

    def _label_feature(self) -> Any:
        found = self._conversion
        if found.labels.task == REGRESSION:
            # TFDS writes float64 as float32 unless it stores the bytes.
            shape = (len(found.class_names),)
            return tfds.features.Tensor(shape=shape, dtype=np.float64, encoding="bytes")
        classes = tfds.features.ClassLabel(names=found.class_names)
        is_single = found.labels.task == SINGLE_LABEL
        return classes if is_single else tfds.features.Sequence(classes)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterable[_KeyExample]]:
        found = self._conversion
        counts, is_class = found.count_classes(), found.labels.task != REGRESSION
        names = found.class_names if is_class else []
        self.set_counts({name: counts[name] for name in names}, found.dropped)
        return {split: self._generate_examples(split) for split in found.split_counts()}

    def _generate_examples(self, split: str) -> Iterable[_KeyExample]:
        found = self._conversion
        examples = found.examples
        numbers = [n for n, example in enumerate(examples) if example.split == split]
        make = functools.partial(
            _make_example,
            make_row=found.make_row,
            id_feature=found.id_feature,
            has_classes=found.labels.task == MULTI_LABEL,
            has_groups="group" in self.info.features,
        )
        # Pictures were decoded by TensorFlow and on threads here: forking could hang.
        in_pool = found.kind != "pictures"
        return NumberedExamples(numbers, make, lambda n: (examples[n], found.rows[n]), in_pool)


def _make_example(
    row: tuple[Example, Any],
    make_row: Callable[[Any], dict[str, Any]],
    id_feature: str,
    has_classes: bool,
    has_groups: bool,
) -> _KeyExample:
    example, made_of = row
    label = list(example.label) if has_classes else example.label
    values = make_row(made_of) | {"label": label, id_feature: example.name}
    if has_groups:
        values["group"] = example.group or example.name
    return SourcedKey(example.name, example.place), values
