"""Shifts and scales a table's features, in the precision in which they are stored."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable("records_to_models")
class Standardization(keras.layers.Layer):
    """(x - mean) / deviation of [B, F] in the input's dtype, and only then in float32.

    Keras's own layer first makes float32 of the input, in which 1,700,000,001 is 1,700,000,000.
    And it divides by 1e-7 at least: a column of nanometres would stay near 0.
    """

    def __init__(self, mean: Sequence[float], deviation: Sequence[float], **options: Any):
        """`mean` and `deviation` [F]; `options` are a layer's, its `dtype` the input's."""
        super().__init__(**options)
        # Tensors, not constants of the graph: XLA would multiply by their rounded reciprocal.
        self.mean = keras.ops.convert_to_tensor(mean, self.compute_dtype)
        self.deviation = keras.ops.convert_to_tensor(deviation, self.compute_dtype)

    def call(self, x: Any) -> Any:
        """float32 [B, F]."""
        return keras.ops.cast((x - self.mean) / self.deviation, "float32")

    def get_config(self) -> dict[str, Any]:
        """Numbers as Python's own, which JSON keeps to the last digit."""
        kept = {"mean": self.mean.numpy().tolist(), "deviation": self.deviation.numpy().tolist()}
        return {**super().get_config(), **kept}


def in_units(model: keras.Model, mean: Any, deviation: Any) -> keras.Model:
    """The model with its outputs [B, D] times `deviation` [D] plus `mean` [D], in float64.

    What it gives is then in the units of its targets; it learns in those of their deviation. In
    float32 a time stamp would be known to 128 seconds.
    """
    scale, offset = (np.asarray(values, np.float64).tolist() for values in (deviation, mean))
    units = keras.layers.Rescaling(scale, offset, dtype="float64", name="units")
    return keras.Model(model.inputs[0], units(model.outputs[0]), name=model.name)


def output_dtype(model: keras.Model) -> str:
    """In which a model's outputs are used: float64 of `in_units`, else float32."""
    outputs = getattr(model, "outputs", None)
    return "float64" if outputs and outputs[0].dtype == "float64" else "float32"


def _scale(mean: np.ndarray, variance: np.ndarray, dtype: str) -> np.ndarray:
    """What features are divided by, [F] of `dtype`: their deviation, or 1 where it is noise."""
    deviation = np.sqrt(np.asarray(variance, np.float64))
    # Less than the step between the numbers that the dtype has there is rounding noise.
    noise = np.spacing(np.abs(np.asarray(mean, dtype))) / 2
    # The square of a small deviation would be no float32; else the root of a float32 is taken, so
    # that earlier results stay as they are.
    rooted = np.sqrt(np.asarray(variance, dtype))
    deviation = np.where(deviation < 1e-15, deviation, rooted)
    return np.where(deviation <= noise, 1.0, deviation)


def build_standardization(mean: np.ndarray, variance: np.ndarray, inputs: Any) -> Standardization:
    """Builds the layer that maps inputs [B, F] to float32 (x - mean) / deviation.

    It computes in the inputs' dtype, float32 or float64, whatever the policy: raw features may
    exceed 65504, the largest float16. A constant feature is divided by 1, as scikit-learn does, so
    it gives 0 and never NaN.

    Raises:
        ValueError: shapes other than [F], or statistics that are not finite.
    """
    features = inputs.shape[-1]
    for name, values in (("mean", mean), ("variance", variance)):
        if np.shape(values) != (features,):
            raise ValueError(
                f"model: {name} expected shape [{features}], received {list(np.shape(values))}"
            )
        # As float32, in which the model goes on.
        with np.errstate(over="ignore"):
            wrong = np.flatnonzero(~np.isfinite(np.asarray(values, np.float32)))
        if wrong.size:
            raise ValueError(
                f"model: {name} expected finite numbers, received {np.asarray(values)[wrong]} at "
                f"features {wrong.tolist()}"
            )
    dtype = str(inputs.dtype)
    return Standardization(
        np.asarray(mean, np.float64).tolist(),
        _scale(mean, variance, dtype).tolist(),
        dtype=dtype,
        name="normalization",
    )
