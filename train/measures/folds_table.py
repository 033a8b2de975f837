"""The table of a cross-validation: means, deviations and paired differences."""

from typing import Any

import numpy as np

from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from records.system.writing import escape_cell, markdown_table
from train.measures.metrics import CHOSEN_BY

# By task: figures of a row, and the one of each class or number.
FIGURES = {
    SINGLE_LABEL: ("weighted_f1", "accuracy", "loss", "calibration_error"),
    MULTI_LABEL: ("macro_f1", "micro_f1", "mean_average_precision", "loss"),
    REGRESSION: ("rmse", "mae", "r2", "loss"),
}
EACH = {SINGLE_LABEL: "recall", MULTI_LABEL: "f1", REGRESSION: "r2_of_each"}
_TITLES = {"weighted_f1": "weighted F1", "macro_f1": "macro F1", "micro_f1": "micro F1"}


def format_table(result: dict[str, Any]) -> str:
    """Mean ± deviation over seeds and folds as a Markdown table.

    The last column compares with the first system, in pairs of the same seed and fold. Where folds
    were cut from all splits together, also the share of each split's records that are right.
    """
    every = [row for rows in result["systems"].values() for row in rows]
    task = next(task for task, each in EACH.items() if each in every[0])
    each = EACH[task]
    classes = list(every[0][each])
    names = FIGURES[task]
    header: list[str] = ["", *map(title, names)]
    header += [f"{title(each)} {escape_cell(name)}" for name in classes]
    splits = list(every[0].get("right", ()))  # with --pool-splits
    header += [f"accuracy on records of {split}" for split in splits] + ["s per fold"]
    first, chosen = next(iter(result["systems"])), CHOSEN_BY[task]
    if len(result["systems"]) > 1:
        header.append(f"{title(chosen)} above {first}, 95 % interval")
    lines = [header]
    for name, rows in result["systems"].items():
        cells = [name]
        for figure in names:
            values = [row[figure] for row in rows]
            cells.append(f"{np.mean(values):.4f} ± {np.std(values):.4f}")
        for one in classes:
            values = [row[each][one] for row in rows if row[each][one] is not None]
            cells.append(f"{np.mean(values):.3f}")
        for split in splits:
            right, count = np.sum([row["right"][split] for row in rows], axis=0)
            cells.append(f"{right / count:.4f}")
        cells.append(f"{np.mean([row['seconds'] for row in rows]):.1f}")
        if name != first:
            cells.append(_difference(rows, result["systems"][first], chosen))
        lines.append(cells + [""] * (len(header) - len(cells)))
    return "\n".join(markdown_table(lines))


def _difference(rows: list[dict[str, Any]], others: list[dict[str, Any]], figure: str) -> str:
    """Mean difference of a figure, in pairs of folds, and its 95 % interval.

    Training sets of folds overlap, so that plain paired intervals are too narrow. The variance is
    that of Nadeau and Bengio (2003, "Inference for the generalization error"): of n differences
    s^2 (1/n + test/train), which for k folds is s^2 (1/n + 1/(k - 1)); Student's t, n - 1 degrees.
    """
    from scipy import stats

    there = {(row["seed"], row["fold"]): row[figure] for row in others}
    pairs = [
        row[figure] - there[key] for row in rows if (key := (row["seed"], row["fold"])) in there
    ]
    folds = len({row["fold"] for row in rows})
    if len(pairs) < 2:
        return ""
    deviation = np.std(pairs, ddof=1) * np.sqrt(1 / len(pairs) + 1 / (folds - 1))
    half = stats.t.ppf(0.975, len(pairs) - 1) * deviation
    mean = np.mean(pairs)
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


def title(figure: str) -> str:
    """A figure's name in a table's head."""
    return _TITLES.get(figure, figure.removesuffix("_of_each").replace("_", " "))
