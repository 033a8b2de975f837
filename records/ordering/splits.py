"""Which examples of a split a run uses: index arrays under the order.

Validation cuts and folds are stratified by class and never part a group (duplicates, near
copies, one artist's songs). They depend on labels, groups and seed only.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from records.ordering.order import mix64


class AllRecords:
    """The numbers of all N records of a split, used as an array int64 [N]; none of them is held."""

    def __init__(self, count: int):
        """`count`: N."""
        self._count = count
        self.shape, self.dtype = (count,), np.dtype(np.int64)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._count))

    def __getitem__(self, places: Any) -> np.ndarray:
        """The numbers at places: a slice, a number, or an array of them or of bools [N]."""
        if isinstance(places, slice):
            return np.arange(*places.indices(self._count))
        chosen = np.asarray(places)
        return np.flatnonzero(chosen) if chosen.dtype == bool else chosen

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.arange(self._count, dtype=dtype or np.int64)


Numbers = np.ndarray | AllRecords


_COUNTED = 2**20  # labels at once: 10^9 of them would be 8 GB more


def assign_folds(
    labels: np.ndarray, groups: np.ndarray, num_folds: int, seed: int = 0
) -> np.ndarray:
    """The fold of each example, int64 [N]: whole groups are dealt, so that classes spread evenly.

    Groups of several examples are dealt from the largest to the smallest, in a seeded order
    among equals, each to the fold that holds least of the group's classes. Single examples
    then level each class over the folds. `labels` are int [N], `groups` uint64 [N].

    Raises:
      ValueError: fewer groups than folds.
    """
    unique, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if not 2 <= num_folds <= len(unique):
        raise ValueError(
            f"data set: number of folds expected 2 to {len(unique)} (the groups there "
            f"are), received {num_folds}"
        )
    # Mixed: neighbouring seeds should deal nothing alike.
    rng = np.random.default_rng(mix64(seed))
    num_classes = int(labels.max()) + 1
    filled = np.zeros((num_folds, num_classes), np.int64)
    fold_of_group = _deal_groups(labels, group_of, sizes, filled, rng)
    folds = fold_of_group[group_of]
    for label in range(num_classes):
        single = rng.permutation(np.flatnonzero((folds < 0) & (labels == label)))
        folds[single] = _level(filled, label, len(single))
        filled[:, label] += np.bincount(folds[single], minlength=num_folds)
    return folds


def _deal_groups(
    labels: np.ndarray,
    group_of: np.ndarray,
    sizes: np.ndarray,
    filled: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Deals the groups of several examples, counting them in `filled` [n, C]; -1 for the rest."""
    several = np.flatnonzero(sizes > 1)
    # Rows of those groups alone: most examples of a large set are groups of their own.
    row = np.full(len(sizes), -1, np.int64)
    row[several] = np.arange(len(several))
    by_class = np.zeros((len(several), filled.shape[1]), np.int64)
    dealt = np.flatnonzero(sizes[group_of] > 1)
    np.add.at(by_class, (row[group_of[dealt]], labels[dealt]), 1)
    # Load in shares of a class, not in examples: a rare class weighs as much as a frequent one.
    share = 1 / np.maximum(class_counts(labels, filled.shape[1]), 1)
    shuffled = rng.permutation(several)
    fold_of_group = np.full(len(sizes), -1, np.int64)
    # The largest first: what is left to level becomes ever smaller.
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        load = filled * share
        own = by_class[row[group]]
        present = own > 0
        # `lexsort` takes the last key first: the group's own classes, then the fold's whole load.
        fold = np.lexsort((load.sum(1), load[:, present].sum(1)))[0]
        filled[fold] += own
        fold_of_group[group] = fold
    return fold_of_group


def _level(filled: np.ndarray, label: int, count: int) -> np.ndarray:
    """Folds int64 [count] for single examples of a class, so that its folds end up level."""
    load = filled[:, label].copy()
    total = filled.sum(1)
    folds = np.empty(count, np.int64)
    dealt = 0
    while dealt < count and load.min() < load.max():
        fold = np.lexsort((total, load))[0]
        folds[dealt] = fold
        load[fold] += 1
        total[fold] += 1
        dealt += 1
    # Level now: a plain rotation, the smallest fold first, keeps it so.
    folds[dealt:] = np.resize(np.argsort(total, kind="stable"), count - dealt)
    return folds


def cut_validation(
    labels: np.ndarray, groups: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a stratified, group-respecting 10 % from a training split.

    Returns:
      (train int64 [n], validation int64 [m]): record numbers, ascending. They depend on the
      seed; a set with fewer than 10 groups gives up one group.

    Raises:
      ValueError: one group is all there is.
    """
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        raise ValueError(
            "data set: the split train expected at least 2 different examples, of which some are "
            f"held back to validate, received {len(labels):,}, all of one group (equal inputs, or "
            "the same value of the group feature). Build the set with more examples or groups, or "
            "with a split validation of its own"
        )
    folds = assign_folds(labels, groups, min(10, num_groups), seed)
    return np.flatnonzero(folds != 0), np.flatnonzero(folds == 0)


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Examples of each class int64 [C], of labels int [N] from 0 to C - 1."""
    counts = np.zeros(num_classes, np.int64)
    # In parts: `bincount` makes int64 of all that it is given.
    for first in range(0, len(labels), _COUNTED):
        counts += np.bincount(labels[first : first + _COUNTED], minlength=num_classes)
    return counts


def balanced_class_weights(
    labels: np.ndarray, num_classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Weights N / (C * count) float64 [C], scikit-learn's "balanced"; 0 for absent classes.

    `weights` float64 [N], of mean 1, say how often each example is counted; None: once.
    """
    counts = class_counts(labels, num_classes)
    if weights is not None:
        counts = np.bincount(labels, weights, num_classes)
    return np.where(counts > 0, len(labels) / (num_classes * np.where(counts > 0, counts, 1)), 0.0)
