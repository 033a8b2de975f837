"""Thresholds of a table's features at which the classes change."""

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from records.examples import Examples

_LEAST_EXAMPLES = 5  # between two thresholds
# Trees of a million rows take seconds a feature, and their thresholds do not move any more.
_MOST_ROWS = 100_000


def find_thresholds(train: Examples, bins: int) -> np.ndarray:
    """Cuts the range of each feature into `bins` intervals at most, by a decision tree of it alone.

    Returns:
      float64 [F, bins + 1], ascending: smallest value, thresholds, largest value; a feature with
      fewer intervals repeats the last ("target-aware bins" of Gorishniy et al. 2022).

    Raises:
      ValueError: the examples are not in memory.
    """
    train = train.without_damaged()
    if train.inputs is None:
        raise ValueError(
            "evaluate: a model with bins expected a table in memory, received --cache none "
            "or disk. Choose --cache auto or another --model"
        )
    # Evenly spread: records may lie in the order of their classes.
    spread = slice(None, None, -(-len(train.numbers) // _MOST_ROWS))
    numbers = train.numbers[spread]
    weights = None if train.weights is None else train.weights[spread]
    rows, labels = train.inputs[numbers].astype(np.float64), train.split_labels[numbers]
    shift, scale = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    if train.inputs.dtype == np.float64:  # scikit-learn's trees compare in float32
        shift, scale = rows.mean(0), np.where(rows.std(0) > 0, rows.std(0), 1)
        rows = (rows - shift) / scale
    edges = np.zeros((rows.shape[1], bins + 1))
    for feature, values in enumerate(rows.T):
        tree = DecisionTreeClassifier(
            max_leaf_nodes=max(bins, 2), min_samples_leaf=_LEAST_EXAMPLES, random_state=0
        )
        fitted = tree.fit(values[:, None], labels, weights).tree_
        # A leaf has no child, and no threshold.
        inner = fitted.threshold[fitted.children_left >= 0]
        found = np.unique([values.min(), *inner, values.max()])
        edges[feature] = np.pad(found, (0, bins + 1 - len(found)), mode="edge")
    return edges * scale[:, None] + shift[:, None]
