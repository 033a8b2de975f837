"""What holds for any input: orders, cleaning, shards and their index, schemas."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from records.damage.walk import walk_shard
from records.decoding import cleaning
from records.ordering.order import Order
from records.sets.schema import TABULAR, Schema, _choose_input, _modality
from records.sets.target import find_target
from records.shards.framing import scan_shard
from records.shards.index import RecordReader, frame
from tests.support.fuzz_inputs import frame_records

FEW = settings(deadline=None, derandomize=True, max_examples=40)
texts = st.text(st.characters(codec=None), max_size=120)  # lone surrogates, too
# What lyrics are made of, more often than chance would.
lyrics = st.lists(
    st.sampled_from(
        ["[Chorus]", "(x2)", "verse 1:", "don’t", "rockin'", "o'clock", "21st", "_", "İ", "ǅ", "ﬁ"]
        + [
            "é",
            "e\u0301",
            "क\u094d",
            "\r\n",
            "\u2028",
            "\x85",
            " ",
            "\t",
            "sea",
            "Love's",
            "''",
            "1",
        ]
    ),
    max_size=30,
).map("".join)


@dataclasses.dataclass
class _Shape:
    """A data set's size, and how it is trained on."""

    examples: int
    batch: int
    seed: int
    block: int | None


shapes = st.builds(
    _Shape,
    st.integers(1, 400),
    st.integers(1, 64),
    st.integers(0, 2**63 - 1),
    st.none() | st.integers(1, 500),
)


def _order(shape: _Shape) -> Order:
    return Order(shape.examples, shape.batch, shape.seed, shuffle_block=shape.block)


@FEW
@given(shapes, st.integers(0, 10**6))
def test_an_epoch_holds_every_example_once(shape: _Shape, epoch: int) -> None:
    order = _order(shape)
    numbers, weights = order.examples(epoch, 0, order.steps_per_epoch)
    assert numbers.shape == (order.steps_per_epoch, shape.batch)
    np.testing.assert_array_equal(np.sort(numbers[weights > 0]), np.arange(shape.examples))
    assert set(weights.ravel().tolist()) <= {0.0, 1.0}


@FEW
@given(shapes, st.data())
def test_any_step_can_be_gone_on_from_with_any_replicas(shape: _Shape, data: Any) -> None:
    order = _order(shape)
    numbers, weights = order.examples(3, 0, order.steps_per_epoch)
    step = data.draw(st.integers(0, order.steps_per_epoch - 1))
    steps = data.draw(st.integers(1, order.steps_per_epoch - step))
    count = data.draw(st.integers(1, shape.batch))
    cuts = np.linspace(0, shape.batch, count + 1).astype(int)
    parts = [
        _order(shape).examples(3, step, steps, slice(a, b)) for a, b in itertools.pairwise(cuts)
    ]
    for whole, of_replicas in zip((numbers, weights), zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(of_replicas, 1), whole[step : step + steps])


@FEW
@given(texts | lyrics)
def test_cleaning_takes_any_text_and_cleans_once(text: str) -> None:
    for clean in (cleaning.basic_tokens, cleaning.clean_text):
        words = clean(text)
        assert all(words) and not any(c.isspace() for word in words for c in word)
        assert clean(" ".join(words)) == words or clean is cleaning.clean_text
    assert cleaning.normalize(cleaning.normalize(text)) == cleaning.normalize(text)


@settings(deadline=None, derandomize=True, max_examples=3)
@given(st.lists(lyrics, min_size=1, max_size=12))
def test_cleaning_does_not_depend_on_the_processes(many: list[str]) -> None:
    expected = [(cleaning.clean_text(text), cleaning.basic_tokens(text)) for text in many]
    for processes in (1, 2):
        assert list(cleaning.both_tokens(many, processes)) == expected


@FEW
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=40), st.integers(1, 5), st.data())
def test_records_are_read_as_they_were_written(
    payloads: list[bytes], shards: int, data: Any
) -> None:
    cuts = sorted(data.draw(st.integers(0, len(payloads))) for _ in range(shards - 1))
    parts = [payloads[a:b] for a, b in zip([0, *cuts], [*cuts, len(payloads)], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/a-train.tfrecord-{i:05d}-of-{shards:05d}" for i in range(shards)]
        for path, part in zip(paths, parts, strict=True):
            Path(path).write_bytes(frame_records(part))
            with tf.io.TFRecordWriter(path + ".tf") as writer:
                for payload in part:
                    writer.write(payload)
            assert Path(path + ".tf").read_bytes() == Path(path).read_bytes()
            assert not walk_shard(path, len(part)).damaged
        index = frame(_schema(folder, paths, parts), "train", [scan_shard(p) for p in paths])
        numbers = data.draw(st.lists(st.integers(0, len(payloads) - 1), max_size=60))
        read = RecordReader(index).read(np.array(numbers, np.int64))
        assert read.tolist() == [payloads[n] for n in numbers]


def _schema(folder: str, paths: list[str], parts: list[list[bytes]]) -> Schema:
    return Schema(
        name="a/1.0.0", directory=folder, modality=TABULAR, input_name="x", label_name="y",
        id_name=None, group_name=None, group_is_text=False, grey_name=None, input_shape=(1,),
        input_dtype="float32", class_names=("a", "b"), split_counts={"train": sum(map(len, parts))},
        shards={"train": tuple(paths)}, shard_lengths={"train": tuple(map(len, parts))},
        metadata={},
    )  # fmt: skip


FEATURES = {
    "picture": lambda: tfds.features.Image(shape=(None, None, 3)),
    "vector": lambda: tfds.features.Tensor(shape=(3,), dtype=np.float32),
    "ids": lambda: tfds.features.Sequence(np.int64),
    "words": lambda: tfds.features.Sequence(tfds.features.Text()),
    "text": tfds.features.Text,
    "number": lambda: tfds.features.Scalar(np.int64),
    "class": lambda: tfds.features.ClassLabel(num_classes=2),
    "nested": lambda: tfds.features.FeaturesDict({"a": np.int64}),
}
names = st.text(min_size=1, max_size=6) | st.sampled_from(["id", "label", "filename", "text"])


@FEW
@given(
    st.dictionaries(names, st.sampled_from(sorted(FEATURES)), min_size=1, max_size=5),
    st.none() | names,
)
def test_any_features_give_one_input_and_one_class_or_an_error_that_lists_them(
    kinds: dict[str, str], wanted: str | None
) -> None:
    features = {name: FEATURES[kind]() for name, kind in kinds.items()}

    def choose_label(features: dict[str, Any], wanted: str | None, name: str) -> str:
        return find_target(".", name, features, {}, wanted).feature

    for choose in (_choose_input, choose_label):
        try:
            chosen = choose(features, wanted, "a_set")
        except ValueError as error:
            assert str(error).startswith("data set: a_set: ")
            continue
        assert chosen in features and wanted in (None, chosen)
        if choose is choose_label:  # a vector is a target where something names it alone
            assert kinds[chosen] == "class" or (kinds[chosen] == "vector" and wanted == chosen)
        else:
            assert _modality(features[chosen]) is not None


@pytest.mark.parametrize("kind", FEATURES)
def test_every_kind_of_feature_has_a_modality_or_none(kind: str) -> None:
    expected = {"picture": "image", "vector": "tabular", "ids": "tokens", "text": "text"}
    assert _modality(FEATURES[kind]()) == expected.get(kind)
