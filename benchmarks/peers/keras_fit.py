"""Keras `fit` on data in memory: the same model, optimizer, batch size and examples.

`fit` at its defaults gets NumPy arrays; tuned `fit` gets a cached `tf.data` dataset and the
best of several numbers of steps per call, with and without XLA, found by a short trial.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Steps per call that are tried, besides the whole epoch.
_TRIALS = (1, 8, 64)


@dataclasses.dataclass(frozen=True)
class FitWork:
    """What is trained."""

    model: keras.Model  # a built model; it is copied, its weights included
    optimizer: keras.optimizers.Optimizer  # its settings are copied
    inputs: np.ndarray  # [N, ...]
    labels: np.ndarray  # int32 [N]
    global_batch_size: int  # B; the last batch of an epoch is smaller where B does not divide N

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch."""
        return -(-len(self.labels) // self.global_batch_size)


def check_copy(work: FitWork) -> None:
    """Raises ValueError unless the copy that `fit` trains computes what the model computes."""
    copy = _copy(work)
    rows = work.inputs[:8]
    ours, theirs = np.asarray(work.model(rows)), np.asarray(copy(rows))
    if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        difference = float(np.abs(ours - theirs).max())
        raise ValueError(
            f"benchmark: the copy of {work.model.name} for fit expected equal outputs, "
            f"received ones that differ by {difference:.3g}"
        )


def make_default(work: FitWork, **options: Any) -> Callable[[int], None]:
    """`fit(x, y)` with every other option at its default; the result trains a number of epochs."""
    model = _compile(work, **options)

    def train(epochs: int) -> None:
        size = work.global_batch_size
        model.fit(work.inputs, work.labels, batch_size=size, epochs=epochs, verbose=0)

    train(1)  # traces
    return train


def make_report(work: FitWork) -> Callable[[int], None]:
    """The report's transfer learning: `fit(x, y)` on a whole picture model with frozen backbone.

    At Keras's defaults but for XLA, which Keras 3 turns on by itself: the report's Keras did not,
    and on a CPU it makes convolutions slower (0.14 to 0.28 x, see `train.settings.auto`).
    """
    return make_default(work, jit_compile=False)


def make_mirrored(work: FitWork, strategy: Any) -> Callable[[int], None]:
    """`fit` under a strategy of several replicas: with more steps per call, or XLA, it fails."""
    with strategy.scope():
        train = _make_cached(work, 1, False)
    train(1)  # traces
    return train


def make_tuned(
    work: FitWork, every_setting: bool, progress: Callable[[str], None]
) -> tuple[Callable[[int], None], dict[str, Any]]:
    """The fastest `fit` of the settings tried.

    With `every_setting` whole epochs are tried with fewer steps a call, too, by the better compiler
    setting, and all of them longer. `progress` is told what runs next.

    Returns:
      (train, trials): `train(epochs)`; `trials` names the setting chosen and the seconds that
      an epoch took with each.
    """
    trained: dict[str, Callable[[int], None]] = {}
    seconds: dict[str, float] = {}

    def attempt(steps_per_execution: int, xla: bool) -> float:
        name = f"steps_per_execution={steps_per_execution}, jit_compile={xla}"
        progress(f"trying {name}")
        train = _make_cached(work, steps_per_execution, xla)
        train(1)  # traces and compiles
        # The better of two epochs, where there is time: one hiccup must not rule a setting out.
        seconds[name] = min(_time_epoch(train) for _ in range(2 if every_setting else 1))
        trained[name] = train
        return seconds[name]

    whole = work.steps_per_epoch
    # Whole epochs first: the shorter calls are tried with the better one of these alone.
    plain, compiled = (attempt(whole, xla) for xla in (False, True))
    if every_setting:
        for steps in dict.fromkeys(n for n in _TRIALS if n < whole):
            attempt(steps, compiled < plain)
    best = min(seconds, key=lambda name: seconds[name])
    return trained[best], {"chosen": best, "epoch_seconds": seconds}


def _time_epoch(train: Callable[[int], None]) -> float:
    start = time.perf_counter()
    train(1)
    return time.perf_counter() - start


def _make_cached(work: FitWork, steps_per_execution: int, xla: bool) -> Callable[[int], None]:
    model = _compile(work, steps_per_execution=steps_per_execution, jit_compile=xla)
    dataset = tf.data.Dataset.from_tensor_slices((work.inputs, work.labels)).cache()
    dataset = dataset.shuffle(len(work.labels)).batch(work.global_batch_size)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)

    def train(epochs: int) -> None:
        # The dataset shuffles itself: `fit` warns that it does not shuffle datasets otherwise.
        model.fit(dataset, epochs=epochs, shuffle=False, verbose=0)

    return train


def _compile(work: FitWork, **options: Any) -> keras.Model:
    """A copy of the model, compiled for `fit`, with loss and accuracy as this system keeps."""
    model = _copy(work)
    model.compile(
        optimizer=type(work.optimizer).from_config(work.optimizer.get_config()),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model


def _copy(work: FitWork) -> keras.Model:
    model = keras.models.clone_model(work.model)
    model.set_weights(work.model.get_weights())
    return model
