"""A model for small devices: TensorFlow's converter makes a LiteRT file (.tflite) of it.

It takes one example, ready as training has it, and gives its probabilities. In a file of int8 the
weights and the sums within are whole numbers; input and output stay as they are.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.standardization import Standardization
from records.sets.schema import IMAGE, TABULAR
from records.system.quiet import native_lines
from train.folders.model_input import ModelInput

# Columns of a table are shifted and scaled in float: as int8 of one scale the small ones vanish.
_IN_FLOAT = ["SUB", "DIV", "MUL", "MAXIMUM"]


def input_name(wanted: ModelInput) -> str:
    """What the input is called in the file's only signature, `serving_default`."""
    return {IMAGE: "picture", TABULAR: "features"}.get(wanted.modality, "token_ids")


def convert(model: keras.Model, wanted: ModelInput, calibration: np.ndarray | None = None) -> bytes:
    """The bytes of a .tflite file.

    Its input is float32 [1, F], uint8 [1, S, S, C], or int32 [1, T] padded with 0 on the right; its
    output `probabilities` float32 [1, C].

    Args:
      calibration: inputs [n, ...] by which ranges of int8 are chosen; None for a file of float32.

    Raises:
      ValueError: the converter knows no such operation or type; says which.
    """
    name, call = input_name(wanted), _make_call(model)
    shape = wanted.spec.shape if wanted.spec.shape[0] else [wanted.sequence_length]
    spec = tf.TensorSpec([1, *shape], wanted.spec.dtype, name=name)

    def predict(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(tf.cast(call(inputs), tf.float32))}

    root = tf.Module()
    # Keras's own objects keep their variables from the converter.
    root.variables_kept = [variable.value for variable in model.variables]
    root.predict = tf.function(predict, input_signature=[spec], autograph=False)
    concrete = root.predict.get_concrete_function()
    try:
        with warnings.catch_warnings(), native_lines():
            warnings.simplefilter("ignore")
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], root)
            converted = (
                converter.convert() if calibration is None else _quantize(converter, calibration)
            )
            _interpreter(converted)  # a type that no kernel takes is met here
    except Exception as error:  # the converter raises some five kinds
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"export: a model that LiteRT can hold expected, received one that TensorFlow's "
            f"converter refuses: {reason}. Export it as a SavedModel: --format savedmodel"
        ) from error
    return bytes(converted)


def _make_call(model: keras.Model) -> Any:
    """From inputs to logits; what scales a table's columns is held apart from what follows."""
    scales = [layer for layer in model.layers if isinstance(layer, Standardization)]
    if not scales:
        return lambda inputs: model(inputs, training=False)
    rest = keras.Model(scales[0].output, model.output)
    # Else the converter would scale the next layer's weights instead of its input.
    return lambda inputs: rest(tf.maximum(scales[0](inputs), tf.float32.min), training=False)


def _quantize(converter: Any, calibration: np.ndarray) -> bytes:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in calibration)
    if calibration.ndim != 2 or calibration.dtype.kind != "f":
        return bytes(converter.convert())
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_IN_FLOAT)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=converter.representative_dataset,
        debug_options=options,
    )
    return bytes(debugger.get_nondebug_quantized_model())


def _interpreter(content: bytes) -> Any:
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    return interpreter


def predict_small(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """Probabilities float32 [n, C] that a .tflite file gives for inputs [n, ...], one by one."""
    with warnings.catch_warnings(), native_lines():
        warnings.simplefilter("ignore")  # TensorFlow's own interpreter is to become a package
        run = _interpreter(content).get_signature_runner()
        (name,) = run.get_input_details()
        return np.concatenate([run(**{name: row[None]})["probabilities"] for row in inputs])
