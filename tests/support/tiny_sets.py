"""Sets of a few examples as others' TFDS builders make them: no index, no fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds


class TinyBuilder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """A set of the examples it is given, by split."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        features: dict[str, Any],
        examples: dict[str, list[dict[str, Any]]],
        data_dir: Path,
        **metadata: Any,
    ):
        self.name = "tiny"
        self._spec, self._examples, self._notes = features, examples, metadata
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self._spec),
            metadata=tfds.core.MetadataDict(self._notes),
            disable_shuffling=True,  # records stay in the order given
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in self._examples}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(self._examples[split])


def build_tiny(
    data_dir: Path,
    features: dict[str, Any],
    examples: dict[str, list[dict[str, Any]]],
    file_format: str = "tfrecord",
    **metadata: Any,
) -> str:
    """Builds `data_dir/tiny/1.0.0` from the examples of each split; returns its directory."""
    builder = TinyBuilder(features, examples, data_dir, **metadata)
    builder.download_and_prepare(file_format=file_format)
    return str(builder.data_dir)
