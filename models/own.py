"""A Keras model of the user's own, named as `package.module:function`."""

import importlib
from typing import Any

import keras
import tensorflow as tf


def is_own(name: str) -> bool:
    """Whether a model's name names a function instead of one of `models.MODELS`."""
    return ":" in name


def build_own(name: str, spec: Any, num_classes: int) -> keras.Model:
    """Calls the function `name` and checks what it gives.

    Args:
        name: `package.module:function`. The function takes (spec, num_classes): `spec` has `.shape`
            and `.dtype` of one example's input, without the batch; uint8 [S, S, C] of pictures,
            float32 or float64 [F] of tables, int32 [None] of texts.

    Returns:
        Model from a batch of inputs to logits [B, num_classes]; a subclassed one is wrapped, so
        that it has an input of known shape. It need not be compiled: optimizer and loss are those
        of the flags.

    Raises:
        ValueError: there is no such function, it fails, or it gives something else.
    """
    module, _, attribute = name.partition(":")
    where = f"model: --model {name}"
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{where} expected package.module:function that Python can import from the current "
            f"folder, received {type(error).__name__}: {error}"
        ) from error
    try:
        found = function(spec, num_classes)
    except (TypeError, ValueError) as error:
        kind = "a model itself" if isinstance(function, keras.Model) else type(error).__name__
        raise ValueError(
            f"{where} expected a function of (spec, num_classes), received {kind}: {error}"
        ) from error
    if not isinstance(found, keras.Model):
        raise ValueError(f"{where} expected a keras.Model, received {type(found).__name__}")
    dtype = keras.backend.standardize_dtype(spec.dtype)
    inputs = keras.Input(tuple(spec.shape), dtype=dtype, name="input")
    try:
        outputs = found(inputs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where} expected a model of one input {dtype} [B, "
            f"{', '.join(map(str, spec.shape))}], which the set has; received {error}"
        ) from error
    shapes = [tuple(output.shape) for output in tf.nest.flatten(outputs)]
    if shapes != [(None, num_classes)]:
        raise ValueError(
            f"{where} expected one output, logits [B, {num_classes}] (no softmax), received "
            f"{', '.join(str(list(shape)) for shape in shapes)}"
        )
    if len(getattr(found, "inputs", None) or ()) == 1:
        _check_logits(where, found)
        return found
    return keras.Model(inputs, outputs, name=found.name)


def _check_logits(where: str, model: keras.Model) -> None:
    """Raises ValueError where the last layer makes probabilities: the loss makes them of logits."""
    last: Any = model
    while isinstance(last, keras.Model):
        last = last.layers[-1]
    activation = getattr(last, "activation", None)
    made = (keras.activations.softmax, keras.activations.sigmoid, keras.activations.log_softmax)
    if isinstance(last, keras.layers.Softmax) or activation in made:
        raise ValueError(
            f"{where} expected logits, as the loss has the softmax, received probabilities of the "
            f"layer {last.name!r}. Leave its activation out"
        )
