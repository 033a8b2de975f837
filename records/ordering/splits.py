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
    num_groups, several = _find_groups(groups)
    if not 2 <= num_folds <= num_groups:
        raise ValueError(
            f"data set: number of folds expected 2 to {num_groups} (the groups there "
            f"are), received {num_folds}"
        )
    return _assign(labels, groups, several, num_folds, seed)


def _assign(
    labels: np.ndarray, groups: np.ndarray, several: np.ndarray, num_folds: int, seed: int
) -> np.ndarray:
    """As `assign_folds`; `several` uint64 [G] are the groups of several examples, ascending."""
    # Mixed: neighbouring seeds should deal nothing alike.
    rng = np.random.default_rng(mix64(seed))
    num_classes = int(labels.max()) + 1
    filled = np.zeros((num_folds, num_classes), np.int64)
    folds = np.full(len(labels), -1, np.int64)
    if len(several):
        group_of = np.minimum(np.searchsorted(several, groups), len(several) - 1)
        rows = np.flatnonzero(several[group_of] == groups)
        by_class = np.zeros((len(several), num_classes), np.int64)
        np.add.at(by_class, (group_of[rows], labels[rows]), 1)
        # Load in shares of a class, not in examples: a rare class weighs as much as a frequent one.
        share = 1 / np.maximum(class_counts(labels, num_classes), 1)
        folds[rows] = _deal_groups(by_class, share, filled, rng)[group_of[rows]]
    for label in range(num_classes):
        single = rng.permutation(np.flatnonzero((folds < 0) & (labels == label)))
        folds[single] = _level(filled, label, len(single))
        filled[:, label] += np.bincount(folds[single], minlength=num_folds)
    return folds


def _find_groups(groups: np.ndarray) -> tuple[int, np.ndarray]:
    """(how many groups there are; those of several examples, uint64 [G], ascending).

    Most examples of a large set are groups of their own: a million of them are cut in 0.09 s, in
    0.9 s by `np.unique`, which says of each row its group.
    """
    ordered = np.sort(groups)
    repeats = ordered[1:][ordered[1:] == ordered[:-1]]
    is_first = np.append(True, repeats[1:] != repeats[:-1])[: len(repeats)]
    return len(groups) - len(repeats), repeats[is_first]


def _deal_groups(
    by_class: np.ndarray, share: np.ndarray, filled: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The fold int64 [G] of each group, of whose examples `by_class` int64 [G, C] are of a class.

    `share` float64 [C] is what an example adds to its class; the groups are counted in `filled`.
    """
    sizes = by_class.sum(1)
    shuffled = rng.permutation(len(sizes))
    fold_of_group = np.empty(len(sizes), np.int64)
    # The largest first: what is left to level becomes ever smaller.
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        load = filled * share
        own = by_class[group]
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
    num_groups, several = _find_groups(groups)
    if num_groups < 2:
        raise ValueError(
            "data set: the split train expected at least 2 different examples, of which some are "
            f"held back to validate, received {len(labels):,}, all of one group (equal inputs, or "
            "the same value of the group feature). Build the set with more examples or groups, or "
            "with a split validation of its own"
        )
    folds = _assign(labels, groups, several, min(10, num_groups), seed)
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
    if weights is None:
        counts = class_counts(labels, num_classes)
    else:
        counts = np.bincount(labels, weights, num_classes)
    return np.where(counts > 0, len(labels) / (num_classes * np.where(counts > 0, counts, 1)), 0.0)
