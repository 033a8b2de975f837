"""The FLOPs of a step are those of the arithmetic by hand, and of published figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from train.devices.strategy import Cluster, make_cluster
from train.step.feed import Chunk
from train.step.flops import count_flops
from train.step.objective import Objective
from train.step.train_step import StepOptions, TrainStep

B, F, H, C, E, U = 16, 5, 8, 3, 4, 6


def _step(
    make: Callable[[], keras.Model], spec: tf.TensorSpec, cluster: Cluster, **options: Any
) -> TrainStep:
    with cluster.strategy.scope():
        model = make()
        optimizer = keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
        given = {"clip_norm": None, "clip_value": None, "xla": False, "seed": 0} | options
        shape = StepOptions(Objective(np.ones(C, np.float32)), **given)
        return TrainStep(model, optimizer, cluster, spec, shape, None)


def _chunk(inputs: Any, replicas: int = 1, length: int = 0) -> Chunk:
    """Two steps; every replica has so many rows less."""
    rows = np.arange(2 * B // replicas).reshape(2, -1)
    arrays = (inputs, np.zeros(len(inputs), np.int64), rows, np.ones(rows.shape, np.float32), rows)
    counts, lengths = np.full(2, B, np.float32), np.full(2, length, np.int32)
    return Chunk(tuple(map(tf.constant, arrays)), counts, lengths, 2)


def _mlp() -> keras.Model:
    layers = [keras.Input([F]), keras.layers.Dense(H, "relu"), keras.layers.Dense(C)]
    return keras.Sequential(layers)


# Forward, and the gradients of both weights; the input of the first layer has none.
MLP = 2 * B * (2 * F * H + 3 * H * C)


@pytest.mark.parametrize("options", [{}, {"pieces": 4}, {"xla": True}], ids=str)
def test_a_table_is_the_arithmetic_by_hand(options: dict[str, Any]) -> None:
    spec = tf.TensorSpec([F], tf.float32)
    step = _step(_mlp, spec, make_cluster("one_device"), **options)
    chunk = _chunk(np.zeros((2 * B, F), np.float32))
    step.run(chunk, 0)
    assert step.count_flops(chunk, 0) == MLP
    assert step._call.experimental_get_tracing_count() == 1, "the graph was there"


@pytest.mark.parametrize("xla", [False, True])
def test_replicas_do_the_same_together(xla: bool) -> None:
    cluster, inputs = make_cluster("mirrored"), np.zeros((2 * B, F), np.float32)
    step = _step(_mlp, tf.TensorSpec([F], tf.float32), cluster, xla=xla)
    chunk = _chunk(inputs, replicas=2)
    values = [tuple(map(tf.identity, chunk.arrays)) for _ in range(2)]
    chunk.arrays = cluster.strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group]
    )
    chunk.arrays = tuple(chunk.arrays)
    assert step.count_flops(chunk, 0) == MLP


def _gru() -> keras.Model:
    ids = keras.Input([None], dtype="int64")
    x = keras.layers.Embedding(30, E)(ids)
    return keras.Model(ids, keras.layers.Dense(C)(keras.layers.GRU(U, use_cudnn=False)(x)))


@pytest.mark.parametrize("xla", [False, True])
def test_a_loop_over_tokens_counts_times_its_length(xla: bool) -> None:
    step = _step(_gru, tf.TensorSpec([12], tf.int32), make_cluster("one_device"), xla=xla)
    chunk = _chunk(np.zeros((2 * B, 12), np.int32), length=12)

    def by_hand(tokens: float) -> float:
        return 3 * 2 * B * (tokens * 3 * U * (E + U) + U * C)

    assert step.count_flops(chunk, 12) == by_hand(12)
    assert step.count_flops(chunk, 9.25) == pytest.approx(by_hand(9.25), rel=1e-12)


def _concrete(function: Callable[..., Any], *shapes: list[int | None]) -> Any:
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return tf.function(function, autograph=False).get_concrete_function(*specs)


def test_cudnn_counts_as_its_cells() -> None:
    def run(x: Any, h: Any, params: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, params])
            made = tf.raw_ops.CudnnRNNV3(
                input=x,
                input_h=h,
                input_c=0.0,
                params=params,
                sequence_lengths=[7] * B,
                rnn_mode="gru",
                time_major=False,
            )
        return tape.gradient(made.output, [x, params])

    concrete = _concrete(run, [B, None, E], [B, 1, U], [300])
    assert count_flops(concrete, 7) == 3 * 2 * B * 7 * 3 * U * (E + U)


def test_convolutions_and_their_gradients() -> None:
    def run(x: Any, filters: Any, deep: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([filters, deep])
            y = tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME")
            y = tf.nn.conv2d(y, filters, 2, "SAME")
        return y, tape.gradient(y, [filters, deep])

    concrete = _concrete(run, [2, 8, 8, 3], [3, 3, 3, 7], [5, 5, 3, 1])
    depthwise, whole = 2 * 2 * 64 * 3 * 25, 2 * 2 * 16 * 7 * 27
    assert count_flops(concrete) == 2 * depthwise + 3 * whole, "of `x` no gradient is asked for"


def test_products_of_several_matrices() -> None:
    def run(a: Any, b: Any, c: Any) -> Any:
        return tf.matmul(a, b, transpose_b=True), tf.einsum("mbi,mio->mbo", a, c)

    concrete = _concrete(run, [2, 3, 4], [2, 5, 4], [2, 4, 6])
    assert count_flops(concrete) == 2 * 2 * 3 * 4 * 5 + 2 * 2 * 3 * 4 * 6


def test_what_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="no static shape"):
        count_flops(_concrete(lambda a, b: tf.matmul(a, b), [None, 4], [4, 4]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, published",
    [
        # Multiply-adds of a picture of 224 px: EfficientNet (Tan & Le 2019), table 2; ResNet (He et
        # al. 2015), table 1. The 4.1 that is often said is "v1.5", which has its strides elsewhere.
        (keras.applications.EfficientNetB0, 0.39e9),
        (keras.applications.ResNet50, 3.8e9),
    ],
)
def test_published_figures(build: Any, published: float) -> None:
    model = build(weights=None)
    concrete = _concrete(lambda x: model(x, training=False), [1, 224, 224, 3])
    assert math.isclose(count_flops(concrete) / 2, published, rel_tol=0.05)
