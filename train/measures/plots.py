"""Figures of a run folder, as PNG files."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from records.sets.target import MULTI_LABEL, SINGLE_LABEL
from records.system.plotting import new_figure, plain, to_png
from train.measures.metrics import FIGURES_OF

# Classes of which every count can be read in a confusion matrix.
_READABLE_CLASSES = 30
_SHOWN_NUMBERS, _SHOWN_POINTS = 6, 5000
# Pairs of classes listed where it cannot; letters of their names, and cells of the matrix a side.
_SHOWN_PAIRS, _SHOWN_LETTERS, _SHOWN_CELLS = 25, 24, 1000


def draw_safely(
    name: str, draw: Callable[[], bytes | None], write: Callable[[bytes], None] | None = None
) -> bytes | None:
    """What `draw` gives, written by `write`; None, with a word, where that fails.

    No picture ends what it shows.
    """
    try:
        picture = draw()
        if picture is not None and write is not None:
            write(picture)
        return picture
    except Exception as error:  # of Matplotlib any kind; MemoryError is one, too
        reason = str(error) or type(error).__name__
        print(f"no {name}: {reason}. All else is there", file=sys.stderr, flush=True)
        return None


def draw_curves(history: list[dict[str, Any]], task: str = SINGLE_LABEL) -> bytes:
    """Cost and metrics per epoch, training and validation."""
    names = FIGURES_OF[task]
    figure, axes = new_figure(4 * len(names), 4, 1, len(names))
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes, names, strict=True):
        if name in history[0]:  # no sums of a training give an average precision
            axis.plot(epochs, [row[name] for row in history], label="training")
        axis.plot(epochs, [row[f"val_{name}"] for row in history], label="validation")
        axis.set(xlabel="epoch", title=name.replace("_", " "))
        axis.legend()
        axis.grid(alpha=0.3)
    return to_png(figure)


def outcome(
    task: str,
    metrics: Any,
    names: tuple[str, ...],
    role: str,
    said: np.ndarray,
    labels: np.ndarray,
) -> tuple[str, Callable[[], bytes]]:
    """(file name, what draws it) of the picture that shows predictions of a task best."""
    if task == SINGLE_LABEL:
        return "confusion_matrix.png", lambda: draw_confusion(metrics.confusion, names, role)
    if task == MULTI_LABEL:
        return "classes.png", lambda: draw_classes(metrics.each, names, role)
    return "predicted.png", lambda: draw_numbers(said, labels, names, role)


def draw_classes(each: dict[str, np.ndarray], names: tuple[str, ...], role: str) -> bytes:
    """F1 and average precision [C] of each class; of many classes the least by the latter."""
    shown = np.argsort(each["average_precision"])[:_READABLE_CLASSES]
    figure, axis = new_figure(8, 1.5 + 0.35 * len(shown))
    at = np.arange(len(shown))
    for shift, (name, values) in zip((-0.2, 0.2), each.items(), strict=True):
        axis.barh(at + shift, values[shown], height=0.4, label=name.replace("_", " "))
    axis.set_yticks(at, plain([names[i] for i in shown]))
    axis.set(xlim=(0, 1), title=f"{role}: each class for itself")
    axis.invert_yaxis()
    axis.legend()
    return to_png(figure)


def draw_numbers(said: np.ndarray, labels: np.ndarray, names: tuple[str, ...], role: str) -> bytes:
    """Predicted over true numbers [n, D], a picture for each of the first ones."""
    shown = min(len(names), _SHOWN_NUMBERS)
    figure, axes = new_figure(4.5 * shown, 4.5, 1, shown)
    step = -(-len(labels) // _SHOWN_POINTS)
    for i, axis in enumerate(np.ravel(axes)):
        true, found = labels[::step, i], said[::step, i]
        axis.scatter(true, found, s=6, alpha=0.4)
        axis.axline((true.mean(), true.mean()), slope=1, color="grey", linestyle="--")
        axis.set(xlabel="true", ylabel="predicted", title=plain([f"{role}: {names[i]}"])[0])
        axis.grid(alpha=0.3)
    return to_png(figure)


def draw_confusion(confusion: np.ndarray, names: tuple[str, ...], role: str) -> bytes:
    """Counts int64 [C, C], rows true, columns predicted; `role` names the split.

    Of many classes a heat map, and the pairs that are confused most often.
    """
    if len(names) > _READABLE_CLASSES:
        return _draw_many_classes(confusion, names, role)
    size = max(4.5, 0.9 * len(names) + 2)
    figure, axis = new_figure(size, size)
    # Colours by the share of a true class: counts of a rare class would all be pale.
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*confusion.shape):
        colour = "white" if share[i, j] > 0.5 else "black"
        axis.text(j, i, f"{confusion[i, j]}", ha="center", va="center", color=colour)
    ticks = range(len(names))
    axis.set_xticks(ticks, plain(names), rotation=45, ha="right")
    axis.set_yticks(ticks, plain(names))
    axis.set(xlabel="predicted", ylabel="true", title=f"{role}: examples")
    return to_png(figure)


def most_confused(confusion: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """(true class, predicted class, examples) of the most frequent errors, from the top down."""
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(i), int(j), int(errors[i, j])) for i, j in pairs if errors[i, j]]


def _draw_many_classes(confusion: np.ndarray, names: tuple[str, ...], role: str) -> bytes:
    figure, (left, right) = new_figure(15, 7.5, 1, 2)
    # Neighbours together: a screen has no more cells.
    block = -(-len(names) // _SHOWN_CELLS)
    starts = np.arange(0, len(names), block)
    cells = np.add.reduceat(np.add.reduceat(confusion, starts, 0), starts, 1)
    share = cells / np.maximum(cells.sum(1, keepdims=True), 1)
    end = len(names) - 0.5
    left.imshow(share, cmap="Blues", vmin=0, vmax=1, extent=(-0.5, end, end, -0.5))
    title = f"{role}: {len(names):,} classes, share of the true class"
    left.set(xlabel="number of the predicted class", ylabel="number of the true class", title=title)
    pairs = most_confused(confusion, _SHOWN_PAIRS)
    right.barh(range(len(pairs)), [count for *_, count in pairs])
    short = [
        name if len(name) <= _SHOWN_LETTERS else f"{name[:_SHOWN_LETTERS]}..." for name in names
    ]
    labels = [f"{short[i]} ({i}), predicted {short[j]} ({j})" for i, j, _ in pairs]
    right.set_yticks(range(len(pairs)), plain(labels), fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="examples", title="most frequent errors")
    return to_png(figure)


def draw_calibration(bins: dict[str, np.ndarray], role: str) -> bytes:
    """A reliability diagram: accuracy over confidence, and how many examples each bin holds.

    `bins` are those of `scores.calibration_bins`; `role` names the split.
    """
    figure, (above, below) = new_figure(9, 4.5, 1, 2)
    # An empty bin has no accuracy, and would break the line.
    filled = bins["count"] > 0
    edges = np.linspace(0, 1, len(bins["count"]) + 1)
    above.plot([0, 1], [0, 1], color="grey", linestyle="--", label="as certain as right")
    above.plot(bins["confidence"][filled], bins["accuracy"][filled], marker="o", label=role)
    above.set(xlabel="probability of the predicted class", ylabel="accuracy", xlim=(0, 1))
    above.set(ylim=(0, 1), title=f"{role}: calibration")
    above.legend()
    below.bar(edges[:-1], bins["count"], width=np.diff(edges), align="edge", edgecolor="white")
    below.set(xlabel="probability of the predicted class", ylabel="examples", xlim=(0, 1))
    for axis in (above, below):
        axis.grid(alpha=0.3)
    return to_png(figure)


def draw_pictures(pictures: np.ndarray, titles: list[str]) -> bytes:
    """A contact sheet of pictures uint8 [n, S, S, C], a title above each."""
    columns = min(5, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, axes = new_figure(2.4 * columns, 2.8 * rows, rows, columns)
    for axis in np.ravel(axes):
        axis.axis("off")
    for axis, picture, title in zip(np.ravel(axes), pictures, plain(titles)):
        axis.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray")
        axis.set_title(title, fontsize=7)
    return to_png(figure)
