"""Parts of Keras outside its public API that `train` uses, each with its reason.

Nothing else in `train` touches such a part. Keras is pinned; for each part a test in
`tests/train/step/keras_private_test.py` fails when Keras changes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from train.devices.tensorflow_private import copies_of


def leave_out_reduction(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes `optimizer.apply` take the gradients as they are, summed over the replicas already.

    Keras 3 has no flag to skip its own sum (keras#19308); with it the gradients of R replicas
    would count R times.
    """
    optimizer._all_reduce_sum_gradients = lambda pairs: list(pairs)


def join_updates(optimizer: keras.optimizers.Optimizer) -> None:
    """Compiles what an update does on a replica, weight decay included, to one part.

    For several replicas: Keras asks tf.distribute to update each variable by itself, in some 30
    operations. The part is made where tf.distribute has chosen the replica, so it holds the copies
    of that replica.
    """

    def update(distribution: Any, pairs: list[tuple[Any, Any]], learning_rate: Any) -> None:
        variables = [variable for _, variable in pairs]

        def on_replica(_: Any, gradients: list[Any], learning_rate: Any) -> None:
            def run(gradients: list[Any], learning_rate: tf.Tensor) -> None:
                for variable in variables:
                    if optimizer.weight_decay is not None and optimizer._use_weight_decay(variable):
                        rate = tf.cast(learning_rate, variable.dtype)
                        variable.assign_sub(variable * optimizer.weight_decay * rate)
                for gradient, variable in zip(gradients, variables, strict=True):
                    optimizer.update_step(gradient, variable, learning_rate)

            rate = tf.convert_to_tensor(learning_rate)  # a variable, or what a schedule gives
            tf.function(run, jit_compile=True, autograph=False)(gradients, rate)

        gradients = [gradient for gradient, _ in pairs]
        distribution.extended.update(
            variables[0], on_replica, args=(gradients, learning_rate), group=False
        )

    optimizer._distributed_tf_update_step = update
    optimizer._apply_weight_decay = lambda variables: None


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


# `argmax`, and so accuracy, takes 0.0 for more than -0.0. It asks for the sign of each float32 by a
# comparison of int32, which TensorFlow makes on the host: a GPU would copy there in every step.
# int64 stays on the device. Along an axis the bits of -0.0 tell it in two operations fewer.
_numpy: Any = importlib.import_module("keras.src.backend.tensorflow.numpy")
_signbit, _argmax = _numpy.signbit, _numpy.argmax
_NEGATIVE_ZERO = -(2**31)  # as int32


def _signbit_on_device(x: Any) -> tf.Tensor:
    x = keras.ops.convert_to_tensor(x)
    return _signbit(x) if x.dtype != tf.float32 else tf.less(_bits(x), 0)


def _argmax_on_device(x: Any, axis: int | None = None, keepdims: bool = False) -> tf.Tensor:
    x = keras.ops.convert_to_tensor(x)
    if x.dtype != tf.float32 or axis is None or keepdims or not x.shape.rank:
        return _argmax(x, axis, keepdims)
    x = tf.where(tf.equal(_bits(x), _NEGATIVE_ZERO), -np.finfo(np.float32).tiny, x)
    return tf.argmax(x, axis, tf.int32)


def _bits(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.bitcast(x, tf.int32), tf.int64)


_numpy.signbit, _numpy.argmax = _signbit_on_device, _argmax_on_device


def compiled_metrics(
    model: keras.Model,
) -> tuple[list[keras.metrics.Metric], list[keras.metrics.Metric]]:
    """The built metrics of `compile`: of `metrics=`, and of `weighted_metrics=`.

    `model.metrics` does not say which are which, and those of the first kind get no weights.
    """
    compiled = getattr(model, "_compile_metrics", None)
    if compiled is None:
        return [], []
    groups = (compiled._flat_metrics, compiled._flat_weighted_metrics)
    plain, weighted = ([m for one in g if one is not None for m in one.metrics] for g in groups)
    return plain, weighted


