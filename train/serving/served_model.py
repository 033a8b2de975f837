"""A model behind raw inputs, as one TensorFlow graph: what `train.export` saves."""

from typing import Any

import keras
import tensorflow as tf

from records.decoding.cleaning_ops import TextEncoder
from records.decoding.decode_ops import decode_pictures
from records.sets.schema import IMAGE, TABULAR
from records.sets.target import MULTI_LABEL, REGRESSION
from train.folders.finished_run import make_call
from train.folders.model_input import ModelInput


class Served(tf.Module):
    """A batch of raw inputs to probabilities, classes and labels; or to numbers and their names."""

    def __init__(self, model: keras.Model, wanted: ModelInput):
        """Wraps a loaded model.

        Raises:
          ValueError: the set does not say how its ids were made, or in another language's rules.
        """
        super().__init__(name="served")
        # What is saved with the graph; Keras's own objects would need Keras to be loaded.
        self.model_variables = [variable.value for variable in model.variables]
        self._wanted, self._call = wanted, make_call(model)
        self._encoder = None
        if wanted.modality not in (TABULAR, IMAGE):
            _check_rule(wanted)
            words = wanted.vocabulary
            self._encoder = TextEncoder(str(wanted.text_rule), words, wanted.sequence_length)

    def signatures(self) -> dict[str, Any]:
        """The traced functions by the name of their signature."""
        spec = tf.TensorSpec([None], tf.string, name="text")
        if self._wanted.modality == IMAGE:
            spec = tf.TensorSpec([None], tf.string, name="picture")
        elif self._wanted.modality == TABULAR:
            columns = len(self._wanted.feature_names)
            spec = tf.TensorSpec([None, columns], self._wanted.dtype, name="features")
        found = {"serving_default": tf.function(self._predict).get_concrete_function(spec)}
        if self._encoder is not None:
            encode = tf.function(lambda text: {"token_ids": self._encoder(text)})
            found["token_ids"] = encode.get_concrete_function(spec)
        return found

    def _predict(self, raw: tf.Tensor) -> dict[str, tf.Tensor]:
        wanted = self._wanted
        if wanted.modality == IMAGE:
            inputs, usable = decode_pictures(
                raw, wanted.image_size, wanted.channels, wanted.max_pixels
            )
        elif self._encoder is None:
            # Not another width, which the model's shift and scale would stretch to its own.
            inputs = tf.ensure_shape(raw, [None, len(wanted.feature_names)])
            usable = tf.reduce_all(tf.math.is_finite(raw), 1)
        else:
            inputs, usable = self._encoder(raw), None
        return self._say(self._call(_filled(inputs))[: tf.shape(inputs)[0]], usable)

    def _say(self, outputs: tf.Tensor, usable: tf.Tensor | None) -> dict[str, tf.Tensor]:
        wanted, names = self._wanted, tf.constant(self._wanted.class_names)
        if wanted.task == REGRESSION:
            found = {"predicted": outputs, "names": names}
            if usable is not None:  # any number would pass for a prediction
                found["predicted"] = tf.where(usable[:, None], outputs, float("nan"))
                found["usable"] = usable
            return found
        if wanted.task == MULTI_LABEL:
            probabilities = tf.sigmoid(outputs)
            found = {"probabilities": probabilities, "classes": names}
            found["decided"] = probabilities >= tf.constant(wanted.thresholds)
        else:
            probabilities = tf.nn.softmax(outputs)
            label = tf.gather(names, tf.argmax(probabilities, 1))
            found = {"probabilities": probabilities, "classes": names, "label": label}
        if usable is not None:
            # No NaN, which some layers turn into a number: who adds probabilities up gets 0 for
            # what is no picture, or a row with a value that is no number.
            found["probabilities"] = tf.where(usable[:, None], probabilities, 0)
            if "label" in found:
                found["label"] = tf.where(usable, label, "")
            else:
                found["decided"] &= usable[:, None]
            found["usable"] = usable
        return found


def _filled(inputs: tf.Tensor) -> tf.Tensor:
    """An empty batch with one row of zeros: TensorFlow's convolutions fail of one without rows."""
    shape = tf.shape(inputs)
    return tf.cond(
        shape[0] > 0, lambda: inputs, lambda: tf.zeros(tf.maximum(shape, 1), inputs.dtype)
    )


def _check_rule(wanted: ModelInput) -> None:
    if wanted.text_rule is None:
        raise ValueError(
            f"export: the ids of {wanted.dataset} expected a known rule from text to ids, "
            "received none: only the set's own builder can make them. Store the text itself in the "
            "set and train on that (--feature)"
        )
    if wanted.text_rule == "clean" and wanted.language != "en":
        raise ValueError(
            f"export: the texts of {wanted.dataset} expected English, whose rules the graph "
            f"repeats, received language {wanted.language!r}. Train with --feature token_ids_basic"
        )
