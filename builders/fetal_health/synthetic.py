"""Writes a generated table in the format of the real one, with its imbalance and quirks.

Like the real file: 2126 rows of classes 1655 / 295 / 176, labels written as floats, values rounded
to the steps of the real columns, heavily skewed and mostly-zero columns, 13 exact repeats. The
values are invented; only ranges and the shape of distributions follow the real set.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from builders.fetal_health.table import FEATURE_NAMES, FILE_NAME, LABEL_COLUMN

CLASS_COUNTS = (1655, 295, 176)
REPEATS = 13

# Per feature: smallest value, spread, rounding step, and whether most rows hold the smallest.
_COLUMNS: tuple[tuple[float, float, float, bool], ...] = (
    (106, 27, 1, False),
    (0, 0.006, 0.001, True),
    (0, 0.02, 0.001, True),
    (0, 0.004, 0.001, False),
    (0, 0.003, 0.001, True),
    (0, 0.001, 0.001, True),
    (0, 0.002, 0.001, True),
    (12, 35, 1, False),
    (0.2, 1.1, 0.1, False),
    (0, 18, 1, True),
    (0, 8, 0.1, False),
    (3, 67, 1, False),
    (50, 43, 1, False),
    (122, 42, 1, False),
    (0, 4, 1, False),
    (0, 0.6, 1, True),
    (60, 77, 1, False),
    (73, 61, 1, False),
    (77, 61, 1, False),
    (0, 18, 1, True),
    (-1, 1.3, 1, False),
)
# Hidden causes of a row, and how far a class's centres lie from the origin among them.
_LATENT = 8
_SEPARATION = 1.9


def write_csv(directory: Path) -> None:
    """Writes `fetal_health.csv` into `directory`; always the same bytes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), CLASS_COUNTS)
    features = _features(rng, labels)
    for _ in range(REPEATS):
        # A repeat replaces a row of the same class, which keeps the counts.
        original = rng.integers(len(labels))
        other = rng.choice(np.flatnonzero(labels == labels[original]))
        features[other] = features[original]
    order = rng.permutation(len(labels))
    frame = pd.DataFrame(features[order], columns=list(FEATURE_NAMES))
    frame[LABEL_COLUMN] = labels[order] + 1.0
    # Few digits: the last bits of exp differ between machines' mathematical libraries.
    frame.to_csv(directory / FILE_NAME, index=False, float_format="%.3f", lineterminator="\n")


def _features(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Values float64 [N, 21]: hidden causes per class, mixed, bent and rounded.

    Each class has two centres among the hidden causes, so that no plane separates it.
    """
    centres = rng.standard_normal((3, 2, _LATENT))
    centres *= _SEPARATION / np.linalg.norm(centres, axis=-1, keepdims=True)
    which = rng.integers(0, 2, len(labels))
    latent = centres[labels, which] + rng.standard_normal((len(labels), _LATENT)) * 0.62
    mixing = rng.standard_normal((_LATENT, len(_COLUMNS))) / np.sqrt(_LATENT)
    mixed = latent @ mixing + 0.2 * rng.standard_normal((len(labels), len(_COLUMNS)))
    values = np.empty_like(mixed)
    for i, (lowest, spread, step, mostly_lowest) in enumerate(_COLUMNS):
        shape = np.exp(0.8 * mixed[:, i]) - 1.0 if mostly_lowest else mixed[:, i] + 2.0
        values[:, i] = lowest + step * np.round(np.maximum(shape, 0) * spread / 2 / step)
    return values
