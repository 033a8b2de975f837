"""Keras callbacks in the training loop: their calls, and what a checkpoint keeps of them."""

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from train.engine.arithmetic import FIGURES as ARITHMETIC

# Columns of the history that describe the run, not the quality of the model.
NO_FIGURES = {"epoch", "examples_per_s", "tokens_per_s", "seconds", "damaged", "skipped_steps"}
NO_FIGURES |= set(ARITHMETIC)
_PLAIN = (bool, int, float, str, type(None))


class Callbacks:
    """The callbacks of a run, in the strategy's scope, so that they may set variables."""

    def __init__(
        self,
        callbacks: list[keras.callbacks.Callback],
        model: keras.Model,
        strategy: Any,
        params: dict[str, Any],
    ):
        """Takes the callbacks of `fit`; `params` are Keras's: epochs, steps, verbose."""
        self.history = keras.callbacks.History()
        # 0: nothing is printed; 1: a line that moves within an epoch; 2: a line for each epoch.
        self.verbose = int(params["verbose"])
        self._own, self._model, self._strategy = callbacks, model, strategy
        self._list = keras.callbacks.CallbackList(
            [*callbacks, self.history], add_history=False, add_progbar=False, model=model, **params
        )
        # Figures in mid-epoch are read from the device: only where somebody looks at them.
        hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
        base = keras.callbacks.Callback
        self.want_batches = any(
            getattr(type(c), name) is not getattr(base, name) for c in callbacks for name in hooks
        )

    @property
    def stopped(self) -> bool:
        """A callback asked to end the training."""
        return bool(self._model.stop_training)

    @contextlib.contextmanager
    def training(self, history: list[dict[str, Any]], state: Any) -> Iterator[None]:
        """Around the training; `history` and `state` (`unpack_state`) are those before a resume."""
        with self._strategy.scope():
            self._model.stop_training = False
            self._list.on_train_begin()
            for row in history:
                self.history.on_epoch_end(row["epoch"] - 1, _logs(row))
            for callback, kept in zip(self._own, state or [], strict=False):
                vars(callback).update(kept)
        yield
        with self._strategy.scope():
            self._list.on_train_end(_logs(history[-1]) if history else None)

    def begin_epoch(self, epoch: int) -> None:
        """Before the first step of an epoch, counted from 0."""
        with self._strategy.scope():
            self._list.on_epoch_begin(epoch)

    def begin_call(self, step: int) -> None:
        """Before a call of many steps, the first of which is `step` of the epoch."""
        if self.want_batches:
            with self._strategy.scope():
                self._list.on_train_batch_begin(step)

    def end_call(self, step: int, figures: Mapping[str, Any]) -> None:
        """After a call, whose last step was `step` of the epoch; the epoch's figures so far."""
        with self._strategy.scope():
            self._list.on_train_batch_end(step, dict(figures))

    def validation(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The figures that `measure` gives, told to the callbacks as `evaluate` does."""
        with self._strategy.scope():
            self._list.on_test_begin()
        figures = measure()
        with self._strategy.scope():
            self._list.on_test_end(dict(figures))
        return figures

    def end_epoch(self, row: dict[str, Any]) -> None:
        """After an epoch's validation, with its row of the history."""
        with self._strategy.scope():
            self._list.on_epoch_end(row["epoch"] - 1, _logs(row))

    def state(self) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
        """(plain attributes of each callback, JSON-ready; arrays of their lists, one after the
        other). Enough for Keras's own: what EarlyStopping has waited, its best weights, and the
        function by which it compares, without which it would begin anew.
        """
        arrays: list[np.ndarray] = []
        plain: list[dict[str, Any]] = []
        for callback in self._own:
            found: dict[str, Any] = {}
            for name, value in vars(callback).items():
                if isinstance(value, np.generic):
                    value = value.item()
                if isinstance(value, _PLAIN):
                    found[name] = value
                elif _are_arrays(value):
                    found[name] = {"arrays": [len(arrays), len(arrays) + len(value)]}
                    arrays += value
                elif inspect.isfunction(value) and value.__module__.startswith("keras."):
                    found[name] = {"function": [value.__module__, value.__name__]}
            plain.append(found)
        return plain, arrays


def unpack_state(plain: list[dict[str, Any]], arrays: list[np.ndarray]) -> list[dict[str, Any]]:
    """The attributes of each callback, of what `Callbacks.state` gave."""

    def unpack(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "arrays" in value:
            return arrays[slice(*value["arrays"])]
        module, name = value["function"]
        if not module.startswith("keras."):
            raise ValueError(f"checkpoint: expected a function of Keras, received {module}.{name}")
        return getattr(importlib.import_module(module), name)

    return [{name: unpack(value) for name, value in one.items()} for one in plain]


def _are_arrays(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(v) is np.ndarray for v in value)


def _logs(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as Keras's logs: the figures, the rate of learning, and none of our counters."""
    return {name: value for name, value in row.items() if name not in NO_FIGURES}
