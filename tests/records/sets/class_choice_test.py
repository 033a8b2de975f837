"""Some of a set's classes: the records of a NumPy selection, in their order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from records.opened import open_set
from records.ordering.splits import assign_folds, balanced_class_weights, cut_validation
from records.roles import Data, Fold, InputConfig
from records.sets.class_choice import choose_classes
from records.shards.index import record_place
from tests.support.tiny_sets import build_tiny

features = tfds.features

NAMES = ("rock", "pop", "hip hop", "R&B, soul", "a=b")


def test_names_become_labels() -> None:
    found = choose_classes(["hip hop", "loud=rock, pop", "R&B, soul"], NAMES, "s")
    assert found.names == ("hip hop", "loud", "R&B, soul")
    label = np.array([0, 1, 2, 3, 4, -1, 9])
    np.testing.assert_array_equal(found.relabel(label), [1, 1, 0, 2, -1, -1, 9])
    np.testing.assert_array_equal(found.keep(label), [1, 1, 1, 1, 0, 1, 1])
    found = choose_classes(["a=b", "soft=R&B, soul"], NAMES, "s")
    assert found.names == ("a=b", "soft") and found.new_label.tolist() == [-1, -1, -1, 1, 0]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["rock", "hiphop"], r"received 'hiphop'; nearest: 'hip hop'"),
        (["rock", "x=rock,pop"], "expected 'rock' once, received it twice"),
        (["rock"], "expected two or more classes of different names, received rock"),
        (["pop=rock,pop"], "received pop"),
        (["x=rock", "x=pop"], "different names, received x, x"),
    ],
)
def test_wrong_choices(asked: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        choose_classes(asked, NAMES, "s")


def test_of_several_classes_at_once_the_chosen_columns_stay(tmp_path: Path) -> None:
    """A record stays where it has a chosen class; two as one are there where either is."""
    tags = [[], [0], [1], [2], [0, 1], [1, 2], [0, 1, 2], [3], [3, 0]] * 4
    spec: dict[str, Any] = {"x": features.Tensor(shape=(1,), dtype=np.float32)}
    spec["label"] = features.Sequence(features.ClassLabel(names=["a", "b", "c", "d"]))
    rows = [{"x": np.array([i], np.float32), "label": one} for i, one in enumerate(tags)]
    directory = build_tiny(tmp_path, spec, {"train": rows[:27], "test": rows[27:]})
    chosen = open_set(directory).choose(["c", "ab=a,b"])
    data = Data(chosen, InputConfig())
    assert (data.schema.class_names, data.schema.task) == (("c", "ab"), "multi_label")
    for split, first in (("train", 0), ("test", 27)):
        examples = data.examples(split)
        own = np.asarray(examples.inputs)[:, 0].astype(int)
        last = 27 if split == "train" else 36
        assert own.tolist() == [n for n in range(first, last) if {0, 1, 2} & {*tags[n]}]
        wanted = [[2 in tags[n], bool({0, 1} & {*tags[n]})] for n in own]
        np.testing.assert_array_equal(examples.split_labels, np.array(wanted, np.float32))
    assert chosen.schema.split_counts == {"train": 21, "test": 7}


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_the_chosen_records_are_those_of_a_selection(name: str, synthetic_data_dir: Path) -> None:
    """Inputs, classes, groups, validation cut, folds and class weights."""
    whole = open_set(f"{name}/synthetic", str(synthetic_data_dir))
    classes = whole.schema.class_names
    asked = [classes[2], f"rest={classes[0]},{classes[1]}"]
    config = InputConfig(image_size=16, sequence_length=12, vocab_size=300)
    chosen = whole.choose(asked)
    data, all_of_it = Data(chosen, config, 3), Data(whole, config, 3)
    lookup = np.full(len(classes), -1)
    lookup[[2, 0, 1]] = 0, 1, 1
    for split in whole.schema.pooled_splits:
        index, part = whole.read_index(split), chosen.read_index(split)
        keep = np.flatnonzero(lookup[index.label] >= 0)
        assert 0 < len(keep) == chosen.schema.split_counts[split] <= index.num_records
        np.testing.assert_array_equal(part.label, lookup[index.label][keep])
        np.testing.assert_array_equal(part.group, index.group[keep])
        for number in (0, len(keep) - 1):
            assert record_place(part, number) == record_place(index, int(keep[number]))
        assert part.num_records == len(keep)
        if name != "song_lyrics":  # there the ids are ranked by the chosen texts alone
            inputs = np.asarray(all_of_it.examples(split).inputs)[keep]
            found = np.asarray(data.examples(split).inputs)
            np.testing.assert_array_equal(found, inputs[..., : found.shape[-1]])
    base = chosen.read_index("train")
    rows = data.subset("train")[1], data.subset("validation")[1]
    if "validation" not in whole.schema.split_counts:
        expected = cut_validation(base.label, base.group, 3)
        for mine, theirs in zip(rows, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    labels = data.examples("train").subset_labels
    weights = balanced_class_weights(labels, 2)
    assert weights @ np.bincount(labels) == pytest.approx(len(labels))
    fold = Data(chosen, config, 3, Fold(1, 3, 3))
    dealt = assign_folds(base.label, base.group, 3, 3)
    np.testing.assert_array_equal(fold.subset("validation")[1], np.flatnonzero(dealt == 1))
    pooled = Data(chosen, config, 3, Fold(0, 3, pooled=True)).examples("train").index
    parts = [chosen.read_index(split).label for split in chosen.schema.pooled_splits]
    np.testing.assert_array_equal(pooled.label, np.concatenate(parts))
    assert chosen.fingerprint == whole.fingerprint
    assert chosen.schema.class_names == (classes[2], "rest")
    assert data.content_key() != all_of_it.content_key()
    assert data.content_key() != Data(whole.choose(asked[::-1]), config, 3).content_key()


def test_splits_without_a_chosen_record_are_none(synthetic_data_dir: Path) -> None:
    whole = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    test = whole.read_index("test")
    test.label[:] = 2  # of this opening alone
    chosen = whole.choose(whole.schema.class_names[:2])
    assert "test" not in chosen.schema.split_counts
    assert Data(chosen, InputConfig()).roles() == ("train", "validation")
    train = whole.read_index("train").label
    train[train == 1] = 0
    with pytest.raises(ValueError, match="split train expected examples of each class, received"):
        whole.choose(whole.schema.class_names[:2])


def test_marks_of_damage_stay_with_their_records(synthetic_data_dir: Path) -> None:
    whole = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    index = whole.read_index("train")
    of = [int(np.flatnonzero(index.label == label)[3]) for label in (0, 2)]
    damaged = np.isin(np.arange(index.num_records), of)
    damage = tuple(f"record {number}" for number in sorted(of))
    marked = dataclasses.replace(index, damaged=damaged, damage=damage)
    whole._indexes["train"] = marked
    found = whole.choose(whole.schema.class_names[:2]).read_index("train")
    assert found.damage == (f"record {of[0]}",)
    assert found.damaged is not None and found.damaged.sum() == 1
    assert found.label[found.damaged].tolist() == [0]
