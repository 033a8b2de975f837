"""Parts of Keras outside its public API that `train` uses, each with its reason.

Nothing else in `train` touches such a part. Keras is pinned; for each part a test in
`tests/train/step/keras_private_test.py` fails when Keras changes it.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf


def leave_out_reduction(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes `optimizer.apply` take the gradients as they are, summed over the replicas already.

    Keras 3 has no flag to skip its own sum (keras#19308); with it the gradients of R replicas
    would count R times.
    """
    optimizer._all_reduce_sum_gradients = lambda pairs: list(pairs)


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model, those inside models and wrappers too; `model.layers` has no inner."""
    return list(model._flatten_layers())


def replace_moments(
    layer: keras.layers.BatchNormalization, moments: Callable[[Any, Any], tuple[Any, Any]]
) -> None:
    """Lets `moments`, (inputs, mask) -> (mean, variance), give a layer's statistics in training.

    `synchronized=True` adds up the replicas, but counts padding as rows.
    """
    layer._moments = moments


def seed_generators(
    model: keras.Model,
) -> list[tuple[keras.layers.Layer, keras.random.SeedGenerator]]:
    """The generators from which dropout and other random layers draw, each with its layer.

    Keras lists them by layer only, in an attribute that is not public. They are in the order of the
    model's variables, which is that of a part of the model as well; the order of layers is not.
    """
    pairs = ((layer, g) for layer in all_layers(model) for g in layer._seed_generators)
    found = {id(generator.state): (layer, generator) for layer, generator in pairs}
    return [found[id(v)] for v in model.variables if id(v) in found]


def replace_seeds(generator: keras.random.SeedGenerator, seed: Callable[[], Any]) -> None:
    """Lets `seed()` give the seed, int [2], of the generator's next draw; None: Keras's own."""
    own = type(generator).next

    def following(ordered: bool = True) -> Any:
        given = seed()
        return own(generator, ordered) if given is None else given

    generator.next = following


_current = threading.local()


@contextlib.contextmanager
def host_loops(wanted: bool) -> Iterator[None]:
    """Leaves the condition of recurrent layers' loops in the host's memory, where `wanted`.

    Keras gives such a loop two limits, which are the same; TensorFlow joins them by a LogicalAnd,
    which has a kernel on GPUs: the host would wait for its result at every token. Only XLA needs
    both. Not for layers that cuDNN computes, which have no loop.
    """
    before = getattr(_current, "host_loops", False)
    _current.host_loops = wanted
    try:
        yield
    finally:
        _current.host_loops = before


class _TensorFlow:
    """The module `tensorflow` for Keras's recurrent layers, with another `while_loop`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(tf, name)

    def while_loop(self, *arguments: Any, **options: Any) -> Any:
        """As TensorFlow's."""
        if getattr(_current, "host_loops", False):
            options.pop("maximum_iterations", None)
        return tf.while_loop(*arguments, **options)


# By name: the package's attribute `rnn` is the function of that module.
_rnn: Any = importlib.import_module("keras.src.backend.tensorflow.rnn")
_rnn.tf = _TensorFlow()
