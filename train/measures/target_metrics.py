"""What predictions of several classes at once, or of numbers, are worth: scikit-learn's figures."""

import dataclasses
from typing import Any

import numpy as np

from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from train.measures.metrics import FIGURES_OF


@dataclasses.dataclass(frozen=True)
class TargetMetrics:
    """What a set of predictions is worth."""

    task: str  # multi_label or regression
    figures: dict[str, float]  # one number each, by the names of `FIGURES_OF`
    each: dict[str, np.ndarray]  # the same of every class or number: float64 [C] by name

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """JSON-ready; what a class without examples does not have is None."""
        each = {
            name: {k: None if np.isnan(v[i]) else float(v[i]) for k, v in self.each.items()}
            for i, name in enumerate(names)
        }
        return self.figures | {"of_each": each}


def metrics_of_classes(logits: np.ndarray, labels: np.ndarray) -> TargetMetrics:
    """Metrics of logits float32 [n, C] against labels [n, C] of 0 and 1.

    `loss` is the mean binary cross-entropy, nats; a class is decided for from a probability of 0.5
    on. F1 of a class that neither occurs nor was decided for is 0, as scikit-learn's with
    `zero_division=0`. `mean_average_precision` is the mean over the classes with an example.
    """
    z = logits.astype(np.float64)
    losses = np.maximum(z, 0) - z * labels + np.log1p(np.exp(-np.abs(z)))
    # Order is all that the average precision looks at.
    found, each = score_classes(z, labels, z >= 0)
    return TargetMetrics(MULTI_LABEL, {"loss": float(losses.mean())} | found, each)


def score_classes(
    scores: np.ndarray, labels: np.ndarray, decided: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """(macro_f1, micro_f1, mean_average_precision; f1 and average_precision [C]).

    Args:
      scores: [n, C], greater where a class is likelier.
      labels, decided: [n, C] of 0 and 1.
    """
    from sklearn import metrics

    labels, decided = labels.astype(bool), decided.astype(bool)
    f1 = metrics.f1_score(labels, decided, average=None, zero_division=0)
    if labels.shape[1] == 1:  # scikit-learn would take it for two classes
        f1 = np.array([metrics.f1_score(labels[:, 0], decided[:, 0], zero_division=0)])
    precision = np.full(labels.shape[1], np.nan)
    for c in np.flatnonzero(labels.any(0)):
        precision[c] = metrics.average_precision_score(labels[:, c], scores[:, c])
    figures = {
        "macro_f1": float(f1.mean()),
        "micro_f1": float(
            metrics.f1_score(labels.ravel(), decided.ravel(), average="binary", zero_division=0)
        ),
        "mean_average_precision": float(np.nanmean(precision)) if labels.any() else float("nan"),
    }
    return figures, {"f1": f1, "average_precision": precision}


def metrics_of_numbers(
    found: np.ndarray, labels: np.ndarray, deviation: np.ndarray
) -> TargetMetrics:
    """Metrics of numbers [n, D] against labels [n, D], both in the user's units.

    `loss` is the mean squared error in units of `deviation` [D], that of the training examples.
    `mae`, `rmse` and `r2` are those of each number, and of several their means.
    """
    from sklearn import metrics

    found, labels = found.astype(np.float64), labels.astype(np.float64)
    loss = (((found - labels) / deviation) ** 2).mean()
    raw = {"multioutput": "raw_values"}
    each = {
        "mae": metrics.mean_absolute_error(labels, found, **raw),
        "rmse": metrics.root_mean_squared_error(labels, found, **raw),
        # Of one example there is no variance to compare with.
        "r2": metrics.r2_score(labels, found, **raw)
        if len(labels) > 1
        else np.full(labels.shape[1], np.nan),
    }
    figures = {"loss": float(loss)} | {name: float(v.mean()) for name, v in each.items()}
    return TargetMetrics(REGRESSION, figures, each)


def choose_thresholds(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 [C]: for each class the score from which on its F1 is greatest; 0.5 without examples.

    It lies half way to the next lower score (or 0): on a score itself, the rounding of an export
    would decide. Scores [n, C] and labels [n, C] of 0 and 1 are of validation examples: not those
    it is measured on afterwards.
    """
    chosen = np.full(scores.shape[1], 0.5)
    for c in np.flatnonzero(labels.any(0)):
        order = np.argsort(-scores[:, c], kind="stable")
        ranked = scores[order, c]
        right = np.cumsum(labels[order, c])
        f1 = 2 * right / (np.arange(1, len(order) + 1) + right[-1])
        # Equal scores are decided together: only the last of them is a place to cut.
        last = np.append(ranked[1:] < ranked[:-1], True)
        best = int(np.argmax(np.where(last, f1, -1)))
        chosen[c] = (ranked[best] + np.append(ranked[1:], 0)[best]) / 2
    return chosen


def check_one_class(task: str, place: str) -> None:
    """Raises ValueError where the part of the product `place` cannot do what the task needs."""
    if task != SINGLE_LABEL:
        raise ValueError(
            f"{place}: expected a target of one class ({SINGLE_LABEL}), received {task}. "
            "Leave it out"
        )


def check_monitor(task: str, name: str, flag: str) -> None:
    """Raises ValueError for a figure that predictions of this task do not have."""
    if name not in FIGURES_OF[task]:
        raise ValueError(
            f"settings: {flag} of {task} expected one of {', '.join(FIGURES_OF[task])}, received "
            f"{name!r}"
        )
