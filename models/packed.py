"""Networks of one structure side by side: one call, one batched product, where M calls were.

A small network leaves a processor idle between its operations: training the folds of a
cross-validation, or several seeds, together costs little more than training one.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.dcn import MeanProbability
from models.dropout import HashDropout
from models.standardization import Standardization

# Layers that work on each number, or on the last axes, whatever stands in front.
_SAME = (
    MeanProbability,
    keras.layers.Add,
    keras.layers.Concatenate,
    HashDropout,
    keras.layers.Multiply,
    keras.layers.ReLU,
)


class _PackedStandardization(keras.layers.Layer):
    """`Standardization` by each network's own statistics, on [M, B, F]."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Two weights [M, 1, F] that are not trained, in the input's dtype."""
        wanted = (shape[0], 1, shape[-1])
        self.mean = self.add_weight(shape=wanted, trainable=False, name="mean")
        self.deviation = self.add_weight(shape=wanted, trainable=False, name="deviation")

    def call(self, x: Any) -> Any:
        """float32 [M, B, F]."""
        return keras.ops.cast((x - self.mean) / self.deviation, "float32")


def pack(networks: Sequence[keras.Model]) -> keras.Model:
    """One model that is M networks side by side, each with its own weights.

    Args:
        networks: of one structure, from `build_model` of a table's model.

    Returns:
        Model from [M, B, F] to float32 logits [M, B, C]: row m is what network m gives.
        In training, of models of E networks that share a batch (`dcn`), [M, B, E, C]. A loss that
        sums over M trains each as it would be trained alone: no weight is shared. Dropout masks
        differ.

    Raises:
        ValueError: a layer of a kind that is not known here.
    """
    first, members = networks[0], len(networks)
    shape = (members, None, *first.inputs[0].shape[1:])
    dtype = first.inputs[0].dtype
    inputs = keras.Input(batch_shape=shape, dtype=dtype, name="features_of_each")
    model = keras.models.clone_model(first, input_tensors=inputs, clone_function=_convert)
    for layer in model.layers:
        sources = [n.get_layer(layer.name) for n in networks if layer.weights]
        if not sources:
            continue
        # Networks are of one structure, so weights correspond by their place.
        weights = zip(*(_weights(source) for source in sources), strict=True)
        layer.set_weights([_stack(w, v) for w, v in zip(weights, layer.weights, strict=True)])
    return model


def _convert(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer of M networks in place of one of each."""
    if isinstance(layer, keras.layers.InputLayer):
        return layer
    config = layer.get_config()
    common = {"name": layer.name, "dtype": layer.dtype_policy, "trainable": layer.trainable}
    if isinstance(layer, Standardization):
        return _PackedStandardization(**common)
    if isinstance(layer, keras.layers.Dense):
        between = "k" * (len(layer.output.shape) - 2)  # networks that share the weights
        shape = (None, *layer.output.shape[1:])
        common["dtype"] = _product_dtype(layer)
        equation, axes = f"mb{between}i,mio->mb{between}o", "mo" if layer.use_bias else None
        return keras.layers.EinsumDense(equation, shape, layer.activation, axes, **common)
    if isinstance(layer, keras.layers.EinsumDense):
        kernel, output = layer.equation.split("->")
        rows, weights = kernel.split(",")
        common["dtype"] = _product_dtype(layer)
        equation = f"m{rows},m{weights}->m{output}"
        shape = (None, *layer.output.shape[1:])
        axes = f"m{layer.bias_axes}" if layer.bias_axes else None
        return keras.layers.EinsumDense(equation, shape, layer.activation, axes, **common)
    if isinstance(layer, keras.layers.Flatten | keras.layers.Reshape):
        return keras.layers.Reshape((-1, *layer.output.shape[1:]), name=layer.name)
    if isinstance(layer, keras.layers.Dropout) and layer.noise_shape:
        return type(layer).from_config(config | {"noise_shape": (None, *layer.noise_shape)})
    if isinstance(layer, keras.layers.Dropout):
        # M times the numbers to draw, where Keras's generator is slow, see `models.dropout`.
        return HashDropout(layer.rate, layer.seed, name=layer.name, dtype=layer.dtype_policy)
    if isinstance(layer, _SAME):
        return type(layer).from_config(config)
    raise ValueError(
        f"model: {layer.name}: a layer of a table's model expected, received {type(layer).__name__}"
    )


def _product_dtype(layer: keras.layers.Layer) -> Any:
    """What M layers multiply in: the layer's own dtype; float32 on a CPU.

    A CPU without AVX-512 adds up a batched product of bfloat16 in bfloat16: logits were 0.14 off,
    those of single networks 0.04.
    """
    return layer.dtype_policy if tf.config.list_physical_devices("GPU") else "float32"


def _weights(layer: keras.layers.Layer) -> list[Any]:
    """The weights as the packed layer has them, without M."""
    if isinstance(layer, Standardization):
        return [layer.mean, layer.deviation]
    return list(layer.weights)


def _stack(of_each: tuple[Any, ...], variable: Any) -> np.ndarray:
    stacked = np.stack([keras.ops.convert_to_numpy(w) for w in of_each])
    return stacked.reshape(variable.shape)
