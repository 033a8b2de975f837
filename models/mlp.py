"""Multi-layer perceptrons for fixed-length vectors."""

from __future__ import annotations

import math
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
                f"models/mlp: {name} expected shape [{num_features}], received {list(values.shape)}"
            )
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise ValueError(
                f"models/mlp: {name} expected finite numbers, received {values[wrong]} at features "
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


def encode_piecewise(x: keras.KerasTensor, edges: np.ndarray) -> keras.KerasTensor:
    """Piecewise-linear encoding of each feature: float32 [B, F] -> [B, F * T] in 0..1.

    Number t of a feature rises from 0 to 1 between its edges t and t + 1, so that a Dense layer
    behind it is a piecewise-linear function of each feature (Gorishniy et al. 2022, "On Embeddings
    for Numerical Features in Tabular Deep Learning", without the unbounded outer bins).

    Args:
        x: raw features.
        edges: float32 [F, T + 1], ascending in each row; equal neighbours make a number that is 0.
    """
    width = np.diff(edges.astype(np.float64), axis=1)
    scale = np.where(width > 0, 1 / np.where(width > 0, width, 1), 0)
    encode = keras.layers.EinsumDense(
        "bf,ft->bft",
        output_shape=(x.shape[-1], width.shape[1]),
        bias_axes="ft",
        trainable=False,
        dtype="float32",
        name="bins",
    )
    encoded = encode(x)
    encode.set_weights([scale, -edges[:, :-1] * scale])
    encoded = keras.layers.ReLU(max_value=1.0, name="bounded_bins")(encoded)
    return keras.layers.Flatten(name="flat_bins")(encoded)


@keras.saving.register_keras_serializable("records_to_models")
class MeanProbability(keras.layers.Layer):
    """Logits of K networks, [B, K, C], as those of their mean probability: float32 [B, C].

    In training they pass as they are: each network has a loss of its own.
    """

    def call(self, logits: Any, training: bool = False) -> Any:
        """As the class says."""
        if training:
            return logits
        return keras.ops.logsumexp(keras.ops.log_softmax(logits), axis=1) - math.log(
            logits.shape[1]
        )

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[B, C], as outside of training."""
        return (shape[0], shape[2])


def _dense(
    x: keras.KerasTensor, units: int, members: int, name: str, **options: Any
) -> keras.KerasTensor:
    """A Dense layer, or one for each of K networks: [B, I] or [B, K, I] -> [B, K, units]."""
    if members == 1:
        return keras.layers.Dense(units, name=name, **options)(x)
    options["kernel_initializer"] = PerNetwork(
        options.pop("kernel_initializer", "glorot_uniform"), 1 if len(x.shape) == 2 else 0
    )
    equation, axes = ("bi,iku->bku", "ku") if len(x.shape) == 2 else ("bki,kiu->bku", "ku")
    layer = keras.layers.EinsumDense(
        equation, output_shape=(members, units), bias_axes=axes, name=name, **options
    )
    return layer(x)


@keras.saving.register_keras_serializable("records_to_models")
class PerNetwork(keras.initializers.Initializer):
    """Draws the kernels [I, O] of K networks one by one: each as if it stood alone."""

    def __init__(self, initializer: Any, axis: int):
        """`axis`: where in the kernel's shape K stands."""
        self.initializer, self.axis = keras.initializers.get(initializer), axis

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """The kernel; each network's numbers are a function of the first's seed."""
        sizes = list(shape)
        members = sizes.pop(self.axis)
        config = self.initializer.get_config()
        make, seed = type(self.initializer).from_config, config.get("seed") or 0
        drawn = [make(config | {"seed": seed + k})(sizes, dtype) for k in range(members)]
        return keras.ops.stack(drawn, axis=self.axis)

    def get_config(self) -> dict[str, Any]:
        """As Keras needs it."""
        return {
            "initializer": keras.initializers.serialize(self.initializer),
            "axis": self.axis,
        }


def build_mlp(
    config: ModelConfig,
    spec: Any,
    num_classes: int,
    *,
    hidden: Sequence[int],
    default_dropout: float,
    hinges: int = 0,
    members: int = 1,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    edges: np.ndarray | None = None,
) -> keras.Model:
    """Builds normalisation -> hinges -> (Dense, ReLU, dropout) per entry of `hidden` -> logits.

    Args:
        config: name, hidden and dropout are used.
        spec: float32 [F], without the batch.
        num_classes: width of the logits.
        hidden: units of each hidden layer.
        default_dropout: rate where the configuration names none.
        hinges: learned bends per feature in front of the first hidden layer; 0 for none.
        members: K, networks that see the same batches and differ in their initial weights and
            dropout; the model's probability is the mean of theirs.
        mean: float32 [F] over the training subset; None leaves the normalisation out.
        variance: float32 [F]; given exactly when `mean` is.
        edges: float32 [F, T + 1], quantiles of each feature over the training subset, for
            `encode_piecewise`; None leaves it out.

    Returns:
        Model from float32 [B, F] to float32 logits [B, num_classes]; in training, where K > 1,
        [B, K, num_classes].

    Raises:
        ValueError: a spec that is not a vector, or unusable statistics.
    """
    shape = tuple(spec.shape)
    if len(shape) != 1 or shape[0] is None:
        raise ValueError(f"models/mlp: {config.name} expected input [F], received {list(shape)}")
    if (mean is None) != (variance is None):
        raise ValueError("models/mlp: mean and variance must be given together or not at all")
    dropout = default_dropout if config.dropout is None else config.dropout
    inputs = keras.Input(shape, dtype="float32", name="features")
    x = inputs
    if mean is not None and variance is not None:
        x = build_normalization(mean, variance, shape[0])(x)
    if hinges:
        x = _bend_features(x, hinges)
    if edges is not None:
        encoded = encode_piecewise(inputs, edges)
        x = keras.layers.Concatenate(name="features_and_bins")([encoded, x])
    for i, units in enumerate(config.hidden or hidden):
        kernel = keras.initializers.HeNormal()
        x = _dense(x, units, members, f"hidden_{i}", activation="relu", kernel_initializer=kernel)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{i}")(x)
    kernel = keras.initializers.GlorotUniform()
    logits = _dense(x, num_classes, members, "logits", dtype="float32", kernel_initializer=kernel)
    if members > 1:
        logits = MeanProbability(dtype="float32", name="mean_probability")(logits)
    return keras.Model(inputs, logits, name=config.name)