def add_rows(
    metric: keras.metrics.Metric, y: Any, outputs: Any, weight: tf.Tensor, count: tf.Tensor
) -> None:
    """Does `metric.update_state(y, outputs, sample_weight=weight)`.

    `weight` float32 [b] sums to `count`.
    Means of a function over rows take fewer operations here: accuracy 13, Keras's own 21. A small
    model's whole step has 300.
    """
    wrapper = keras.metrics.MeanMetricWrapper
    is_mean = isinstance(metric, wrapper) and type(metric).update_state is wrapper.update_state
    if is_mean and metric.dtype == "float32" and getattr(outputs, "_keras_mask", None) is None:
        values = tf.cast(metric._fn(y, outputs, **metric._fn_kwargs), tf.float32)
        if values.shape.rank:
            if values.shape.rank > 1:
                values = tf.reduce_mean(values, list(range(1, values.shape.rank)))
            metric.total.value.assign_add(tf.reduce_sum(values * weight))
            metric.count.value.assign_add(count)
            return
    metric.update_state(y, outputs, sample_weight=weight)


def build_compiled(model: keras.Model, y: Any, outputs: Any) -> None:
    """Makes the metrics' variables, which Keras would else make inside the traced step."""
    compiled = getattr(model, "_compile_metrics", None)
    if compiled is not None and not compiled.built:
        compiled.build(y, outputs)
    for metric in compiled.metrics if compiled is not None else ():
        # Some make their variables at the first batch only, such as F1Score and R2Score.
        if takes_weights(metric.update_state):
            metric.update_state(y, outputs, sample_weight=np.ones(len(outputs), np.float32))
            metric.reset_state()
    model.compute_loss(y=y, y_pred=outputs)


def takes_weights(update: Callable[..., Any]) -> bool:
    """Whether a metric's `update_state` takes `sample_weight`."""
    parameters = inspect.signature(update).parameters.values()
    return any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters)


def compiled_figures(model: keras.Model) -> dict[str, Any]:
    """What the metrics of `compile` say, under the names that Keras's history has."""
    compiled = getattr(model, "_compile_metrics", None)
    found: dict[str, Any] = {}
    for name, value in (compiled.result() if compiled is not None else {}).items():
        found |= value if isinstance(value, dict) else {name: value}
    return found


def metric_variables(model: keras.Model) -> list[keras.Variable]:
    """The variables of all metrics of `compile`, built or not."""
    compiled = getattr(model, "_compile_metrics", None)
    if compiled is None:
        return []
    given = tf.nest.flatten([compiled._user_metrics, compiled._user_weighted_metrics])
    metrics = [m for m in given if isinstance(m, keras.metrics.Metric)]
    return [v for m in [*metrics, *compiled.metrics] for v in m.variables]


def compiled_digest(model: keras.Model, *further: Any) -> str:
    """Names what `compile` was given and the shapes of the model's weights, not their values."""
    optimizer = keras.saving.serialize_keras_object(model.optimizer)
    optimizer["config"].pop("name")  # counted up in a process: adam_1
    loss = getattr(model.loss, "name", getattr(model.loss, "__name__", model.loss))
    weights = [(tuple(v.shape), v.dtype) for v in model.variables]
    text = json.dumps([optimizer, str(loss), weights, further], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextlib.contextmanager
def placed(strategy: Any, model: keras.Model) -> Iterator[None]:
    """Makes a compiled model's variables anew in the strategy's scope, on every replica; after it
    they are as before, with the values that they got.

    A variable lives where it was made, and a user makes a model before there is a strategy. With
    one replica nothing is to be done.
    """
    if strategy.num_replicas_in_sync == 1:
        yield
        return

    def variables() -> list[keras.Variable]:  # some are made in between
        found = [*model.variables, *model.optimizer.variables, *metric_variables(model)]
        return list({id(v): v for v in found}.values())

    outer = model.optimizer
    optimizers = [outer, getattr(outer, "inner_optimizer", outer)]
    own = [optimizer._distribution_strategy for optimizer in optimizers]
    before = {id(v): v._value for v in variables()}
    with strategy.scope():
        for v in variables():
            v._initialize(copies_of(v)[0].numpy())
    for optimizer in optimizers:
        optimizer._distribution_strategy = strategy
    try:
        yield
    finally:
        for optimizer, strategy in zip(optimizers, own, strict=True):
            optimizer._distribution_strategy = strategy
        for v in variables():
            value = copies_of(v)[0].numpy()
            if id(v) in before:
                v._value = before[id(v)]
                v._value.assign(value)
            else:
                v._initialize(value)


def restore(
    optimizer: keras.optimizers.Optimizer, layers: Iterable[keras.layers.BatchNormalization]
) -> None:
    """Undoes `leave_out_reduction`, and `replace_moments` of the layers."""
    optimizer.__dict__.pop("_all_reduce_sum_gradients", None)
    for layer in layers:
        layer.__dict__.pop("_moments", None)
