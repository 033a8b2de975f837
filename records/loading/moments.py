"""Mean and variance of a table's columns, in float64, and errors for columns rounded away."""

from typing import Any

import numpy as np

from records.loading.load import Loader
from records.ordering.splits import Numbers
from records.sets.schema import Schema

_SHOWN = 5  # columns named in an error


def moments(rows: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(mean, variance) float64 [F] of rows [n, F], each as often as `weights` [n] say."""
    first = rows[0].astype(np.float64)
    # Less the first row a constant column is exactly 0, and time stamps keep their digits.
    shifted = rows - first
    if weights is None:
        return first + shifted.mean(0), shifted.var(0)
    mean = np.average(shifted, 0, weights)
    return first + mean, np.average((shifted - mean) ** 2, 0, weights)


def stream_moments(
    loader: Loader, numbers: Numbers, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As `moments`, of a table's records `numbers`, of which one unit is held."""
    wanted = np.zeros(loader.index.num_records, bool)
    wanted[numbers] = True
    # Without weights one 1 serves all rows of a unit.
    counted = np.ones(1) if weights is None else np.zeros(len(wanted))
    if weights is not None:
        counted[numbers] = weights
    first = loader.load(numbers[:1])[0].astype(np.float64)
    sums, squares = np.zeros(()), np.zeros(())
    for unit in (u[wanted[u]] for u in loader.units()):
        shifted = loader.load(unit) - first
        count = counted[unit if weights is not None else slice(1), None]
        sums, squares = sums + (count * shifted).sum(0), squares + (count * shifted**2).sum(0)
    total = len(numbers) if weights is None else weights.sum()
    mean = sums / total
    # Rounding can leave less than 0.
    return first + mean, np.maximum(squares / total - mean**2, 0)


def check_moments(schema: Schema, mean: np.ndarray, variance: np.ndarray, dtype: Any) -> None:
    """Raises ValueError, naming the columns, where a model could not tell a column's values apart.

    `mean` and `variance` are float64 [F], `dtype` is that of the inputs that models get.
    """
    # Not `>`: NaN is told, too.
    huge = ~(variance <= np.finfo(np.float32).max)
    if huge.any():
        raise ValueError(
            f"input: {schema.name}: {_columns(schema, huge)}: expected a deviation of at most "
            f"1e19, received {_numbers(np.sqrt(variance[huge]))}. Numbers such as 1e30 often stand "
            "for a missing value: replace them in the builder, or leave those rows out, and build "
            "the set again"
        )
    step = np.spacing(np.abs(mean.astype(dtype))).astype(np.float64)
    # From where whole numbers are skipped; below, a column without variation is just constant.
    lost = (step > 1) & (variance <= step**2)
    if lost.any():
        raise ValueError(
            f"input: {schema.name}: {_columns(schema, lost)}: expected numbers that "
            f"{np.dtype(dtype).name} can tell apart, received some around {_numbers(mean[lost])}, "
            f"where it has steps of {_numbers(step[lost])}. Store whole numbers as int64, others "
            "with Tensor(..., dtype=np.float64, encoding='bytes'), or take a constant off in the "
            "builder; leave out a column whose numbers are all equal. Then build the set again"
        )


def _columns(schema: Schema, wrong: np.ndarray) -> str:
    names = schema.feature_names
    shown = np.flatnonzero(wrong)[:_SHOWN]
    found = [f"column {i} ({names[i]!r})" if names else f"column {i}" for i in shown]
    more = f" and {wrong.sum() - _SHOWN} more" if wrong.sum() > _SHOWN else ""
    return f"feature {schema.input_name!r}, {', '.join(found)}{more}"


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.10g}" for value in values[:_SHOWN])
