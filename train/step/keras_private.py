"""Parts of Keras outside its public API that `train` uses, each with its reason.

Nothing else in `train` touches such a part. Keras is pinned; for each part a test in
`tests/train/step/keras_private_test.py` fails when Keras changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def leave_out_reduction(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes `optimizer.apply` take the gradients as they are, summed over the replicas already.

    Keras 3 has no flag to skip its own sum (keras#19308); with it the gradients of R replicas
    would count R times.
    """
    optimizer._all_reduce_sum_gradients = lambda pairs: list(pairs)


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model, those inside models and wrappers too; `model.layers` has no inner."""
    return list(model._flatten_layers())


def replace_moments(
    layer: keras.layers.BatchNormalization, moments: Callable[[Any, Any], tuple[Any, Any]]
) -> None:
    """Lets `moments`, (inputs, mask) -> (mean, variance), give a layer's statistics in training.

    `synchronized=True` adds up the replicas, but counts padding as rows.
    """
    layer._moments = moments


def seed_states(model: keras.Model) -> list[Any]:
    """The states, int [2], from which dropout and other random layers draw.

    Keras keeps them as variables but says of none what it is, except by its name.
    """
    return [v for v in model.variables if v.name.endswith("seed_generator_state")]
