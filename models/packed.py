"""Networks of one structure side by side: one call, one batched product, where M calls were.

A small network leaves a processor idle between its operations: training the folds of a
cross-validation, or several seeds, together costs little more than training one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from models.dropout import HashDropout
from models.mlp import MeanProbability


class _PackedNormalization(keras.layers.Layer):
    """`Normalization` of each network's own statistics, on [M, B, F]."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Two weights [M, 1, F] that are not trained."""
        wanted = (shape[0], 1, shape[-1])
        self.mean = self.add_weight(shape=wanted, trainable=False, name="mean")
        self.variance = self.add_weight(shape=wanted, trainable=False, name="variance")

    def call(self, x: Any) -> Any:
        """(x - mean) / sqrt(variance), as Keras does."""
        return (x - self.mean) / keras.ops.maximum(
            keras.ops.sqrt(self.variance), keras.backend.epsilon()
        )


class _PackedMean(keras.layers.Layer):
    """`MeanProbability` of [M, B, K, C]: [M, B, C]; in training as it is."""

    def __init__(self, inner: MeanProbability, **options: Any):
        super().__init__(**options)
        self._inner = inner

    def call(self, logits: Any, training: bool = False) -> Any:
        """As the class says."""
        if training:
            return logits
        shape = keras.ops.shape(logits)
        flat = keras.ops.reshape(logits, (-1, *logits.shape[2:]))
        mean = self._inner(flat, training=False)
        return keras.ops.reshape(mean, (shape[0], shape[1], mean.shape[-1]))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[M, B, C]."""
        return (*shape[:2], shape[-1])


def pack(networks: Sequence[keras.Model]) -> keras.Model:
    """One model that is M networks side by side, each with its own weights.

    Args:
        networks: of one structure, from `build_model` of a table's model.

    Returns:
        Model from float32 [M, B, F] to float32 logits [M, B, C]: row m is what network m gives.
        In training, of K networks that share a batch each, [M, B, K, C]. A loss that sums over M
        trains each as it would be trained alone: no weight is shared. Dropout masks differ.

    Raises:
        ValueError: a layer of a kind that is not known here.
    """
    first, members = networks[0], len(networks)
    shape = (members, None, *first.inputs[0].shape[1:])
    inputs = keras.Input(batch_shape=shape, dtype="float32", name="features_of_each")
    model = keras.models.clone_model(
        first, input_tensors=inputs, clone_function=lambda layer: _convert(layer, members)
    )
    for layer in model.layers:
        sources = [n.get_layer(layer.name) for n in networks if layer.weights]
        if not sources:
            continue
        weights = zip(*(_weights(source) for source in sources), strict=True)
        layer.set_weights([_stack(w, v) for w, v in zip(weights, layer.weights, strict=True)])
    return model


def _convert(layer: keras.layers.Layer, members: int) -> keras.layers.Layer:
    """The layer of M networks in place of one of each."""
    if isinstance(layer, keras.layers.InputLayer):
        return layer
    config = layer.get_config()
    common = {"name": layer.name, "dtype": layer.dtype_policy, "trainable": layer.trainable}
    if isinstance(layer, keras.layers.Normalization):
        return _PackedNormalization(**common)
    if isinstance(layer, MeanProbability):
        return _PackedMean(MeanProbability.from_config(config), **common)
    if isinstance(layer, keras.layers.Dense):
        shape, equation, axes = (None, layer.units), "mbi,mio->mbo", "mo"
        activation = layer.activation
        return keras.layers.EinsumDense(equation, shape, activation, axes, **common)
    if isinstance(layer, keras.layers.EinsumDense):
        kernel, output = layer.equation.split("->")
        rows, weights = kernel.split(",")
        equation = f"m{rows},m{weights}->m{output}"
        shape = (None, *layer.output.shape[1:])
        axes = f"m{layer.bias_axes}"
        return keras.layers.EinsumDense(equation, shape, layer.activation, axes, **common)
    if isinstance(layer, keras.layers.Flatten):
        size = int(layer.output.shape[-1])
        return keras.layers.Reshape((-1, size), name=layer.name)
    if isinstance(layer, keras.layers.Dropout | HashDropout):
        return HashDropout(layer.rate, layer.seed, **common)
    if isinstance(layer, keras.layers.ReLU | keras.layers.Concatenate):
        return type(layer).from_config(config)
    raise ValueError(
        f"models/packed: {layer.name}: a layer of a table's model expected, received "
        f"{type(layer).__name__}"
    )


def _weights(layer: keras.layers.Layer) -> list[Any]:
    """The weights as the packed layer has them, without M."""
    if isinstance(layer, keras.layers.Normalization):
        return [layer.mean, layer.variance]
    return list(layer.weights)


def _stack(of_each: tuple[Any, ...], variable: Any) -> np.ndarray:
    stacked = np.stack([keras.ops.convert_to_numpy(w) for w in of_each])
    return stacked.reshape(variable.shape)
