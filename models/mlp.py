"""Multi-layer perceptrons for fixed-length vectors."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from models.config import ModelConfig
from models.standardization import build_standardization


def _bend_features(x: keras.KerasTensor, hinges: int) -> keras.KerasTensor:
    """Appends `hinges` learned ReLU(w x + b) of each feature alone: [B, F] -> [B, F * (1 + h)].

    Features of tables often act by thresholds. A Dense layer has to find these among mixtures of
    all features; here each feature starts with bends spread over its normalised range.
    """
    spread = keras.initializers.RandomUniform
    bent = keras.layers.EinsumDense(
        "bf,fh->bfh",
        output_shape=(x.shape[-1], hinges),
        bias_axes="fh",
        activation="relu",
        # Two objects: one would give weights and biases the same numbers.
        kernel_initializer=spread(-1.5, 1.5),
        bias_initializer=spread(-1.5, 1.5),
        name="hinges",
    )(x)
    bent = keras.layers.Flatten(name="flat_hinges")(bent)
    return keras.layers.Concatenate(name="features_and_hinges")([bent, x])


def build_mlp(
    config: ModelConfig,
    spec: Any,
    num_classes: int,
    *,
    hidden: Sequence[int],
    default_dropout: float,
    hinges: int = 0,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
) -> keras.Model:
    """Builds normalisation -> hinges -> (Dense, ReLU, dropout) per entry of `hidden` -> logits.

    Args:
        config, spec, num_classes, mean, variance: as `models.build_model`; name, hidden and
            dropout of the configuration are used. Without mean and variance nothing is normalised.
        hidden, default_dropout: what stands where the configuration names none.
        hinges: learned bends per feature in front of the first hidden layer; 0 for none.

    Returns:
        Model from [B, F] of the spec's dtype to float32 logits [B, num_classes].

    Raises:
        ValueError: a spec that is not a vector, or unusable statistics.
    """
    shape = tuple(spec.shape)
    if len(shape) != 1 or shape[0] is None:
        raise ValueError(f"model: {config.name} expected input [F], received {list(shape)}")
    if (mean is None) != (variance is None):
        raise ValueError("model: mean and variance must be given together or not at all")
    dropout = default_dropout if config.dropout is None else config.dropout
    inputs = keras.Input(shape, dtype=keras.backend.standardize_dtype(spec.dtype), name="features")
    x = inputs
    if mean is not None and variance is not None:
        x = build_standardization(mean, variance, inputs)(x)
    if hinges:
        x = _bend_features(x, hinges)
    for i, units in enumerate(config.hidden or hidden):
        x = keras.layers.Dense(
            units, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}"
        )(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{i}")(x)
    # float32 whatever the policy: the loss takes logarithms of it.
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=config.name)
