"""A model for small devices: TensorFlow's converter makes a LiteRT file (.tflite) of it.

It takes one example, ready as training has it, and gives its probabilities or numbers. In a file of
int8 the weights and the sums within are whole numbers; input and output stay as they are.
"""

import os
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.standardization import Standardization
from records.sets.schema import IMAGE, TABULAR
from records.sets.target import MULTI_LABEL
from records.system.quiet import native_lines
from train.folders.model_input import ModelInput

_COARSE = 1e-3  # a step of float32, in deviations of a number
# Columns of a table are shifted and scaled in float: as int8 of one scale the small ones vanish.
_IN_FLOAT = ["SUB", "DIV", "MUL", "MAXIMUM"]


def input_name(wanted: ModelInput) -> str:
    """What the input is called in the file's only signature, `serving_default`."""
    return {IMAGE: "picture", TABULAR: "features"}.get(wanted.modality, "token_ids")


def convert(model: keras.Model, wanted: ModelInput, calibration: np.ndarray | None = None) -> bytes:
    """The bytes of a .tflite file.

    Its input is float32 [1, F], uint8 [1, S, S, C], or int32 [1, T] padded with 0 on the right; its
    output `probabilities` float32 [1, C], or of numbers `predicted` float32 [1, C].

    Args:
      calibration: inputs [n, ...] by which ranges of int8 are chosen; None for a file of float32.

    Raises:
      ValueError: the converter knows no such operation or type; says which.
    """
    if wanted.scale is not None:  # its units are float64, which LiteRT does not multiply
        _check_float32(wanted)
        model = keras.Model(model.inputs[0], model.get_layer("units").input)
    name, call = input_name(wanted), _make_call(model)
    shape = wanted.spec.shape if wanted.spec.shape[0] else [wanted.sequence_length]
    spec = tf.TensorSpec([1, *shape], wanted.spec.dtype, name=name)

    def predict(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.cast(call(inputs), tf.float32)
        if wanted.scale is not None:
            mean, deviation = (tf.constant(values, tf.float32) for values in wanted.scale)
            return {"predicted": outputs * deviation + mean}
        is_several = wanted.task == MULTI_LABEL
        return {"probabilities": (tf.sigmoid if is_several else tf.nn.softmax)(outputs)}

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


def _check_float32(wanted: ModelInput) -> None:
    """Raises ValueError for numbers of which float32 would round off what was learned."""
    for name, mean, deviation in zip(wanted.class_names, *(wanted.scale or ()), strict=True):
        step = np.spacing(np.float32(abs(mean)))
        if step > _COARSE * deviation:
            raise ValueError(
                f"export: numbers that float32 keeps expected, in which LiteRT computes, received "
                f"{name!r} of mean {mean:.12g} and deviation {deviation:.6g}, which would be "
                f"rounded to {step:g}. Export a SavedModel, or predict the difference from a "
                "fixed number"
            )


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
    """What a .tflite file gives for inputs [n, ...], one by one: float32 [n, C]."""
    with warnings.catch_warnings(), native_lines():
        warnings.simplefilter("ignore")  # TensorFlow's own interpreter is to become a package
        run = _interpreter(content).get_signature_runner()
        (name,) = run.get_input_details()
        (output,) = run.get_output_details()
        return np.concatenate([run(**{name: row[None]})[output] for row in inputs])
