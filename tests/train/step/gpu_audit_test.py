"""The audit finds each kind of fault, and none in predictions; `matrix_test` audits the steps."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.gpu_trace import operations_of_loops, partitions_of
from models.augment import augment_images, mix_pairs
from tests.support.gpu_audit import Kind, audit
from tests.support.gpu_audit_table import PAGE, REPOSITORY, rewrite_page, trace_step
from train.devices.strategy import Cluster, make_cluster
from train.devices.tensorflow_private import copies_of
from train.folders.finished_run import open_run
from train.step.feed import Chunk
from train.step.objective import ClassesObjective, NumbersObjective, Objective
from train.step.predictor import PredictStep
from train.step.replicas import all_reduce
from train.step.rows import pack_rows, take_rows
from train.step.train_step import StepOptions, TrainStep


def _loop(body: Any, *arguments: tf.Tensor, counter: Any = tf.int32) -> Any:
    """A function of a loop whose body is `body(i, total, *arguments)` -> total float32 []."""

    def run(steps: tf.Tensor, *arguments: tf.Tensor) -> tf.Tensor:
        def step(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return i + 1, body(i, total, *arguments)

        start = [tf.constant(0, counter), tf.constant(0.0)]
        return tf.while_loop(lambda i, _: i < steps, step, start)[1]

    steps = tf.constant(3, counter)
    return tf.function(run, autograph=False).get_concrete_function(steps, *arguments)


def _kinds(concrete: Any) -> set[Kind]:
    return set(audit(concrete).counts())


def _gather(i: tf.Tensor, total: tf.Tensor, table: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    return total + tf.reduce_sum(tf.cast(tf.gather(table, rows[i]), tf.float32))


ROWS = tf.zeros([4, 8], tf.int64)
ZEROS = np.zeros(3)
# An audit written by others, where it lies beside the real data.
DATA = Path(os.environ.get("SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
OTHER = DATA.parent / "tools" / "gpu_audit.py"
needs_other = pytest.mark.skipif(not OTHER.is_file(), reason=f"{OTHER} is not there")


def test_a_gather_of_bytes_has_no_kernel() -> None:
    pictures = np.zeros((100, 32, 32, 1), np.uint8)
    assert Kind.NO_KERNEL in _kinds(_loop(_gather, tf.constant(pictures), ROWS))
    assert _kinds(_loop(_gather, tf.constant(pack_rows(pictures)), ROWS)) == set()


def test_large_int32_crosses_to_the_device() -> None:
    ids = np.zeros((1000, 32), np.int32)
    assert _kinds(_loop(_gather, tf.constant(ids), ROWS)) == {Kind.TO_DEVICE}
    assert _kinds(_loop(_gather, tf.constant(pack_rows(ids)), ROWS)) == set()


def test_a_counter_of_int64_lies_on_the_device() -> None:
    found = _kinds(_loop(lambda i, total: total + 1.0, counter=tf.int64))
    assert found == {Kind.CONDITION}


def test_a_seed_made_on_the_device_is_read_back() -> None:
    def draw(i: tf.Tensor, total: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return total + tf.random.stateless_uniform([], seeds[i])

    assert _kinds(_loop(draw, tf.zeros([4, 2], tf.int64))) == {Kind.TO_HOST}
    assert _kinds(_loop(draw, tf.zeros([4, 2], tf.int32))) == set()


def test_what_is_compiled() -> None:
    inner = tf.function(lambda x: tf.reduce_sum(x), jit_compile=True)

    def call(i: tf.Tensor, total: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return total + tf.cast(inner(x), tf.float32)

    large = [2**16]
    assert _kinds(_loop(call, tf.zeros(large, tf.int32))) == {Kind.HOST_ARGUMENT}
    assert _kinds(_loop(call, tf.zeros(large, tf.int64))) == set()

    @tf.function(jit_compile=True)
    def shuffled(x: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.index_shuffle(x, [1, 2], 9)

    found = audit(shuffled.get_concrete_function(tf.constant(3))).findings
    assert [f.kind for f in found] == [Kind.NO_XLA_KERNEL] and "RandomIndexShuffle" in str(found[0])


def test_an_augmentation_stays_on_the_device() -> None:
    def augment(i: tf.Tensor, total: tf.Tensor, words: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        pictures = take_rows(words, rows[i], tf.TensorSpec([32, 32, 1], tf.uint8), 0)
        pictures, share = mix_pairs(augment_images(pictures, rows[i]), rows[i], 0.2)
        return total + tf.reduce_sum(pictures) + tf.reduce_sum(share)

    words = tf.constant(pack_rows(np.zeros((100, 32, 32, 1), np.uint8)))
    assert [str(f) for f in audit(_loop(augment, words, ROWS)).findings] == []


def test_the_page_keeps_what_was_not_asked_and_says_what_never_was() -> None:
    old = PAGE.read_text(encoding="utf-8")
    assert rewrite_page(old, []) == old and "|  |" not in old
    empty = rewrite_page("", [])
    assert empty.count("\n| ") == old.count("\n| ")
    assert (
        "| resnet50 | head | 2 | on | not run | not run | not run | not run | not run | " in empty
    )
    assert "| resnet50 | whole | 2 | on | refused |" in empty
    row: dict[str, Any] = {"model": "gru", "what": "training", "xla": False, "replicas": 1}
    row |= {"launches": [1, 2, 3], "reductions": 4, "bytes": 5, "findings": []}
    new = rewrite_page(old, [row])
    assert "| gru | training | 1 | off | 1 | 2 | 3 | 4 | 5 | 0 |" in new
    others = [line for line in old.splitlines() if not line.startswith("| gru |")]
    assert [line for line in new.splitlines() if not line.startswith("| gru |")] == others


def test_launches_and_what_is_folded_are_counted() -> None:
    def body(i: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        return total * tf.cast(tf.reduce_prod(tf.constant([2, 3])), tf.float32)

    report = audit(_loop(body))
    # The product of constants and its cast are folded; the counter, its condition and the
    # multiplication stay, with the identities around them.
    operations = ("Mul", "AddV2", "Less")
    assert report.findings == [] and len(operations) <= report.launches < 12


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_on_accelerators_the_update_is_one_compiled_part(strategy: str) -> None:
    """Fewer than half of the launches, and the same weights but for rounding."""
    found, launches = [], []
    y, objective = np.random.default_rng(1).integers(0, 3, 64), Objective(np.ones(3, np.float32))
    for accelerator in (False, True):
        cluster = dataclasses.replace(make_cluster(strategy), accelerator=accelerator)
        step, chunk = _small_step(cluster, objective, y)
        step.run(chunk, 0)
        found.append(np.concatenate([w.ravel() for w in step.model.get_weights()]))
        for variable in (*step.model.variables, *step.optimizer.variables):
            first, *others = (copy.numpy() for copy in copies_of(variable))
            assert all(np.array_equal(first, other) for other in others), variable.path
        report = audit(step._call.get_concrete_function(*step.arguments(chunk, 0)))
        assert report.findings == []
        launches.append(report.launches)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert launches[1] < 0.5 * launches[0]


def test_a_sum_over_replicas_runs_without_its_sizes() -> None:
    """tf.distribute traces a `Prod` of a constant shape with each; what runs has none."""
    y, objective = np.random.default_rng(1).integers(0, 3, 64), Objective(np.ones(3, np.float32))
    step, chunk = _small_step(make_cluster("mirrored"), objective, y)
    bodies = step._call.get_concrete_function(*step.arguments(chunk, 0)).graph.as_graph_def()
    traced = [node.op for f in bodies.library.function for node in f.node_def]
    ran = [n.op for n in operations_of_loops(partitions_of(lambda: step.run(chunk, 0)))]
    assert traced.count("Prod") == traced.count("CollectiveReduceV2") > 1
    assert "Prod" not in ran and ran.count("CollectiveReduceV2") == traced.count("Prod")


def test_rows_of_all_replicas_come_together_without_a_copy() -> None:
    """Each replica's rows in its place, NaN in its own alone; no number of rows is waited for."""
    strategy = make_cluster("mirrored").strategy
    values = np.array([[1.0, -2.0], [np.nan, 0.5], [3.0, 4.0]], np.float32)
    indices = np.array([2**40 + 1, 0, 7])

    def on_replica() -> list[Any]:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.constant(values) + tf.cast(number, tf.float32)
        slices = tf.IndexedSlices(rows, tf.constant(indices) + tf.cast(number, tf.int64))
        summed, dense = all_reduce([slices, tf.ones([2])])
        return [summed.values, summed.indices, dense]

    def in_a_loop() -> Any:
        def body(i: tf.Tensor, *_: Any) -> Any:
            first = [strategy.experimental_local_results(x)[0] for x in strategy.run(on_replica)]
            return i + 1, *first

        n = strategy.num_replicas_in_sync
        start = [0, tf.zeros([3 * n, 2]), tf.zeros([3 * n], tf.int64), tf.zeros([2])]
        return tf.while_loop(lambda i, *_: i < 2, body, list(map(tf.convert_to_tensor, start)))[1:]

    call = tf.function(in_a_loop, autograph=False)
    numbers = np.arange(strategy.num_replicas_in_sync)
    gathered, at, dense = call()
    np.testing.assert_array_equal(gathered, np.concatenate([values + n for n in numbers]))
    np.testing.assert_array_equal(at, np.concatenate([indices + n for n in numbers]))
    np.testing.assert_array_equal(dense, [len(numbers)] * 2)
    assert [str(found) for found in audit(call.get_concrete_function()).findings] == []


