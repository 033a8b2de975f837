"""Every figure of a set of predictions, with intervals by bootstrap.

The figures are scikit-learn's, the calibration error (not in it) apart. The bootstrap computes the
same ones for all resamples at once, from how often each example was drawn; a test holds both equal.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from sklearn import metrics

CALIBRATION_BINS = 15
# Draws held at once, as float64: 128 MB.
_CHUNK_NUMBERS = 2**24


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: percentiles of the figures of resamples drawn with replacement."""

    resamples: int = 2000  # how many
    seed: int = 0  # names the draws
    percent: float = 95.0  # of the resamples, those that the interval holds

    def describe(
        self, groups: np.ndarray | None, group_name: str | None, examples: int
    ) -> dict[str, Any]:
        """How the intervals of so many examples were made, JSON-ready."""
        return dataclasses.asdict(self) | {
            "method": "percentile",
            "drawn": f"groups ({group_name})" if group_name else "examples",
            "units": examples if groups is None else len(np.unique(groups)),
        }


def score(probability: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The figures by name, float64 [], or [C] where it is one per class.

    Args:
      probability: float64 [n, C], rows sum to 1.
      labels: int [n].

    `loss` is the mean cross-entropy in nats. Per class, `precision` and `f1` are 0 where the class
    was never predicted, and what is undefined for a class without examples is NaN. `macro_f1`
    averages over the classes that occur as true or predicted, `balanced_accuracy` and `macro_auc`
    over those for which the figure is defined. `auc` is that of one class against the rest.
    `calibration_error` is the expected one: |accuracy - confidence| over 15 equal bins of the
    predicted class's probability, weighted by examples (Guo et al., 2017, arXiv:1706.04599).
    """
    classes = np.arange(probability.shape[1])
    predicted = probability.argmax(1)
    present = np.bincount(labels, minlength=len(classes)) > 0
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    auc = [_auc(labels == c, probability[:, c]) for c in classes]
    return {
        "loss": np.float64(metrics.log_loss(labels, probability, labels=classes)),
        "accuracy": np.float64(metrics.accuracy_score(labels, predicted)),
        "weighted_f1": np.float64(
            metrics.f1_score(labels, predicted, average="weighted", zero_division=0)
        ),
        "macro_f1": np.float64(
            metrics.f1_score(labels, predicted, average="macro", zero_division=0)
        ),
        "balanced_accuracy": np.float64(recall[present].mean()),
        "macro_auc": np.float64(_mean(np.array(auc)[None])[0]),
        "calibration_error": np.float64(_calibration_error(probability, labels)),
        "precision": precision,
        "recall": np.where(present, recall, np.nan),
        "f1": f1,
        "auc": np.array(auc),
    }


def _auc(is_class: np.ndarray, probability: np.ndarray) -> float:
    if is_class.all() or not is_class.any():
        return float("nan")
    return float(metrics.roc_auc_score(is_class, probability))


def calibration_bins(probability: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Per bin of confidence: `count`, mean `confidence` and `accuracy`, NaN where it is empty."""
    bins, right, confidence = _confidences(probability, labels)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        return {
            "count": count,
            "confidence": np.bincount(bins, confidence, CALIBRATION_BINS) / count,
            "accuracy": np.bincount(bins, right, CALIBRATION_BINS) / count,
        }


def _confidences(
    probability: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bin int64, is right float64, confidence float64), each [n]."""
    confidence = probability.max(1)
    # A probability of 1 belongs to the last bin.
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    return bins, (probability.argmax(1) == labels).astype(np.float64), confidence


def _calibration_error(probability: np.ndarray, labels: np.ndarray) -> float:
    bins, right, confidence = _confidences(probability, labels)
    # Of a bin of n examples, n |accuracy - confidence| is |sum of (right - confidence)|.
    return float(np.abs(np.bincount(bins, right - confidence)).sum() / len(labels))


def intervals(
    probability: np.ndarray,
    labels: np.ndarray,
    bootstrap: Bootstrap,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """(low, high) of every figure of `score`, of the same arguments, as `resampled_intervals`."""
    return resampled_intervals(_Resampled(probability, labels), len(labels), bootstrap, groups)


def resampled_intervals(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]],
    n: int,
    bootstrap: Bootstrap,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """(low, high) of every figure that `measure` gives: float64 [2], or [2, C].

    Args:
      measure: draws float64 [r, n], how often each example was drawn, to figures [r] or [r, C].
      n: examples.
      bootstrap: how many resamples, the seed, and the share they hold.
      groups: [n]; whole groups are drawn, so that the songs of an artist or the copies of a picture
        do not count as independent. None draws single examples.

    Resamples in which a figure is undefined are left out of its interval.
    """
    parts = [measure(draws) for draws in _draws(n, bootstrap, groups)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    outside = (100 - bootstrap.percent) / 2
    edges = [outside, 100 - outside]
    return {name: _percentiles(values, edges) for name, values in found.items()}


def _percentiles(values: np.ndarray, edges: list[float]) -> np.ndarray:
    """[2] or [2, C] of [R] or [R, C]; NaN where no resample has a value."""
    columns = values.reshape(len(values), -1).T
    defined = [column[~np.isnan(column)] for column in columns]
    found = [np.percentile(c, edges) if len(c) else np.full(2, np.nan) for c in defined]
    return np.stack(found, 1).reshape(2, *values.shape[1:])


def _draws(n: int, bootstrap: Bootstrap, groups: np.ndarray | None) -> Iterator[np.ndarray]:
    """How often each example was drawn, float64 [r, n], some resamples at a time."""
    rng = np.random.default_rng(bootstrap.seed)
    unique, group_of = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    size, left = len(unique), bootstrap.resamples
    while left:
        rows = min(left, max(1, _CHUNK_NUMBERS // n))
        # Each resample has numbers of its own, so that one bincount counts all of them.
        drawn = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        yield counts[:, group_of].astype(np.float64)
        left -= rows


class _Resampled:
    """The figures of `score` for rows of draws [r, n]: [r], or [r, C]."""

    def __init__(self, probability: np.ndarray, labels: np.ndarray):
        n, c = probability.shape
        self.num_classes = c
        tiny = np.finfo(np.float64).eps  # as scikit-learn's log_loss
        own = probability[np.arange(n), labels]
        self.losses = -np.log(np.clip(own, tiny, 1 - tiny))
        # Each example's cell of the confusion matrix, one-hot: draws @ cells gives all matrices.
        self.cells = np.eye(c * c)[labels * c + probability.argmax(1)]
        bins, right, confidence = _confidences(probability, labels)
        self.gaps = np.eye(CALIBRATION_BINS)[bins] * (right - confidence)[:, None]
        self.order = [np.argsort(probability[:, k], kind="stable") for k in range(c)]
        self.is_class = [labels == k for k in range(c)]
        # Where another probability begins in sorted order: examples between two starts are ties.
        self.starts = [
            np.flatnonzero(np.diff(probability[order, k], prepend=-1.0))
            for k, order in enumerate(self.order)
        ]

    def __call__(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        total = draws.sum(1)
        confusion = (draws @ self.cells).reshape(-1, self.num_classes, self.num_classes)
        right = np.einsum("rcc->rc", confusion)
        true, predicted = confusion.sum(2), confusion.sum(1)
        f1 = 2 * right / np.maximum(true + predicted, 1)
        recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
        auc = np.stack([self._auc(draws, k) for k in range(self.num_classes)], 1)
        occurring = np.where(true + predicted > 0, f1, np.nan)
        return {
            "loss": draws @ self.losses / total,
            "accuracy": right.sum(1) / total,
            "weighted_f1": (f1 * true).sum(1) / total,
            "macro_f1": _mean(occurring),
            "balanced_accuracy": _mean(recall),
            "macro_auc": _mean(auc),
            "calibration_error": np.abs(draws @ self.gaps).sum(1) / total,
            "precision": right / np.maximum(predicted, 1),
            "recall": recall,
            "f1": f1,
            "auc": auc,
        }

    def _auc(self, draws: np.ndarray, k: int) -> np.ndarray:
        """The share of pairs (of class, not of class) in the right order; ties count half: [r]."""
        sorted_draws, is_class = draws[:, self.order[k]], self.is_class[k][self.order[k]]
        inside = np.add.reduceat(sorted_draws * is_class, self.starts[k], 1)
        outside = np.add.reduceat(sorted_draws * ~is_class, self.starts[k], 1)
        below = np.cumsum(outside, 1) - outside
        pairs = inside.sum(1) * outside.sum(1)
        ordered = (inside * (below + outside / 2)).sum(1)
        return np.where(pairs > 0, ordered / np.maximum(pairs, 1), np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    count = defined.sum(-1)
    total = np.where(defined, values, 0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


_PER_CLASS = ("precision", "recall", "f1", "auc")


def to_json(
    values: dict[str, Any], class_names: tuple[str, ...], per_class: Collection[str] = _PER_CLASS
) -> dict[str, Any]:
    """JSON-ready: NaN as None; figures per class by the class's name."""

    def number(x: Any) -> Any:
        if np.ndim(x):
            return [number(v) for v in x]
        return None if np.isnan(x) else float(x)

    def by_class(x: np.ndarray) -> dict[str, Any]:
        columns = np.moveaxis(np.asarray(x), -1, 0)
        return {c: number(v) for c, v in zip(class_names, columns, strict=True)}

    return {k: by_class(v) if k in per_class else number(v) for k, v in values.items()}
