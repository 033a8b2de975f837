"""`train.fit` against Keras's own `fit`: weights, figures, callbacks, replicas, resume."""

from __future__ import annotations

import csv
import functools
import os
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import records
import train
from tests.support.foreign_models import (
    BATCH,
    CASES,
    CLASS,
    NUMBER,
    PICTURES,
    TABLE,
    VALIDATION,
    WEIGHT,
    N,
    ShareFarOff,
    gated,
    make,
)
from train import keras_fit
from train.engine.callbacks import Callbacks
from train.engine.loop import Interrupted
from train.step.objective import Diverged

L = keras.layers


def fit_theirs(case: str, epochs: int) -> tuple[list[np.ndarray], dict[str, Any]]:
    _, x, y, weight = CASES[case]
    model = make(case)
    validation = (tf.nest.map_structure(lambda a: a[:VALIDATION], x), y[:VALIDATION])
    options: dict[str, Any] = {"batch_size": BATCH, "epochs": epochs, "shuffle": False}
    found = model.fit(x, y, sample_weight=weight, validation_data=validation, verbose=0, **options)
    return model.get_weights(), found.history


def fit_ours(case: str, epochs: int, **options: Any) -> tuple[list[np.ndarray], dict[str, Any]]:
    _, x, y, weight = CASES[case]
    model = make(case)
    validation = (tf.nest.map_structure(lambda a: a[:VALIDATION], x), y[:VALIDATION])
    data = (x, y) if weight is None else (x, y, weight)
    found = train.fit(
        model,
        data,
        validation_data=validation,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        **{"strategy": "one_device", "xla": False} | options,
    )
    return model.get_weights(), found.history


def difference(found: Any, wanted: Any) -> float:
    """The largest difference of weights, and of every figure that Keras has."""
    (weights, history), (theirs, figures) = found, wanted
    assert set(figures) <= set(history)
    apart = [np.abs(a - b).max() for a, b in zip(weights, theirs, strict=True)]
    apart += [np.abs(np.subtract(history[name], figures[name])).max() for name in figures]
    return float(max(apart))


_theirs = functools.cache(fit_theirs)


# The tests of callbacks and of 50 steps train `gated`, too.
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c == "gated" else c for c in CASES]
)
def test_two_replicas_are_keras_fit(case: str) -> None:
    assert difference(fit_ours(case, 2, strategy="mirrored"), _theirs(case, 2)) < 1e-5


