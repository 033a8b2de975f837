"""What a feature must be to be a model's input, by TFDS's own features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from records.sets import schema

features = tfds.features


@pytest.mark.parametrize("encoding", ["bytes", "zlib"])
@pytest.mark.parametrize("shape", [(3,), (None,)])
def test_encoded_tensors_are_refused(shape: tuple[int | None, ...], encoding: str) -> None:
    feature = features.Tensor(shape=shape, dtype=np.int64, encoding=encoding)
    with pytest.raises(ValueError, match="stored as numbers, received one stored as bytes"):
        schema._check_encoding(feature, "rows", "own")


def test_pictures_of_floats_are_refused() -> None:
    picture = features.Image(shape=(8, 8, 1), dtype=np.float32)
    with pytest.raises(ValueError, match="expected a picture of uint8, received float32"):
        schema._check_encoding(picture, "picture", "own")


@pytest.mark.parametrize(
    ("feature", "modality"),
    [
        (features.Tensor(shape=(3,), dtype=np.float32), schema.TABULAR),
        (features.Tensor(shape=(None,), dtype=np.int32), schema.TOKENS),
        (features.Sequence(np.int64), schema.TOKENS),
        (features.Text(), schema.TEXT),
        (features.Image(shape=(None, None, 3)), schema.IMAGE),
        (features.Scalar(np.int64), None),
        (features.ClassLabel(num_classes=2), None),
    ],
)
def test_modality_comes_from_the_feature(feature: Any, modality: str | None) -> None:
    assert schema._modality(feature) == modality
    if modality is not None:
        schema._check_encoding(feature, "input", "own")
