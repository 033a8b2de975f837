"""What a table of numbers looks like: ranges, means, deviations, correlations."""

import numpy as np

from records.decoding.input_config import InputConfig
from records.decoding.modality import modality_of
from records.describe.read import (
    Section,
    hash_sequences,
    main_split,
    read_features,
    shown_classes,
)
from records.sets.schema import Schema
from records.shards.index import RecordIndex
from records.system import plotting

_SHOWN_FEATURES = 60  # rows printed, and the side of the correlation matrix
_SHOWN_PAIRS = 10
_OF_CLASS = (
    "  r label: Pearson's correlation with the number of the class; eta: correlation ratio"
    " with the class"
)
_OF_OTHERS = (
    "  r label: the strongest of Pearson's correlations with what is predicted; eta: its size"
)
_SHOWN_HISTOGRAMS = 32


def describe_table(schema: Schema, indexes: dict[str, RecordIndex]) -> Section:
    """Describes a set of fixed-length vectors; statistics are those of `main_split`."""
    rows, copies = {}, {}
    for split, index in indexes.items():
        rows[split] = _read_rows(schema, split, index)
        # -0.0 is 0.0 to every model; adding 0 makes their bits equal.
        bits = (rows[split] + 0).view(np.uint32)
        lengths = np.full(len(bits), bits.shape[1], np.int64)
        copies[split] = hash_sequences(bits.ravel(), lengths)
    split = main_split(schema)
    values, labels = rows[split].astype(np.float64), indexes[split].label
    names = _feature_names(schema)
    # One NaN would make every mean and correlation NaN.
    finite, known = np.isfinite(values).all(1), labels >= 0
    targets = indexes[split].target
    if targets is None:
        eta = correlation_ratio(values[finite & known], labels[finite & known])
        targets = labels[:, None]
    else:
        both = np.column_stack([values, targets])[finite & known]
        eta = np.abs(correlation_matrix(both)[: len(names), len(names) :]).max(1)
    shown = np.arange(len(names))
    if len(names) > _SHOWN_FEATURES:
        shown = np.sort(np.argsort(-eta, kind="stable")[:_SHOWN_FEATURES])
    with_label = np.column_stack([values[:, shown], targets])[finite & known]
    matrix = correlation_matrix(with_label)
    of_targets = matrix[len(shown) :, : len(shown)]
    strongest = of_targets[np.abs(of_targets).argmax(0), np.arange(len(shown))]
    predicted = [schema.label_name] if indexes[split].target is None else list(schema.class_names)
    lines = [f"Features of {split} (statistics of the finite rows)"]
    lines += _feature_lines(names, shown, values[finite], eta, strongest)
    lines.append(_OF_CLASS if indexes[split].target is None else _OF_OTHERS)
    lines += _non_finite_lines(rows, names)
    lines += _pair_lines([names[i] for i in shown], matrix[: len(shown), : len(shown)])
    some = shown[:_SHOWN_HISTOGRAMS]
    figures = {
        "correlations.png": plotting.correlations([*(names[i] for i in shown), *predicted], matrix),
        "features.png": plotting.feature_histograms(
            [names[i] for i in some], values[:, some], labels, shown_classes(schema)
        ),
    }
    return Section(lines, figures, {"rows": copies})


def correlation_matrix(rows: np.ndarray) -> np.ndarray:
    """Pearson correlations of the columns of float64 [N, F]: [F, F]; 0 where one is constant."""
    centred = rows - rows.mean(0) if len(rows) else rows
    norms = np.sqrt((centred * centred).sum(0))
    # What rounding leaves of a constant column is no variation.
    varies = norms > 1e-9 * np.maximum(np.abs(rows).max(0, initial=0), 1e-300)
    unit = np.where(varies, centred / np.where(varies, norms, 1), 0)
    return np.clip(unit.T @ unit, -1, 1)


def correlation_ratio(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The correlation ratio of each column with the class, float64 [F] in [0, 1].

    The square root of the share of a column's variance that lies between the classes; unlike
    Pearson's coefficient it does not take the order of the classes for a scale. With two
    classes it is Pearson's coefficient without its sign.
    """
    if not len(rows):
        return np.zeros(rows.shape[1])
    counts = np.bincount(labels)
    # [C, F]: the sum of each column per class.
    sums = np.stack([np.bincount(labels, column) for column in rows.T], 1)
    means = sums / np.maximum(counts, 1)[:, None]
    between = (counts[:, None] * (means - rows.mean(0)) ** 2).sum(0)
    total = ((rows - rows.mean(0)) ** 2).sum(0)
    return np.sqrt(np.clip(between / np.where(total > 0, total, 1), 0, 1))


def _read_rows(schema: Schema, split: str, index: RecordIndex) -> np.ndarray:
    """float32 or float64 [N, F], as the models get them."""
    modality, config = modality_of(schema), InputConfig()
    spec = modality.spec(config, 0)
    rows = np.empty((index.num_records, *spec.shape), spec.dtype.as_numpy_dtype)
    for at, batch in read_features(schema, split, index):
        rows[at] = modality.unpack(batch[schema.input_name])
    return rows


def _feature_names(schema: Schema) -> list[str]:
    count = int(schema.input_shape[0] or 0)
    return list(schema.feature_names) or [f"{schema.input_name}[{i}]" for i in range(count)]


def _feature_lines(
    names: list[str], shown: np.ndarray, rows: np.ndarray, eta: np.ndarray, pearson: np.ndarray
) -> list[str]:
    """One line per feature; rows float64 [n, F], pearson float64 [len(shown)]."""
    width = max(12, *(len(names[i]) for i in shown))
    columns = ("least", "mean", "most", "deviation", "distinct", "r label", "eta")
    lines = [f"  {'':{width}}" + "".join(f"{c:>11}" for c in columns)]
    for i, r in zip(shown, pearson, strict=True):
        column = rows[:, i]
        if not len(column):
            continue
        cells = [column.min(), column.mean(), column.max(), column.std()]
        text = "".join(f"{cell:>11.4g}" for cell in cells)
        distinct = len(np.unique(column))
        lines.append(f"  {names[i]:{width}}{text}{distinct:>11,}{r:>11.3f}{eta[i]:>11.3f}")
    if len(shown) < len(names):
        lines.append(f"  (the {len(shown)} of {len(names)} features that tell the classes best)")
    return lines


def _non_finite_lines(rows: dict[str, np.ndarray], names: list[str]) -> list[str]:
    lines = []
    for split, values in rows.items():
        bad = (~np.isfinite(values)).sum(0)
        found = ", ".join(f"{names[i]} {bad[i]:,}" for i in np.flatnonzero(bad)[:10])
        if found:
            lines.append(f"  {split}: not finite (a model cannot be trained on these): {found}")
    return lines


def _pair_lines(names: list[str], matrix: np.ndarray) -> list[str]:
    """The most correlated pairs of features."""
    first, second = np.triu_indices(len(names), 1)
    order = np.argsort(-np.abs(matrix[first, second]), kind="stable")[:_SHOWN_PAIRS]
    lines = ["Most correlated features"] if len(order) else []
    for i, j in zip(first[order], second[order], strict=True):
        lines.append(f"  {matrix[i, j]:+.3f}  {names[i]}, {names[j]}")
    return lines