def _small_step(
    cluster: Cluster, objective: Any, targets: Any, hidden: int = 4
) -> tuple[TrainStep, Chunk]:
    """A step of a model of dense layers with three outputs, and four steps of 16 rows."""
    x = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    rows, weights = np.arange(64).reshape(4, 16), np.ones((4, 16), np.float32)
    arrays = _split((x, targets, rows, weights, rows), cluster)
    chunk = Chunk(arrays, weights.sum(1), np.zeros(4, np.int32), 4)
    with cluster.strategy.scope():
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dense(8, "relu") for _ in range(hidden)]
        model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(3)])
        optimizer = keras.optimizers.AdamW(1e-2, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        optimizer.build(model.trainable_variables)
        options = StepOptions(objective, clip_norm=0.1, clip_value=None, xla=False, seed=0)
        step = TrainStep(model, optimizer, cluster, tf.TensorSpec([5]), options, None)
    return step, chunk


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
@pytest.mark.parametrize("objective", [ClassesObjective(3), NumbersObjective(ZEROS, ZEROS + 2.0)])
def test_several_classes_and_numbers_neither_copy_nor_wait(strategy: str, objective: Any) -> None:
    cluster = dataclasses.replace(make_cluster(strategy), accelerator=True)
    dtype = np.float64 if isinstance(objective, NumbersObjective) else np.float32
    step, chunk = _small_step(cluster, objective, np.zeros((64, 3), dtype), hidden=1)
    report = audit(step._call.get_concrete_function(*step.arguments(chunk, 0)))
    assert [str(found) for found in report.findings] == []
    several = cluster.num_replicas if strategy == "mirrored" else 0
    numbers = 5 * 8 + 8 + 8 * 3 + 3
    assert (report.reductions, report.reduced_bytes) == (several, several * numbers * 4)


def _other(concrete: Any) -> dict[Kind, int]:
    """What the audit beside the project's data finds of a function, in this one's words.

    For each sum over the replicas it names the size that tf.distribute asks for: folded, see
    `test_a_sum_over_replicas_runs_without_its_sizes`.
    """
    spec = importlib.util.spec_from_file_location("other_audit", OTHER)
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    report = module.audit(concrete)
    copies = {what: n for what, n in report.copies.items() if what[0] == "device to host"}
    sizes = copies.pop(("device to host", "Prod", "Pack", "int32", 4), 0)
    assert sizes == audit(concrete).reductions
    found = {
        Kind.NO_KERNEL: sum(report.no_gpu.values()),
        Kind.CONDITION: report.device_conditions,
        Kind.TO_HOST: sum(copies.values()),
    }
    return {kind: n for kind, n in found.items() if n}


@needs_other
def test_another_audit_finds_the_same_faults() -> None:
    pictures, words = tf.zeros([100, 32, 32, 1], tf.uint8), tf.zeros([100, 128], tf.int64)
    for concrete in (
        _loop(_gather, words, ROWS),
        _loop(_gather, pictures, ROWS),
        _loop(lambda i, total: total + 1.0, counter=tf.int64),
        _loop(
            lambda i, t, s: t + tf.random.stateless_uniform([], s[i]), tf.zeros([4, 2], tf.int64)
        ),
    ):
        ours = audit(concrete).counts()
        assert {kind: ours.get(kind, 0) for kind in _other(concrete)} == _other(concrete)
        assert set(_other(concrete)) == set(ours) - {Kind.TO_DEVICE}


@needs_other
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
@pytest.mark.parametrize(
    ("model", "what"),
    [
        pytest.param("mlp", "training", marks=pytest.mark.slow),
        pytest.param("gru", "training", marks=pytest.mark.slow),
        pytest.param("efficientnet_lite0", "whole", marks=pytest.mark.slow),
    ],
)
def test_another_audit_finds_nothing_either(
    model: str, what: str, strategy: str, synthetic_data_dir: Path
) -> None:
    """Quick: what both find of the faults above, and our audit of all steps in `matrix_test`."""
    traced = trace_step(model, what, False, "float32", strategy, str(synthetic_data_dir))
    assert _other(traced) == audit(traced).counts() == {}


def _split(arrays: tuple[np.ndarray, ...], cluster: Cluster) -> tuple[Any, ...]:
    """`Chunk.arrays`: every replica has its columns of rows, weights and keys."""
    inputs, labels, *steps = arrays
    size = cluster.num_replicas
    parts = [(inputs, labels, *(np.split(a, size, 1)[i] for a in steps)) for i in range(size)]
    placed = [tuple(map(tf.constant, part)) for part in parts]
    if size == 1:
        return placed[0]
    distribute = cluster.strategy.experimental_distribute_values_from_function
    return tuple(distribute(lambda context: placed[context.replica_id_in_sync_group]))


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_a_prediction_neither_copies_nor_waits(name: str, finished_runs: dict[str, Path]) -> None:
    model = open_run(finished_runs[name]).load_model()
    spec = tf.TensorSpec(*_SPECS[name])
    inputs = np.zeros((40, *spec.shape), spec.dtype.as_numpy_dtype)
    labels, rows = tf.zeros([40], tf.int64), tf.zeros([4, 8], tf.int64)
    arrays = tf.constant(pack_rows(inputs)), labels, rows, tf.zeros([4, 8]), rows
    chunk = Chunk(arrays, np.ones(4, np.float32), np.full(4, 12, np.int32), 4)
    step = PredictStep(model, make_cluster("one_device"), spec)
    report = audit(step._call.get_concrete_function(*step.arguments(chunk)))
    assert [str(found) for found in report.findings] == []


_SPECS: dict[str, tuple[list[int], Any]] = {
    "fetal_health": ([21], tf.float32),
    "brain_tumor_mri": ([32, 32, 1], tf.uint8),
    "song_lyrics": ([12], tf.int32),
}