@pytest.mark.parametrize(
    "case", [c if c == "residual cnn" else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_one_replica_is_keras_fit(case: str) -> None:
    """Quickly: the two replicas above, and `gated` on one in the tests below."""
    assert difference(fit_ours(case, 2), _theirs(case, 2)) < 1e-6


def test_fifty_steps_compiled() -> None:
    assert difference(fit_ours("gated", 10, xla=True), fit_theirs("gated", 10)) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_compiled_and_in_bfloat16(case: str, policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    bound = 1e-5 if policy == "float32" else 1e-2  # bfloat16 has 8 bits
    theirs = fit_theirs(case, 2)
    assert difference(fit_ours(case, 2, xla=True), theirs) < bound
    if case != "residual cnn":  # BatchNorm at several replicas is refused with XLA
        assert difference(fit_ours(case, 2, xla=True, strategy="mirrored"), theirs) < bound


class Recorder(keras.callbacks.Callback):
    """Notes the calls; halves the rate in mid-epoch 1, ends the training in epoch 3."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def on_batch_end(self, batch: int, logs: Any = None) -> None:  # Keras's old name, too
        self.calls.append(f"batch {batch}")
        if len(self.calls) == 6:
            self.model.optimizer.learning_rate = 0.005
        assert logs is not None and "accuracy" in logs

    def on_test_end(self, logs: Any = None) -> None:
        assert logs is not None and set(logs) == {"loss", "accuracy"}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(f"epoch {epoch}")
        self.model.stop_training = epoch == 3


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_callbacks_are_keras_own(strategy: str, tmp_path: Path) -> None:
    k = keras.callbacks
    recorder = Recorder()
    callbacks = [
        recorder,
        k.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        k.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1, min_delta=10.0),
        k.CSVLogger(str(tmp_path / "log.csv")),
        k.TensorBoard(str(tmp_path / "board")),
        k.TerminateOnNaN(),
    ]
    weights, history = fit_ours(
        "gated", 9, callbacks=callbacks, steps_per_call=2, strategy=strategy
    )
    assert recorder.calls[:4] == ["batch 1", "batch 3", "batch 4", "epoch 0"]
    assert recorder.calls[-1] == "epoch 3" and len(history["loss"]) == 4
    # Halved by hand in epoch 1, then by ReduceLROnPlateau after epochs 1, 2 and 3.
    assert np.allclose(history["learning_rate"], [0.01, 0.005, 0.0025, 0.00125])
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]
    assert len(list((tmp_path / "board").rglob("events*"))) == 2
    again = make("gated")
    again(TABLE[:1])
    again.load_weights(tmp_path / "4.weights.h5")
    for a, b in zip(again.get_weights(), weights, strict=True):
        assert np.array_equal(a, b)


def test_early_stopping_and_schedule_as_in_keras() -> None:
    def callbacks() -> list[keras.callbacks.Callback]:
        stop = keras.callbacks.EarlyStopping(
            monitor="accuracy", patience=1, min_delta=1.0, restore_best_weights=True
        )
        return [stop, keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)]

    model, (_, x, y, _) = make("gated"), CASES["gated"]
    options: dict[str, Any] = {"batch_size": BATCH, "epochs": 6, "shuffle": False, "verbose": 0}
    figures = model.fit(x, y, callbacks=callbacks(), **options).history
    again = make("gated")
    found = train.fit(
        again,
        (x, y),
        batch_size=BATCH,
        epochs=6,
        shuffle=False,
        callbacks=callbacks(),
        strategy="one_device",
    ).history
    assert len(found["loss"]) == len(figures["loss"]) == 2
    assert np.allclose(found["learning_rate"], figures["learning_rate"])
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        assert np.abs(a - b).max() < 1e-6


class Kill(keras.callbacks.Callback):
    """Sends this process a signal in mid-epoch, once."""

    def __init__(self, call: int):
        super().__init__()
        self.left = call

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def with_dropout() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [L.Input((5,)), L.Dense(16, "relu"), L.Dropout(0.5), L.BatchNormalization(), L.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    return model


def test_a_killed_fit_goes_on_to_the_bit(tmp_path: Path) -> None:
    def fit(folder: str, *further: keras.callbacks.Callback) -> Any:
        model = with_dropout()
        stop = keras.callbacks.EarlyStopping(
            monitor="loss", patience=2, min_delta=1.0, restore_best_weights=True
        )
        found = train.fit(
            model,
            (TABLE, CLASS),
            batch_size=BATCH,
            epochs=8,
            callbacks=[stop, *further],
            steps_per_call=2,
            run_dir=str(tmp_path / folder),
            strategy="one_device",
        )
        return model.get_weights(), found.history, stop

    weights, history, stop = fit("whole")
    with pytest.raises(Interrupted):
        fit("killed", Kill(5))  # in the second epoch
    # The kill is no callback of the run that goes on; what EarlyStopping waited for is.
    again, figures, stopped = fit("killed")
    assert len(history["loss"]) == 3 and stop.stopped_epoch == stopped.stopped_epoch == 2
    assert figures == history
    for a, b in zip(again, weights, strict=True):
        assert np.array_equal(a, b)
    # Called once more it trains nothing, and gives the same.
    finished, figures, _ = fit("killed")
    assert figures == history and all(map(np.array_equal, finished, weights))
    assert (tmp_path / "killed" / "model.keras").exists()


def test_a_prepared_set_trains_as_its_dataset_does_in_keras(synthetic_data_dir: Path) -> None:
    data = records.open_data("fetal_health/synthetic", str(synthetic_data_dir), seed=3)

    def model() -> keras.Model:
        keras.utils.set_random_seed(1)
        found = keras.Sequential([L.Input((21,)), L.Rescaling(0.01), L.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        found.compile("sgd", loss, metrics=["accuracy"])
        return found

    theirs, ours = model(), model()
    train_set = records.make_dataset(data, "train", global_batch_size=64, seed=3)
    validation = records.make_dataset(data, "validation", global_batch_size=64)
    wanted = theirs.fit(
        train_set, epochs=2, validation_data=validation, shuffle=False, verbose=0
    ).history
    found = train.fit(ours, data, batch_size=64, epochs=2, strategy="mirrored").history
    assert difference((ours.get_weights(), found), (theirs.get_weights(), wanted)) < 1e-5


def _compiled(**options: Any) -> keras.Model:
    model = keras.Sequential([L.Input((5,)), L.Dense(1)])
    model.compile("sgd", **{"loss": "mse"} | options)
    return model


def _beside(layer: keras.layers.Layer) -> keras.Model:
    """Of which a row's output or loss hangs on the rows of its batch."""
    model = keras.Sequential([L.Input((5,)), layer, L.Dense(1)])
    model.compile("sgd", "mse")
    return model


class Unweighted(ShareFarOff):
    def update_state(self, y: Any, predicted: Any) -> None:  # type: ignore[override]
        super().update_state(y, predicted)


class OwnStep(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def _own_step() -> keras.Model:
    model = OwnStep([L.Input((5,)), L.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (lambda: keras.Sequential([L.Input((5,)), L.Dense(1)]), None, "expected a compiled model"),
        (lambda: _compiled(loss=lambda y, p: keras.ops.mean(y - p)), None, "one value for each"),
        (lambda: _compiled(metrics=[Unweighted()]), None, "received one without sample_weight"),
        (_own_step, None, "expected Keras's own train_step"),
        (_compiled, (TABLE, NUMBER[:-1]), "expected arrays of one length.* received 149, 150"),
        (_compiled, TABLE, r"expected \(x, y\).* received ndarray"),
        (_compiled, (np.array(["a"] * N), NUMBER), "expected numbers, received <U1"),
        (_compiled, (TABLE, (NUMBER, NUMBER)), "models of several outputs"),
        (_compiled, (TABLE.tolist(), NUMBER), "numpy.asarray makes one array"),
        (lambda: _beside(L.Lambda(lambda x: x - keras.ops.mean(x, 0))), None, "expected outputs"),
        (lambda: _beside(L.ActivityRegularization(l2=0.1)), None, "losses that its layers add"),
        (gated, (TABLE, CLASS + 1), r"train. expected classes from 0 to 2, .* received 1 to 3"),
    ],
)
def test_what_cannot_be_right_is_refused(model: Any, data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train.fit(
            model(),
            (TABLE, NUMBER) if data is None else data,
            batch_size=BATCH,
            strategy="one_device",
        )


def test_a_callback_with_the_old_name_alone_is_called() -> None:
    params = {"epochs": 1, "steps": 1, "verbose": 0}
    for found, wanted in ((Recorder(), True), (keras.callbacks.EarlyStopping(), False)):
        callbacks = Callbacks([found], _compiled(), tf.distribute.get_strategy(), params)
        assert callbacks.want_batches == wanted


@pytest.mark.parametrize("rows", ["class_weight", "sample_weight"])
def test_arguments_as_keras_users_give_them(rows: str, capsys: Any, tmp_path: Path) -> None:
    def model() -> keras.Model:
        keras.utils.set_random_seed(1)
        found = keras.Sequential([L.Input((5,)), L.Dense(3, "softmax")], name="mine")
        loss = "sparse_categorical_crossentropy"
        found.compile("sgd", loss, weighted_metrics=["accuracy"], jit_compile=False)
        return found

    weights = {"class_weight": {0: 1.0, 2: 5.0}, "sample_weight": WEIGHT}[rows]
    own: dict[str, Any] = {rows: weights, "validation_split": 0.3, "shuffle": False}
    wanted = model().fit(TABLE, CLASS, epochs=2, verbose=0, **own).history
    verbose = 2 if rows == "class_weight" else 0
    own |= {"callbacks": None, "batch_size": None, "verbose": verbose, "strategy": "one_device"}
    found = train.fit(model(), TABLE, CLASS, epochs=2, run_dir=str(tmp_path / "run"), **own).history
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
    said = capsys.readouterr().out
    assert bool(said) == bool(verbose)
    if verbose:
        for line in (
            "mine on arrays\n  input float32 [5], target int64 []\n",
            "  cache device: they lie there\n  examples: train 105, validation 45\n",
            f"  one_device, 1 replica on CPU, float32, no XLA, seed 0 -> {tmp_path}/run\n",
            "  at most 2 epochs\n  4 steps of 32 examples an epoch\nepoch   1/2  loss ",
        ):
            assert line in said, said


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"clip_nrm": 1.0}, "expected flags among .*clip_norm.* received clip_nrm"),
        ({"initial_epoch": 3}, "expected no initial_epoch: with run_dir the same call goes on"),
        ({"steps_per_epoch": 3}, "an epoch is every example once. .* part of the arrays"),
        ({"validation_split": 1.0}, "a share that leaves examples on both sides, received 1.0"),
        ({"class_weight": {}, "sample_weight": WEIGHT}, "expected one of class_weight, sample"),
        ({"verbose": 3}, "verbose expected 'auto', 0, 1 or 2, received 3"),
    ],
)
def test_arguments_that_are_refused_say_what_to_do(own: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^fit: .*{said}"):
        train.fit(_compiled(), (TABLE, NUMBER), **own)


def test_xla_names_the_layer_that_it_cannot_compile() -> None:
    model = keras.Sequential([L.Input((8, 8, 3)), L.RandomRotation(0.1), L.Flatten(), L.Dense(3)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"received random_rotation\w* \(RandomRotation\)"):
        train.fit(model, PICTURES, np.eye(3)[CLASS], batch_size=50, xla=True, strategy="one_device")


def test_datasets_and_arguments_of_a_prepared_set(synthetic_data_dir: Path) -> None:
    dataset = tf.data.Dataset.from_tensor_slices((TABLE, NUMBER)).batch(8)
    with pytest.raises(ValueError, match="order cannot be taken up .* builders.convert"):
        train.fit(_compiled(), dataset)
    data = records.open_data("fetal_health/synthetic", str(synthetic_data_dir))
    with pytest.raises(ValueError, match="expected no class_weight, validation_data: a prepared"):
        train.fit(_compiled(), data, validation_data=(TABLE, NUMBER), class_weight={0: 2.0})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("--global-batch-size 30 expected", "batch_size=30 expected"),
        ("choose --cache memory or --cache none.", 'choose cache="memory" or cache="none".'),
        ("Choose another --run-dir, or remove", "Choose another run_dir, or remove"),
        ("Choose --no-xla, or --freeze", "Choose xla=False, or --freeze"),
        ("records.verify a --repair DIR", "records.verify a --repair DIR"),
    ],
)
def test_errors_name_the_arguments_of_fit(said: str, expected: str) -> None:
    with pytest.raises(ValueError) as error, keras_fit._in_words_of_fit(None):
        raise ValueError(said)
    assert str(error.value) == expected


@pytest.mark.parametrize("run_dir", [None, "runs/mine"])
def test_a_loss_that_is_no_number_names_what_fit_can_do(run_dir: str | None) -> None:
    with pytest.raises(Diverged) as error, keras_fit._in_words_of_fit(run_dir):
        raise Diverged("the loss is nan", "Choose another --run-dir than /tmp/xyz")
    another = " and another run_dir than runs/mine" * (run_dir is not None)
    assert str(error.value) == (
        "the loss is nan. Where the inputs are as they should be, compile the model with a smaller "
        f'learning rate, or give fit clip_norm=1{another}; on_nan="skip" leaves the update of such '
        "a step out"
    )


def test_a_batch_beyond_the_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size=2000000000 expected rows that fit the"):
        train.fit(_compiled(), (TABLE, NUMBER), batch_size=2 * 10**9, strategy="one_device")


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [(["a"], "fit: .* received 'a'"), ([keras.callbacks.TerminateOnNaN], "Call it: TerminateOnN")],
)
def test_what_is_no_callback_is_named(callbacks: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train.fit(_compiled(), (TABLE, NUMBER), callbacks=callbacks)


def test_metrics_of_one_name_and_those_that_are_built_late_are_as_in_keras() -> None:
    """Weighted and not; F1Score and R2Score make their variables at the first batch."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([L.Input((5,)), L.Dense(1)])
        metrics = ["mae", keras.metrics.R2Score()]
        model.compile("sgd", "mse", metrics=metrics, weighted_metrics=["mae"])
        return model

    options: dict[str, Any] = {"batch_size": BATCH, "epochs": 3, "shuffle": False}
    wanted = make().fit(TABLE, NUMBER, sample_weight=WEIGHT, verbose=0, **options).history
    one = keras.callbacks.TerminateOnNaN()
    data = (TABLE, NUMBER, WEIGHT)
    found = train.fit(
        make(), data, callbacks=one, strategy="one_device", xla=False, **options
    ).history
    assert set(wanted) - set(found) == set() and "weighted_mae" in wanted
    # The last batch is filled up, and the weights of metrics= leave that out.
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)


def test_the_caller_keeps_its_random_operations() -> None:
    train.fit(_compiled(), (TABLE, NUMBER), batch_size=50, strategy="one_device")
    assert tf.random.uniform([2]).shape == (2,), "without a seed: determinism is off again"
