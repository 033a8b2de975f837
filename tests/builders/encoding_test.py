"""Records that are filled directly have the bytes that TFDS's own encoder and serialiser give."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from builders.encoding import Encoder
from builders.tfds_private import StableSerializer

_IDS = tfds.features.Tensor(shape=(None,), dtype=np.int32)
_LABEL = tfds.features.ClassLabel(names=["a", "b", "c"])
_TEXT = tfds.features.Text()
_TABLE = {
    "features": tfds.features.Tensor(shape=(3,), dtype=np.float32),
    "label": _LABEL,
    "id": _TEXT,
}
_LYRICS = {
    "text": _TEXT,
    "token_ids": _IDS,
    "label": _LABEL,
    "genres": tfds.features.Tensor(shape=(None,), dtype=np.uint8),
}
_PICTURES = {
    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
    "label": _LABEL,
    "height": np.int32,
    "is_grey": np.bool_,
    "group": np.int64,
}
_ROW = {"features": np.array([0.1, np.nan, -np.inf], np.float32), "label": 2, "id": "row-1"}
_SONG = {
    "text": "Ça va?\r\n\0 'x'\0",
    "token_ids": np.array([0, 127, 128, 70000, -1], np.int32),
    "label": "b",
    "genres": np.array([0, 1], np.uint8),
}


def _picture() -> dict[str, Any]:
    image = io.BytesIO(b"\xff\xd8 not looked at \xff\xd9")
    return {"image": image, "label": 0, "height": 512, "is_grey": True, "group": 2**60 - 1}


def _by_tfds(features: tfds.features.FeaturesDict, example: dict[str, Any]) -> bytes:
    serializer = StableSerializer(features.get_serialized_info())
    return serializer.serialize_example(features.encode_example(example))


@pytest.mark.parametrize(
    ("spec", "example"),
    [
        (_TABLE, _ROW),
        (_TABLE, _ROW | {"label": -1, "features": np.zeros(6, np.float32)[::2]}),
        (_LYRICS, _SONG),
        (_LYRICS, _SONG | {"token_ids": np.zeros(0, np.int32), "text": ""}),
        (_PICTURES, None),
        (_PICTURES, {"is_grey": False, "height": -1, "group": -(2**63)}),
    ],
)
def test_the_bytes_are_those_of_tfds(
    spec: Any, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    features = tfds.features.FeaturesDict(spec)
    made = [_picture() | (example or {}) if spec is _PICTURES else example for _ in range(2)]
    expected = _by_tfds(features, made[0])
    encoder = Encoder(features)
    monkeypatch.delattr(StableSerializer, "serialize_example")  # TFDS is not asked
    assert encoder.encode(made[1]) == expected


@pytest.mark.parametrize(
    ("spec", "change"),
    [
        (_TABLE, {"features": [1.0, 2.0, 3.0]}),
        (_TABLE, {"label": np.int64(1)}),
        (_TABLE, {"id": b"row-1"}),
        (_LYRICS, {"token_ids": [1, 2]}),
        (_LYRICS | {"more": tfds.features.Sequence(np.int64)}, {"more": [1, 2]}),
        (_LYRICS | {"more": tfds.features.Tensor(shape=(), dtype=np.float64)}, {"more": 0.1}),
        (_LYRICS | {"more": {"inner": _TEXT}}, {"more": {"inner": "x"}}),
    ],
)
def test_what_is_not_covered_is_left_to_tfds(spec: Any, change: dict[str, Any]) -> None:
    features = tfds.features.FeaturesDict(spec)
    example = (_ROW if spec is _TABLE else _SONG) | change
    assert Encoder(features).encode(example) == _by_tfds(features, example)


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.zeros(2, np.float32)},
        {"features": np.zeros(3)},
        {"label": 3},
        {"label": "d"},
        {"id": "\udc80"},
        {"id": None},
    ],
)
def test_what_does_not_fit_raises_the_error_of_tfds(change: dict[str, Any]) -> None:
    features = tfds.features.FeaturesDict(_TABLE)
    with pytest.raises(Exception) as expected:
        _by_tfds(features, _ROW | change)
    with pytest.raises(type(expected.value)) as received:
        Encoder(features).encode(_ROW | change)
    assert str(received.value) == str(expected.value)


def test_a_missing_or_further_feature_raises() -> None:
    encoder = Encoder(tfds.features.FeaturesDict(_TABLE))
    for example in ({k: v for k, v in _ROW.items() if k != "id"}, _ROW | {"more": 1}):
        with pytest.raises(Exception, match="id|more"):
            encoder.encode(example)
