"""The seeds of dropout and other random layers: made by the host, before a call, for all its steps.

Keras keeps a seed as a variable that every draw counts up. On a GPU the host would read it back at
each draw, because the random operations take their seeds in the host's memory. A seed here follows
from (seed of the run, generator, replica, step, number of the draw in the step), so nothing of it
need be saved, and masks differ by replica.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.dropout import HashDropout
from records.ordering.order import mix64
from train.step.keras_private import replace_seeds, seed_generators

# Seeds of consecutive steps lie this far apart: a layer may draw that often in one step.
_DRAWS_PER_STEP = 1024
# The divisor by which Keras's TensorFlow backend brings a seed into int32.
_KERAS_DIVISOR = 2**31 - 2


class Seeds:
    """Gives the random layers of one model their seeds."""

    def __init__(self, model: keras.Model, seed: int):
        """Takes over the generators of the model; outside `given` they draw as before."""
        found = seed_generators(model)
        # 62 bits: it stays an int64 with the replica's number added.
        self._bases = np.array([mix64(seed, n) >> 2 for n in range(len(found))], np.int64)
        self._is_hash = [isinstance(layer, HashDropout) for layer, _ in found]
        # Each replica of a MirroredStrategy is traced in a thread of its own.
        self._current = threading.local()
        for n, (_, generator) in enumerate(found):
            replace_seeds(generator, functools.partial(self._next, n))

    def table(self, first_step: int, steps: int, replicas: int) -> np.ndarray:
        """Seeds int32 [steps, replicas, generators, 2] of the first draw of each step."""
        own = self._bases + np.arange(replicas, dtype=np.int64)[:, None]
        step = np.arange(first_step, first_step + steps, dtype=np.int64) * _DRAWS_PER_STEP
        state = np.empty((steps, replicas, len(self._bases), 2), np.int64)
        state[..., 0] = own
        state[..., 1] = step[:, None, None]
        # `HashDropout` reads the low 32 bits, whatever their sign; Keras's layers a remainder. So
        # masks come again after 2^32 / 1024 = 4.2 million steps.
        low = state.astype(np.int32)
        return np.where(np.array(self._is_hash, bool)[:, None], low, state % _KERAS_DIVISOR).astype(
            np.int32
        )

    @contextlib.contextmanager
    def given(self, seeds: tf.Tensor) -> Iterator[None]:
        """Lets the layers of a model call inside draw from seeds int32 [generators, 2]."""
        self._current.seeds, self._current.draws = seeds, [0] * len(self._bases)
        try:
            yield
        finally:
            self._current.seeds = None

    def _next(self, n: int) -> Any:
        """Seed int32 [2] of generator n's next draw; None outside `given`."""
        seeds = getattr(self._current, "seeds", None)
        if seeds is None:
            return None
        draw = self._current.draws[n]
        self._current.draws[n] += 1
        return seeds[n] + tf.constant([0, draw], tf.int32) if draw else seeds[n]
