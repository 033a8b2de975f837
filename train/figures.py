"""Figures of a run folder, as PNG files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def _figure(width: float, height: float, columns: int = 1) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    pyplot.close(figure)
    return buffer.getvalue()


def draw_curves(history: list[dict[str, Any]]) -> bytes:
    """Cost and metrics per epoch, training and validation."""
    figure, axes = _figure(12, 4, 3)
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes, ("loss", "accuracy", "weighted_f1"), strict=True):
        axis.plot(epochs, [row[name] for row in history], label="training")
        axis.plot(epochs, [row[f"val_{name}"] for row in history], label="validation")
        axis.set(xlabel="epoch", title=name.replace("_", " "))
        axis.legend()
        axis.grid(alpha=0.3)
    return _png(figure)


def draw_confusion(confusion: np.ndarray, names: tuple[str, ...], role: str) -> bytes:
    """Counts int64 [C, C], rows true, columns predicted; `role` names the split."""
    size = max(4.5, 0.9 * len(names) + 2)
    figure, axis = _figure(size, size)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*confusion.shape):
        colour = "white" if share[i, j] > 0.5 else "black"
        axis.text(j, i, f"{confusion[i, j]}", ha="center", va="center", color=colour)
    ticks = range(len(names))
    axis.set_xticks(ticks, names, rotation=45, ha="right")
    axis.set_yticks(ticks, names)
    axis.set(xlabel="predicted", ylabel="true", title=f"{role}: examples")
    return _png(figure)
