"""Figures of several classes at once, and of numbers, with what the bootstrap needs of them.

As `scores` of one class: the figures are scikit-learn's, and a test holds the resamples equal.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from records.sets.target import describe_target
from records.system.writing import write_atomically
from train.measures import plots, scores
from train.measures.target_metrics import metrics_of_numbers, score_classes
from train.measures.worst_errors import WorstErrors


class Wanted(Protocol):
    """What a run knows of its target: `train.folders.model_input.ModelInput`."""

    @property
    def task(self) -> str:
        """multi_label or regression."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names."""

    @property
    def scale(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """(mean, deviation) of numbers."""

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Of classes."""


def make_measure(wanted: Wanted, said: np.ndarray, labels: np.ndarray) -> Classes | Numbers:
    """Of what a run says, float64 [n, C], probabilities or numbers; labels [n, C]."""
    if wanted.scale is not None:
        return Numbers(said, labels, wanted.scale[1])
    return Classes(said, labels, wanted.thresholds)


class LargestLosses(WorstErrors):
    """The examples of the largest losses."""

    figures = ("loss",)

    def __init__(self, wanted: Wanted, num_errors: int):
        """Of a run's predictions; so many are kept."""
        super().__init__(wanted.class_names, num_errors)
        self._wanted = wanted

    def judge(self, label: Any, said: np.ndarray) -> tuple[float | None, dict[str, str]]:
        """As `WorstErrors`: no example is without a loss."""
        measure, wanted = make_measure(self._wanted, said[None], label[None]), self._wanted
        loss = float(measure.losses[0])
        return loss, {
            "true": describe_target(wanted.task, wanted.class_names, label),
            "predicted": describe_target(wanted.task, wanted.class_names, measure.decided[0]),
            "loss": f"{loss:.6g}",
        }

    def sizes(self, labels: np.ndarray, said: np.ndarray) -> np.ndarray:
        """As `WorstErrors`."""
        return make_measure(self._wanted, said, labels).losses


def measure_target(
    folder: Path,
    wanted: Wanted,
    measure: Classes | Numbers,
    how: tuple[scores.Bootstrap, np.ndarray | None, str | None],
) -> dict[str, Any]:
    """What `evaluation.json` holds of several classes at once, or of numbers.

    Writes a picture of the predictions into the folder. `how` is the bootstrap, groups [n], and
    their feature.
    """
    labels, names, split = measure.labels, wanted.class_names, folder.name.partition("-")[2]
    if isinstance(measure, Numbers):
        draw = functools.partial(plots.draw_numbers, measure.decided, labels, names, split)
    else:
        each = {name: measure.score()[name] for name in measure.each[:2]}
        draw = functools.partial(plots.draw_classes, each, names, split)
    ranges = scores.resampled_intervals(measure, len(labels), *how[:2])
    folder.mkdir(exist_ok=True)
    write = functools.partial(write_atomically, folder / "predictions.png")
    plots.draw_safely("predictions.png", draw, write)
    return {
        "task": wanted.task,
        "examples": len(labels),
        "metrics": scores.to_json(measure.score(), names, measure.each),
        "intervals": scores.to_json(ranges, names, measure.each),
        "bootstrap": how[0].describe(how[1], how[2], len(labels)),
    }


class Classes:
    """Several classes at once."""

    each = ("f1", "average_precision", "f1_at_thresholds")  # figures that every class has

    def __init__(self, said: np.ndarray, labels: np.ndarray, thresholds: Sequence[float]):
        """Of probabilities float64 [n, C], labels [n, C] of 0 and 1, and C thresholds."""
        self._said, self._labels = said, labels.astype(np.float64)
        self.labels, self.decided = labels, said >= np.asarray(thresholds)  # bool [n, C]
        self._decided = {"": said >= 0.5, "_at_thresholds": self.decided}
        tiny = np.finfo(np.float64).tiny
        right = np.where(self._labels > 0, said, 1 - said)
        self.losses = -np.log(np.maximum(right, tiny)).mean(1)  # float64 [n]
        self._order = np.argsort(-said, 0, kind="stable")

    def score(self) -> dict[str, np.ndarray]:
        """The figures by name, float64 [], or [C] where it is one per class."""
        found: dict[str, Any] = {"loss": self.losses.mean()}
        for suffix, decided in self._decided.items():
            figures, each = score_classes(self._said, self._labels, decided)
            found |= {f"{name}{suffix}": figures[name] for name in ("macro_f1", "micro_f1")}
            found[f"f1{suffix}"] = each["f1"]
        found["mean_average_precision"] = figures["mean_average_precision"]
        found["average_precision"] = each["average_precision"]
        return {name: np.asarray(value) for name, value in found.items()}

    def __call__(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """The same of resamples [r, n], how often each example was drawn: [r], or [r, C]."""
        found = {"loss": draws @ self.losses / draws.sum(1)}
        there = draws @ self._labels
        for suffix, decided in self._decided.items():
            right, chosen = draws @ (decided * self._labels), draws @ decided
            f1 = 2 * right / np.maximum(chosen + there, 1)
            found[f"f1{suffix}"], found[f"macro_f1{suffix}"] = f1, f1.mean(1)
            both = np.maximum((chosen + there).sum(1), 1)
            found[f"micro_f1{suffix}"] = 2 * right.sum(1) / both
        precision = [self._average_precision(draws, c) for c in range(self._said.shape[1])]
        found["average_precision"] = each = np.stack(precision, 1)
        defined = ~np.isnan(each)
        total = np.where(defined, each, 0).sum(1)
        mean = total / np.maximum(defined.sum(1), 1)
        found["mean_average_precision"] = np.where(defined.any(1), mean, np.nan)
        return found

    def _average_precision(self, draws: np.ndarray, c: int) -> np.ndarray:
        """[r]; NaN where no example of the class was drawn."""
        order = self._order[:, c]
        ranked, drawn = self._said[order, c], draws[:, order]
        # Equal scores are one step of the curve.
        last = np.append(ranked[1:] < ranked[:-1], True)
        right = np.cumsum(drawn * self._labels[order, c], 1)[:, last]
        precision = right / np.maximum(np.cumsum(drawn, 1)[:, last], 1)
        total = right[:, -1]
        area = (np.diff(right, axis=1, prepend=0) * precision).sum(1)
        return np.where(total > 0, area / np.maximum(total, 1), np.nan)


class Numbers:
    """Numbers; attributes as `Classes`, `decided` the numbers themselves."""

    each = ("mae_of_each", "rmse_of_each", "r2_of_each")

    def __init__(self, said: np.ndarray, labels: np.ndarray, deviation: Sequence[float]):
        """Of numbers float64 [n, D], labels [n, D], and the deviation [D] of the training ones."""
        self._said, self._labels = said, labels.astype(np.float64)
        self.labels, self.decided = labels, said
        self._deviation = np.asarray(deviation)
        self.losses = (((said - self._labels) / self._deviation) ** 2).mean(1)

    def score(self) -> dict[str, np.ndarray]:
        """As `Classes.score`."""
        found = metrics_of_numbers(self._said, self._labels, self._deviation)
        figures: dict[str, Any] = dict(found.figures)
        figures |= {f"{name}_of_each": values for name, values in found.each.items()}
        return {name: np.asarray(value) for name, value in figures.items()}

    def __call__(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """As `Classes`; R2 is NaN where all drawn targets are alike."""
        count = draws.sum(1, keepdims=True)
        error = np.abs(self._said - self._labels)
        # About their mean: no digits are lost in the squares.
        labels = self._labels - self._labels.mean(0)
        squared = draws @ error**2 / count
        variance = draws @ labels**2 / count - (draws @ labels / count) ** 2
        varies = variance > 1e-12 * np.maximum(labels.var(0), np.finfo(np.float64).tiny)
        r2 = np.where(varies, 1 - squared / np.where(varies, variance, 1), np.nan)
        each = {"mae": draws @ error / count, "rmse": np.sqrt(squared), "r2": r2}
        found = {"loss": draws @ self.losses / count[:, 0]}
        for name, values in each.items():
            found[name], found[f"{name}_of_each"] = values.mean(1), values
        return found
