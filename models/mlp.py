"""Multi-layer perceptrons for fixed-length vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from models.config import ModelConfig

# A variance this small beside the mean is the rounding noise of a constant float32 column.
_RELATIVE_NOISE = 1e-6


def build_normalization(
    mean: np.ndarray, variance: np.ndarray, num_features: int
) -> keras.layers.Normalization:
    """Builds the layer that maps float32 [B, F] to (x - mean) / sqrt(variance), in float32.

    float32 whatever the policy: raw features may exceed 65504, the largest float16. A constant
    feature is divided by 1, as scikit-learn does, so it gives 0 and never NaN.

    Raises:
        ValueError: shapes other than [F], or statistics that are not finite.
    """
    mean = np.asarray(mean, np.float32)
    variance = np.asarray(variance, np.float32)
    for name, values in (("mean", mean), ("variance", variance)):
        if values.shape != (num_features,):
            raise ValueError(
                f"model: {name} expected shape [{num_features}], received {list(values.shape)}"
            )
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise ValueError(
                f"model: {name} expected finite numbers, received {values[wrong]} at features "
                f"{wrong.tolist()}"
            )
    constant = variance <= np.square(mean * _RELATIVE_NOISE)
    return keras.layers.Normalization(
        mean=mean,
        variance=np.where(constant, np.float32(1.0), variance),
        dtype="float32",
        name="normalization",
    )


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
        config: name, hidden and dropout are used.
        spec: float32 [F], without the batch.
        hidden: units of each hidden layer.
        default_dropout: rate where the configuration names none.
        hinges: learned bends per feature in front of the first hidden layer; 0 for none.
        mean: float32 [F] over the training subset; None leaves the normalisation out.
        variance: float32 [F]; given exactly when `mean` is.

    Returns:
        Model from float32 [B, F] to float32 logits [B, num_classes].

    Raises:
        ValueError: a spec that is not a vector, or unusable statistics.
    """
    shape = tuple(spec.shape)
    if len(shape) != 1 or shape[0] is None:
        raise ValueError(f"model: {config.name} expected input [F], received {list(shape)}")
    if (mean is None) != (variance is None):
        raise ValueError("model: mean and variance must be given together or not at all")
    dropout = default_dropout if config.dropout is None else config.dropout
    inputs = keras.Input(shape, dtype="float32", name="features")
    x = inputs
    if mean is not None and variance is not None:
        x = build_normalization(mean, variance, shape[0])(x)
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
