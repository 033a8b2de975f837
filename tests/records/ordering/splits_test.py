"""Validation cuts and folds: stratified, and no group parted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.class_weight import compute_class_weight

from records.ordering.splits import assign_folds, balanced_class_weights, cut_validation


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(30, 400), folds=st.integers(2, 10))
def test_no_group_is_parted_and_nothing_is_lost(seed: int, n: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 3, n), rng.integers(0, n, n).astype(np.uint64)
    found = assign_folds(labels, groups, folds, seed)
    for group in np.unique(groups):
        assert len(np.unique(found[groups == group])) == 1
    assert found.min() == 0 and found.max() == folds - 1
    assert np.array_equal(found, assign_folds(labels, groups, folds, seed))


def test_as_even_as_scikit_learn_without_groups() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 1701, p=[0.78, 0.14, 0.08])
    ours = assign_folds(labels, np.arange(1701, dtype=np.uint64), 5)

    def spread(folds: np.ndarray) -> int:
        counts = [np.bincount(labels[folds == f], minlength=3) for f in range(5)]
        return int(np.ptp(counts, axis=0).max())

    reference = np.empty(1701, int)
    for fold, (_, test) in enumerate(StratifiedKFold(5).split(labels, labels)):
        reference[test] = fold
    assert spread(ours) <= spread(reference)


def test_cut_is_a_tenth_and_depends_on_the_seed() -> None:
    labels = np.repeat([0, 1], [900, 100])
    groups = np.arange(1000, dtype=np.uint64)
    train, validation = cut_validation(labels, groups, seed=1)
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(1000))
    assert np.bincount(labels[validation]).tolist() == [90, 10]
    assert not np.array_equal(validation, cut_validation(labels, groups, seed=2)[1])


def test_too_many_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="number of folds expected 2 to 3"):
        assign_folds(np.zeros(6, int), np.repeat(np.arange(3), 2).astype(np.uint64), 4)


def test_one_group_cannot_be_cut() -> None:
    """Equal inputs are one group, too; nobody asked for folds."""
    with pytest.raises(ValueError, match="train expected at least 2 different examples.* 6, all"):
        cut_validation(np.zeros(6, int), np.zeros(6, np.uint64))
    train, validation = cut_validation(np.zeros(2, int), np.arange(2, dtype=np.uint64))
    assert len(train) == len(validation) == 1


def test_class_weights_are_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [1655, 295, 176])
    found = balanced_class_weights(labels, 3)
    reference = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert found == pytest.approx(reference)
    assert found.round(4).tolist() == [0.4282, 2.4023, 4.0265]
    assert balanced_class_weights(np.array([0, 2]), 3)[1] == 0
