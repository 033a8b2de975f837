"""A service worker's side of the data service: the chunks that a trainer asks for, by number.

A trainer (`records.service.trainer`) asks with a small JSON (`Request`); the worker opens its own
copy of the set and makes the chunks whose number is its index, modulo the number of workers.
TensorFlow sends a dataset's graph to the workers and runs it there. Our loader is Python. So the
graph holds `PyFunc` ops, each of which names a Python function of the worker's process by a token,
and `Worker.register` sees to it that its functions have these tokens.
"""

import dataclasses
import functools
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from records.chunks import load_chunk
from records.decoding.input_config import InputConfig
from records.examples import Plan
from records.roles import Data, open_data

# The tokens of a worker's functions. `tf.numpy_function` numbers the functions of a process from 0.
HELLO, COUNT, CHUNK = "pyfunc_0", "pyfunc_1", "pyfunc_2"
# Fits int64, which `Dataset.range` counts in; no trainer gets there.
ENDLESS = 2**62
# Sets that stay open, each with its decoded examples: another trainer may use other settings.
_OPEN_SETS = 2
_OPEN_REQUESTS = 32


@dataclasses.dataclass(frozen=True)
class Request:
    """Which chunks a trainer wants: all that a chunk depends on, besides its number."""

    dataset: str  # `name/config/version`, below the worker's data directory
    fingerprint: str  # the content of the trainer's copy; the worker's must be the same
    role: str  # of the examples, such as `train`
    inputs: dict[str, Any]  # fields of `InputConfig`, without the cache
    seed: int  # names the validation cut
    length_buckets: int  # as `make_order`
    order: dict[str, Any]  # `state` of the trainer's order; the worker's must be the same
    start: tuple[int, int]  # (epoch, step) of the first chunk
    chunk_steps: int  # K
    rows: tuple[int, int]  # the replica's part [from, to) of each global batch
    # dtype and label_dtype: NumPy names of the inputs' and the labels' dtype.
    dtype: str
    label_dtype: str = "int32"

    def to_json(self) -> str:
        """The request as it goes to the workers."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


class Worker:
    """Makes the chunks of one service worker, the one of number `index` among `of`."""

    def __init__(self, index: int, of: int, data_dir: str | None, cache: str):
        """Opens nothing yet; `data_dir` and `cache` as `open_data`."""
        self.index, self.of = index, of
        self.address = ""  # where trainers reach it; set before its server starts
        self._data_dir, self._cache = data_dir, cache
        self._lock = threading.Lock()
        self._opened = functools.lru_cache(_OPEN_SETS)(self._open)
        self._planned = functools.lru_cache(_OPEN_REQUESTS)(self._plan)

    def register(self) -> None:
        """Lets the graphs that TensorFlow runs in this process call this worker.

        A token of one's own could be had only in a private table of TensorFlow. So these functions
        must be the first of the process that `tf.numpy_function` is given.

        Raises:
          ValueError: they are not, or TensorFlow names functions in another way.
        """
        self._graph = tf.Graph()  # the functions are registered as long as it exists
        with self._graph.as_default():
            calls = [
                tf.numpy_function(f, [], tf.int64) for f in (self.hello, self.count, self.chunk)
            ]
        tokens = [call.op.get_attr("token").decode() for call in calls]
        if tokens != [HELLO, COUNT, CHUNK]:
            raise ValueError(
                f"data service: the worker's functions expected as {HELLO}, {COUNT} and {CHUNK}, "
                f"received {', '.join(tokens)} from TensorFlow {tf.__version__}. Start each worker "
                "in a process of its own, with the version of TensorFlow in constraints.txt"
            )

    def hello(self) -> list[Any]:
        """[index int64 [], of int64 [], address]."""
        return [np.int64(self.index), np.int64(self.of), self.address.encode()]

    def count(self, index: np.ndarray) -> np.ndarray:
        """int64 []: how many chunks of the worker `index` this one makes; all or none."""
        return np.array(ENDLESS if index == self.index else 0, np.int64)

    def chunk(self, request: bytes, mine: np.ndarray) -> list[Any]:
        """The worker's own chunk number `mine`, from 0.

        Returns:
          [error, number int64 [], inputs, labels, weights, keys, steps, lengths]: a message in
          `error` goes to the trainer, and what follows it is empty then; else as `make_chunks`.
        """
        number = self.index + self.of * int(mine)
        try:
            with self._lock:  # opens, decodes a table and plans once, whoever asks
                plan, chunks = self._planned(request)
                epoch, step, row = plan.place(number)
                chunk = tuple(array[row] for array in chunks(epoch, step))
            return [b"", np.int64(number), *load_chunk(plan.examples, chunk)]
        except (ValueError, OSError) as error:
            # The op's types are fixed, also where only the error counts.
            asked = json.loads(request)
            dtypes = asked["dtype"], asked["label_dtype"], "float32", "int64", "int64", "int64"
            return [str(error).encode(), np.int64(number), *(np.zeros(0, d) for d in dtypes)]

    def _open(self, dataset: str, inputs: str, seed: int) -> Data:
        config = InputConfig(**json.loads(inputs), cache=self._cache)
        return open_data(dataset, self._data_dir, config, seed)

    def _plan(self, request: bytes) -> tuple[Plan, Callable[[int, int], tuple[np.ndarray, ...]]]:
        """(the plan of a request, its `chunks` with the last calls kept)."""
        asked = Request(**json.loads(request))
        data = self._opened(asked.dataset, json.dumps(asked.inputs), asked.seed)
        # Other shards under the same name would train on other examples, and nothing would show it.
        if data.opened.fingerprint != asked.fingerprint:
            raise ValueError(
                f"{data.schema.directory}: fingerprint expected {asked.fingerprint} (the "
                f"trainer's), received {data.opened.fingerprint}. Copy the trainer's set to "
                "this worker"
            )
        examples = data.examples(asked.role)
        order = examples.order(
            asked.order["global_batch_size"],
            asked.order["seed"],
            asked.order["shuffle"],
            shuffle_block=asked.order.get("shuffle_block"),
            length_buckets=asked.length_buckets,
        )
        # Chunks are planned here: they must be those of the order that the trainer counts its steps
        # by.
        if order.state != asked.order:
            raise ValueError(
                f"{data.schema.name}: order of examples expected {asked.order} (the trainer's), "
                f"received {order.state}. Run the same version of the project on both sides"
            )
        epoch, step = asked.start
        rows = slice(*asked.rows)
        plan = Plan(examples, order, (epoch, step), ENDLESS, asked.chunk_steps, rows)
        # One call plans many chunks, and neighbouring ones ask for the same call.
        return plan, functools.lru_cache(2)(plan.chunks)
