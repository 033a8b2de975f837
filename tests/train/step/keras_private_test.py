"""Each private part of Keras is there and does what it is used for.

That the numbers are right is tested by `fit_test` and `train_step_test`, on one and two replicas.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from train.step.keras_private import (
    add_rows,
    all_layers,
    host_loops,
    join_updates,
    leave_out_reduction,
    replace_moments,
    replace_seeds,
    seed_generators,
)


def test_the_optimizer_asks_for_the_reduction() -> None:
    """It would sum over the replicas there; what stands in its place gives the pairs back."""
    asked = []

    class Asked(keras.optimizers.SGD):
        def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
            asked.append(len(grads_and_vars))
            return super()._all_reduce_sum_gradients(grads_and_vars)

    variable = keras.Variable([1.0, 2.0])
    for optimizer in (Asked(1.0), Asked(1.0)):
        optimizer.build([variable])
        if asked:
            leave_out_reduction(optimizer)
        optimizer.apply([tf.constant([0.5, 0.5])], [variable])
    assert asked == [1], "once by Keras, never where it is left out"
    np.testing.assert_array_equal(variable.numpy(), [0.0, 1.0])


def test_an_update_is_one_compiled_part() -> None:
    """Of all variables, weight decay included; Keras does nothing of it besides."""
    parts = []

    class Counted(keras.optimizers.SGD):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            parts.append(tf.compat.v1.get_default_graph())
            super().update_step(gradient, variable, learning_rate)

    weight, bias = keras.Variable([1.0, 2.0], name="weight"), keras.Variable([1.0], name="bias")
    optimizer = Counted(0.5, weight_decay=0.25)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build([weight, bias])
    join_updates(optimizer)
    gradients = [tf.constant([1.0, 1.0]), tf.constant([1.0])]
    tf.function(lambda: optimizer.apply(gradients, [weight, bias]), autograph=False)()
    # w - w * decay * rate - gradient * rate
    np.testing.assert_array_equal(weight.numpy(), [0.375, 1.25])
    np.testing.assert_array_equal(bias.numpy(), [0.5])
    assert len(parts) == 2 and parts[0] is parts[1], "one graph for both"
    assert int(optimizer.iterations.numpy()) == 1


def test_inner_layers_and_seeds_are_found() -> None:
    inner = keras.Sequential([keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    wrapped = keras.layers.TimeDistributed(keras.layers.BatchNormalization())
    recurrent = keras.layers.LSTM(2, dropout=0.5, recurrent_dropout=0.5)
    model = keras.Sequential([keras.Input((4, 3)), inner, wrapped, recurrent])
    found = all_layers(model)
    assert {inner, wrapped.layer, inner.layers[1]} <= set(found)
    # One of the dropout layer, one of the recurrent cell: each layer with a mask has its own.
    found_generators = seed_generators(model)
    assert [layer for layer, _ in found_generators] == [inner.layers[1], recurrent.cell]
    states = [v.path for v in model.variables if v.name == "seed_generator_state"]
    assert [generator.state.path for _, generator in found_generators] == states


def test_a_layer_draws_from_the_seed_that_it_is_given() -> None:
    layer, x = keras.layers.Dropout(0.5), tf.ones([1, 64])
    given = [tf.constant([3, 4], tf.int32)]
    replace_seeds(layer.seed_generator, lambda: given[0] if given else None)
    before = layer.seed_generator.state.numpy()
    expected = tf.where(tf.random.stateless_uniform([1, 64], [3, 4]) >= 0.5, 2.0, 0.0)
    np.testing.assert_array_equal(layer(x, training=True), expected)
    np.testing.assert_array_equal(layer.seed_generator.state, before)
    given.clear()
    layer(x, training=True)
    np.testing.assert_array_equal(layer.seed_generator.state, before + [0, 1])


def test_a_recurrent_layers_loop_has_one_condition() -> None:
    """And gives the same: 7 of 9 steps, the rest padding."""
    layer = keras.layers.GRU(3)
    x, mask = tf.random.stateless_normal([2, 9, 4], [1, 2]), tf.sequence_mask([7, 9], 9)
    layer.build(x.shape)
    conditions, outputs = [], []
    for wanted in (False, True):

        @tf.function(autograph=False)
        def call(wanted: bool = wanted) -> tf.Tensor:
            with host_loops(wanted):
                return layer(x, mask=mask)

        library = call.get_concrete_function().graph.as_graph_def().library.function
        conditions.append(any(n.op == "LogicalAnd" for f in library for n in f.node_def))
        outputs.append(call())
    assert conditions == [True, False]
    np.testing.assert_array_equal(*outputs)


def test_argmax_compares_no_int32() -> None:
    """It would on the host; zeros keep their sign, and all else is as before."""
    values = tf.constant([[-0.0, 0.0, -1.0], [0.0, -0.0, -np.inf], [2.0, -np.nan, 1e-45]])

    def several(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        found = keras.ops.argmax(x, -1), keras.ops.argmax(x, -1, keepdims=True)[:, 0]
        return *found, keras.ops.argmin(x[:2], -1), keras.ops.signbit(x)

    call = tf.function(several, autograph=False)
    best, kept, least, negative = call(values)
    np.testing.assert_array_equal(best[:2], [1, 0])
    np.testing.assert_array_equal(best, kept)
    np.testing.assert_array_equal(least, [2, 2])
    np.testing.assert_array_equal(negative, np.signbit(values.numpy()))
    nodes = call.get_concrete_function(values).graph.as_graph_def().node
    assert {n.attr["T"].type for n in nodes if n.op == "Less"} == {tf.int64.as_datatype_enum}


@pytest.mark.parametrize(
    "metric",
    [
        keras.metrics.SparseCategoricalAccuracy(),
        keras.metrics.SparseTopKCategoricalAccuracy(2),
        keras.metrics.MeanSquaredError(),
        keras.metrics.CategoricalAccuracy(dtype="bfloat16"),
        keras.metrics.AUC(),
    ],
    ids=lambda metric: metric.name,
)
def test_rows_are_added_as_by_keras(metric: keras.metrics.Metric) -> None:
    """A row of weight 0 fills the batch up."""
    rng = np.random.default_rng(0)
    outputs = rng.dirichlet(np.ones(4), 7).astype(np.float32)
    y: np.ndarray = rng.integers(0, 4, 7)
    if "sparse" not in metric.name:
        y = np.eye(4, dtype=np.float32)[y]
    weight = tf.constant([1.0] * 6 + [0.0])
    for begin in (0, 3):
        part = y[begin:], tf.constant(outputs[begin:]), weight[begin:]
        add_rows(metric, *part, tf.reduce_sum(part[2]))
    found = [float(metric.result()), *(np.asarray(v).tolist() for v in metric.variables)]
    metric.reset_state()
    for begin in (0, 3):
        metric.update_state(y[begin:], outputs[begin:], sample_weight=weight[begin:])
    expected = [float(metric.result()), *(np.asarray(v).tolist() for v in metric.variables)]
    assert found[0] == pytest.approx(expected[0], abs=1e-6)
    for own, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(np.float32(own), np.float32(other), rtol=1e-6)


def test_rows_of_several_values_are_added_as_by_keras() -> None:
    """Tokens, say: each row counts once, with the mean of its values."""
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(3, 4, 5)).astype(np.float32), rng.integers(0, 5, (3, 4))
    weight = tf.constant([1.0, 1.0, 0.0])
    found, expected = (keras.metrics.SparseCategoricalAccuracy() for _ in range(2))
    add_rows(found, y, tf.constant(outputs), weight, tf.reduce_sum(weight))
    expected.update_state(y, outputs, sample_weight=weight)
    right = (outputs.argmax(-1) == y)[:2].mean()
    assert float(found.result()) == float(expected.result()) == pytest.approx(right)


def test_a_batch_norm_in_training_asks_for_its_moments() -> None:
    layer = keras.layers.BatchNormalization(momentum=0.0)
    inputs = tf.constant([[1.0], [3.0]])
    layer.build(inputs.shape)
    replace_moments(layer, lambda inputs, mask: (tf.constant([7.0]), tf.constant([4.0])))
    layer(inputs, training=True)
    assert float(layer.moving_mean[0]) == 7.0 and float(layer.moving_variance[0]) == 4.0
