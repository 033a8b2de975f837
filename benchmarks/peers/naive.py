"""tf.data the naive way: what a first notebook writes, no parallelism and no cache of its own.

| kind | way |
|---|---|
| tables | `np.load` of whole arrays, `from_tensor_slices`, `shuffle`, `batch` |
| pictures | `keras.utils.image_dataset_from_directory` at its defaults, |
| | https://keras.io/api/data_loading/image/ |
| texts | raw lines, `shuffle`, `batch`, a `TextVectorization` layer inside `map`, |
| | https://keras.io/api/layers/preprocessing_layers/text/text_vectorization/ |

Keras resizes to float32; the pixels are rounded back to uint8, which is what is asked for.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from protocol import Batch, serve


def _tables(request: dict[str, Any]) -> tf.data.Dataset:
    folder = Path(request["folder"])
    arrays = (
        np.load(folder / "features.npy", allow_pickle=False),
        np.load(folder / "labels.npy", allow_pickle=False),
    )
    dataset = tf.data.Dataset.from_tensor_slices(arrays).shuffle(request["count"])
    return dataset.batch(request["global_batch_size"])


def _pictures(request: dict[str, Any]) -> tf.data.Dataset:
    size, _, channels = request["input_shape"]
    folder = Path(request["folder"], "pictures")
    # By number: as text 10 would come before 2.
    classes = sorted(int(entry.name) for entry in folder.iterdir())
    dataset = keras.utils.image_dataset_from_directory(
        folder,
        class_names=[str(label) for label in classes],
        color_mode="grayscale" if channels == 1 else "rgb",
        batch_size=request["global_batch_size"],
        image_size=(size, size),
        verbose=False,
    )
    labels = tf.constant(classes)
    # Keras counts the folders; the labels are the numbers in their names.
    return dataset.map(lambda x, y: (tf.cast(tf.round(x), tf.uint8), tf.gather(labels, y)))


def _texts(request: dict[str, Any]) -> tf.data.Dataset:
    folder = Path(request["folder"])
    # Not splitlines(): a word may hold a character that ends a line for it.
    texts, words = (
        (folder / name).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for name in ("texts.txt", "words.txt")
    )
    vectorize = keras.layers.TextVectorization(
        max_tokens=request["vocab_size"],
        standardize=None,  # the texts are cleaned already
        output_sequence_length=request["input_shape"][0],
        vocabulary=words,
    )
    arrays = texts, np.load(folder / "labels.npy", allow_pickle=False)
    dataset = tf.data.Dataset.from_tensor_slices(arrays).shuffle(request["count"])
    dataset = dataset.batch(request["global_batch_size"])
    # The layer gives int64: cast to what is asked for.
    return dataset.map(lambda x, y: (tf.cast(vectorize(x), tf.int32), y))


_KINDS = {"tabular": _tables, "image": _pictures, "tokens": _texts}


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Makes the dataset; where nothing is kept (`keep`), every epoch loads the tables anew."""
    make = _KINDS[request["modality"]]
    anew = make is _tables and not request["keep"]
    kept = make(request)

    def epoch() -> Iterator[Batch]:
        yield from (make(request) if anew else kept).as_numpy_iterator()

    return epoch


serve(prepare)
