"""Figures as PNG bytes, those of `records.describe` among them; nothing is drawn on a screen."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

_SHOWN_CLASSES = 30
_SHOWN_NUMBERS = 6


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """(a figure of `width` x `height` inches, its axis; of several an array of them)."""
    from matplotlib.figure import Figure

    # Not pyplot: its figures live until they are closed, and it may ask for a window system.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def to_png(figure: Any) -> bytes:
    """A figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def class_balance(names: Sequence[str], counts: dict[str, np.ndarray]) -> bytes:
    """Bars of each class's share, one colour per split; counts int [C] by split."""
    shown = min(len(names), _SHOWN_CLASSES)
    figure, axis = new_figure(max(6, 0.5 * shown + 2), 4.5)
    width = 0.8 / len(counts)
    for i, (split, count) in enumerate(counts.items()):
        share = 100 * count[:shown] / max(count.sum(), 1)
        axis.bar(np.arange(shown) + i * width, share, width, label=split)
    centre = 0.4 - width / 2
    axis.set_xticks(np.arange(shown) + centre, plain(names[:shown]), rotation=45, ha="right")
    more = f" (the first {shown} of {len(names)} classes)" if shown < len(names) else ""
    axis.set(ylabel="% of the split's examples", title=f"class balance{more}")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return to_png(figure)


def correlations(names: Sequence[str], matrix: np.ndarray) -> bytes:
    """A heat map of a correlation matrix [n, n]."""
    size = max(5.0, 0.36 * len(names) + 2)
    figure, axis = new_figure(size + 1, size)
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    figure.colorbar(image, ax=axis, shrink=0.7)
    axis.set_xticks(range(len(names)), plain(names), rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), plain(names), fontsize=8)
    for i, j in np.ndindex(*matrix.shape) if len(names) <= 30 else ():
        colour = "white" if abs(matrix[i, j]) > 0.6 else "black"
        text = f"{matrix[i, j]:.1f}".replace("-0.0", "0.0")
        axis.text(j, i, text, ha="center", va="center", fontsize=6, color=colour)
    axis.set_title("correlation (Pearson)")
    return to_png(figure)


def feature_histograms(
    names: Sequence[str], rows: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> bytes:
    """One small histogram per column of rows [N, F], classes in colours, each class to 1."""
    columns = 4
    lines = -(-len(names) // columns)
    figure, axes = new_figure(3.2 * columns, 2.2 * lines + 0.5, lines, columns)
    axes = np.ravel(axes)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for column, (axis, name) in enumerate(zip(axes, names)):
        values = rows[:, column]
        finite = np.isfinite(values)
        # Common edges for all classes, else their bars could not be compared.
        edges = np.histogram_bin_edges(values[finite], 30)
        for label, class_name in list(enumerate(class_names))[:8]:
            mine = values[finite & (labels == label)]
            heights = np.histogram(mine, edges)[0] / max(len(mine), 1)
            axis.stairs(heights, edges, label=plain([class_name])[0])
        axis.set_title(plain([name])[0], fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].legend(fontsize=7)
    return to_png(figure)


def histograms(
    title: str, label: str, values: dict[str, np.ndarray], marks: Sequence[int]
) -> bytes:
    """One histogram per split over common bins up to the 99.5 % quantile; `marks` as lines."""
    together = np.concatenate(list(values.values()))
    # A few very long examples would press all others into the first bins.
    top = float(np.percentile(together, 99.5)) if len(together) else 0.0
    edges: np.ndarray = np.linspace(0, top or 1.0, 61)
    if np.issubdtype(together.dtype, np.integer):
        # Bins of whole numbers: others would hold one value more or less and look ragged.
        edges = np.arange(0, int(top) + 2, max(1, -(-int(top) // 60))) - 0.5

    figure, axis = new_figure(8, 4.5)
    for split, numbers in values.items():
        heights = np.histogram(numbers, edges)[0] / max(len(numbers), 1)
        axis.stairs(100 * heights, edges, label=split)
    for mark in marks:
        if mark < edges[-1]:
            axis.axvline(mark, color="grey", linewidth=0.8, linestyle=":")
    axis.set(xlabel=label, ylabel="% of the split's examples", title=title)
    axis.legend()
    return to_png(figure)


def number_histograms(names: Sequence[str], values: dict[str, np.ndarray]) -> bytes:
    """Histograms of the first of the numbers float64 [N, D] of each split, over common bins."""
    shown = min(len(names), _SHOWN_NUMBERS)
    together = np.concatenate(list(values.values()))

    figure, axes = new_figure(5 * shown, 4, 1, shown)
    for i, axis in enumerate(np.ravel(axes)):
        # A few outliers would press all others into the first bins.
        low, high = np.percentile(together[:, i], (0.5, 99.5)).tolist()
        edges: np.ndarray = np.linspace(low, high, 41)
        if not edges[-1] > edges[0]:
            edges = edges[0] + np.linspace(-0.5, 0.5, 41)
        for split, numbers in values.items():
            heights = np.histogram(numbers[:, i], edges)[0] / max(len(numbers), 1)
            axis.stairs(100 * heights, edges, label=split)
        axis.set(xlabel=plain([names[i]])[0], ylabel="% of the split's examples")
        axis.legend()
    return to_png(figure)


def word_bars(words: dict[str, list[tuple[str, int]]]) -> bytes:
    """The most frequent words of each class, (word, count) from the top down."""
    shown = list(words.items())[:12]
    columns = min(4, max(1, len(shown)))
    lines = -(-len(shown) // columns)
    figure, axes = new_figure(3.4 * columns, 3 * lines + 0.3, lines, columns)
    axes = np.ravel(axes)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    for axis, (name, pairs) in zip(axes, shown):
        at = range(len(pairs))
        axis.barh(at, [count for _, count in pairs])
        axis.set_yticks(at, plain([word for word, _ in pairs]), fontsize=8)
        axis.invert_yaxis()
        axis.set_title(plain([name])[0], fontsize=9)
        axis.tick_params(axis="x", labelsize=7)
    return to_png(figure)


def picture_sizes(sizes: np.ndarray, counts: np.ndarray) -> bytes:
    """Circles at (width, height) int [n, 2], their area by the number of pictures int [n]."""

    figure, axis = new_figure(6.5, 6)
    area = 12 + 600 * counts / max(counts.max(), 1)
    axis.scatter(sizes[:, 0], sizes[:, 1], s=area, alpha=0.35)
    axis.set(xlabel="width, pixels", ylabel="height, pixels", title="picture sizes")
    axis.grid(alpha=0.3)
    return to_png(figure)


def picture_grid(pictures: dict[str, list[np.ndarray]]) -> bytes:
    """A row of pictures uint8 [H, W, C] per class."""
    rows, columns = len(pictures), max([1, *(len(row) for row in pictures.values())])
    figure, axes = new_figure(1.8 * columns, 2 * rows, rows, columns)
    for axis in np.ravel(axes):
        axis.axis("off")
    for line, (name, row) in zip(np.reshape(axes, (rows, columns)), pictures.items()):
        for axis, picture in zip(line, row):
            axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
        line[0].set_title(plain([name])[0], fontsize=9, loc="left")
    return to_png(figure)


def plain(names: Sequence[str]) -> list[str]:
    """Names as they are: a `$` would begin a formula."""
    return [name.replace("$", r"\$") for name in names]
