"""Several sets as one: records, statistics, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from records import InputConfig, make_arrays, open_data
from records.examples import plan_steps
from records.mixed import mix_sets
from records.opened import open_set
from records.roles import Data
from tests.support.tiny_sets import build_tiny

NAMES = ("no", "yes")


def _table(folder: Path, count: int, shift: float, names: Any = NAMES, **splits: int) -> str:
    """A table of two columns, the first of which counts from `shift` on; labels alternate."""
    features = {
        "x": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        "label": tfds.features.ClassLabel(names=list(names)),
    }
    numbers = {"train": count} | splits
    examples: dict[str, Any] = {
        split: [
            {"x": np.array([shift + i, (7 * i) % 5], np.float32), "label": names[i % 2]}
            for i in range(n)
        ]
        for split, n in numbers.items()
    }
    return build_tiny(folder, features, examples, supervised_keys=("x", "label"))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """60 rows with a validation split of 6 and a test of 4; 20 rows, their classes turned round."""
    folder = tmp_path_factory.mktemp("tables")
    one = _table(folder / "one", 60, 0, validation=6, test=4)
    return one, _table(folder / "other", 20, 1000, NAMES[::-1])


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_batches_hold_the_records_of_both(tables: tuple[str, str], cache: Any) -> None:
    shares, config = dict(zip(tables, (0.7, 0.3), strict=True)), InputConfig(cache=cache)
    data = open_data(shares, config=config)
    alone = [open_data(name, config=config) for name in tables]
    train = data.examples("train")
    assert train.num_examples == 60 + 18, "two rows of the second set validate"
    # Every batch of 10 holds 7 and 3; what it holds are records with their own labels.
    found = list(make_arrays(data, epochs=2, global_batch_size=10))
    assert len(found) == 2 * 8
    for inputs, labels in found:
        second = inputs[:, 0] >= 1000
        assert second.sum() == 3
        # Of the second set the even rows are "yes", which is class 1 of the first set.
        even = inputs[:, 0] % 2 == 0
        np.testing.assert_array_equal(labels, np.where(second, even, ~even))
    # The roles are those that each set has alone.
    for role, having in (("train", alone), ("validation", alone), ("test", alone[:1])):
        expected = np.concatenate([_column(one.examples(role)) for one in having])
        np.testing.assert_array_equal(_column(data.examples(role)), expected)
    # Without shuffling every example once, set after set.
    rows = np.concatenate([x for x, _ in make_arrays(data, shuffle=False)])
    np.testing.assert_array_equal(rows[:, 0], _column(train))


def _column(examples: Any) -> np.ndarray:
    inputs = examples.loader.load(np.arange(examples.index.num_records))
    return np.asarray(inputs)[examples.numbers][:, 0]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_statistics_count_an_example_as_often_as_an_epoch_shows_it(
    tables: tuple[str, str], cache: Any
) -> None:
    data = open_data(dict(zip(tables, (1, 3))), config=InputConfig(cache=cache))
    rows = _column(data.examples("train")).astype(np.float64)
    first, second = rows[rows < 1000], rows[rows >= 1000]
    mean, variance = data.statistics()
    expected = first.mean() / 4 + second.mean() * 3 / 4
    assert mean[0] == pytest.approx(expected, rel=1e-12)
    spread = ((first - expected) ** 2).mean() / 4 + ((second - expected) ** 2).mean() * 3 / 4
    assert variance[0] == pytest.approx(spread, rel=1e-9)


def test_words_are_ranked_by_how_often_batches_hold_them(tmp_path: Path) -> None:
    features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=list(NAMES))}
    paths = []
    for folder, text, count in (("one", "the cat", 40), ("other", "le chat", 10)):
        examples: Any = {
            split: [{"text": f"{text} {split}{i}", "label": NAMES[i % 2]} for i in range(n)]
            for split, n in (("train", count), ("validation", 2))
        }
        paths.append(build_tiny(tmp_path / folder, features, examples))
    few, many = (open_data(dict(zip(paths, shares))).vocabulary for shares in ((9, 1), (1, 9)))
    assert few is not None and many is not None
    assert set((few.words() or ())[2:4]) == {"the", "cat"}, "40 x 9 / 40 before 10 x 1 / 10"
    assert set((many.words() or ())[2:4]) == {"le", "chat"}


def test_names_of_the_data(tables: tuple[str, str], tmp_path: Path) -> None:
    one, other = tables
    data = open_data({one: 0.7, other: 0.3})
    assert data.opened.fingerprint == open_data({one: 7, other: 3}).opened.fingerprint
    assert data.opened.fingerprint != open_data({one: 3, other: 7}).opened.fingerprint
    # Another cut makes other records of a split: another file of decoded inputs.
    assert data.content_key() != open_data({one: 0.7, other: 0.3}, seed=1).content_key()
    assert data.opened.directories == tables
    assert isinstance(data, Data) and open_data({one: 1}).opened.directories == (one,)


def test_sets_that_cannot_be_mixed(tables: tuple[str, str], tmp_path: Path) -> None:
    one, _ = tables
    with pytest.raises(ValueError) as error:
        open_data({one: 1, _table(tmp_path / "a", 20, 0, ("no", "maybe")): 1})
    assert str(error.value) == (
        "data set: a mixture expected sets of one kind with the same classes; tiny/1.0.0 and "
        "tiny/1.0.0 differ. classes: tiny/1.0.0 alone has yes, tiny/1.0.0 alone has maybe"
    )
    text = {"x": tfds.features.Text(), "label": tfds.features.ClassLabel(names=list(NAMES))}
    rows = [{"x": "a", "label": "no"}, {"x": "b", "label": "yes"}]
    with pytest.raises(ValueError, match=r"differ\. input: x \(tabular\) and x \(text\)$"):
        open_data({one: 1, build_tiny(tmp_path / "b", text, {"train": rows}): 1})
    with pytest.raises(ValueError, match="expected different sets"):
        open_data({one: 1, f"{one}/": 1})
    with pytest.raises(ValueError, match="shuffle_block and length_buckets expected with one set"):
        make_arrays(dict(zip(tables, (1, 1))), shuffle_block=5)


def test_a_damaged_record_keeps_its_place_and_counts_nothing(tmp_path: Path) -> None:
    places = [_table(tmp_path / name, count, 0) for name, count in (("one", 30), ("other", 20))]
    (shard,) = Path(places[1]).glob("*train*tfrecord*")
    whole = open_data(dict(zip(places, (1, 1)))).examples("train")
    payload = bytearray(shard.read_bytes())
    payload[-6] ^= 255  # of the last record
    shard.write_bytes(payload)
    parts = [open_set(place, skip_damaged=True) for place in places]
    data = Data(mix_sets(parts, (1, 1)), InputConfig())
    train = data.examples("train")
    assert train.num_damaged == 1 and data.damage()["train"][0].startswith(str(shard))
    usable = train.without_damaged()
    assert usable.mixture is not None and usable.mixture.sizes == (27, 17)
    found, expected = (
        plan_steps(examples, examples.order(8, seed=1), 0, 0, 5, slice(None))
        for examples in (train, whole)
    )
    np.testing.assert_array_equal(found[0], expected[0])
    assert (found[1] == 0).sum() == (found[0] == train.num_examples - 1).sum() > 0
