"""Measures the stages of the input pipeline, and the limit of each on this machine.

Without a cache a unit of work goes through read, parse and decode on one thread of the pool, so
their times add up: examples/s = threads / sum of the stages' seconds per example. From a cache
the stages overlap: a stage per core at most runs at once, and the slowest holds up the others.
`Report.predict` is that arithmetic, for other times of some stages.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from records import pipeline
from records.buckets import make_order
from records.data import Data
from records.examples import Examples, Plan
from records.load import Loader, num_threads

_LIMIT_REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage, per example.

    Attributes:
      name: a key of the table in `records.diagnose`.
      seconds: time of one thread.
      bytes: bytes that come out.
      limit_seconds: time of the bare operation on one thread, measured in the same run.
      threads: how many of it run at once at most.
    """

    name: str
    seconds: float
    bytes: float
    limit_seconds: float
    threads: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run of the pipeline showed.

    Attributes:
      name: of the set.
      cache: "memory", "disk" or "none".
      global_batch_size: B.
      rate: examples/s, consumed: every byte of every batch was read.
      seconds: how long it ran.
      stages: in the order of the data's way.
    """

    name: str
    cache: str
    global_batch_size: int
    rate: float
    seconds: float
    stages: tuple[Stage, ...]

    @property
    def bottleneck(self) -> Stage:
        """The stage that takes the most time, given how many of it run at once."""
        return max(self.stages, key=lambda stage: stage.seconds / stage.threads)

    def predict(self, seconds: Mapping[str, float]) -> float:
        """Examples/s if some stages took other seconds per example.

        What the model does not explain of the time (handing over between threads, a busy
        machine) stays as it is.
        """
        rest = max(0.0, 1 / self.rate - self._period({}))
        return 1 / (self._period(seconds) + rest)

    def _period(self, seconds: Mapping[str, float]) -> float:
        """Seconds per example by the model of the module's docstring."""
        times = [seconds.get(stage.name, stage.seconds) for stage in self.stages]
        together = sum(times) / num_threads()
        if self.cache == "none":
            return together
        alone = [t / stage.threads for t, stage in zip(times, self.stages, strict=True)]
        return max(*alone, together)


def measure(data: Data, global_batch_size: int, seconds: float) -> Report:
    """Runs the pipeline of the training examples for some seconds and measures its stages.

    Args:
      data: opened with the cache to look at.
      global_batch_size: B.
      seconds: how long to run, after one batch to warm up.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    examples = data.examples("train")
    cached = examples.inputs is not None  # decodes now, where it is kept
    order = make_order(examples.num_examples, global_batch_size)
    chunks = pipeline.make_chunks(examples, order, (0, 0), 1, slice(None))
    for _ in range(4):
        consume(next(chunks)[0])  # traces, and fills what reads ahead
    before = {name: dataclasses.replace(t) for name, t in examples.loader.times.items()}
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or count == 0:
        consume(next(chunks)[0])
        count += global_batch_size
    if isinstance(chunks, Iterator) and hasattr(chunks, "close"):
        chunks.close()
    if not cached:
        stages = _loading_stages(examples, before, global_batch_size)
    else:
        stages = _gathering_stages(examples, order)
    return Report(
        data.schema.name, data.config.cache, global_batch_size, count / spent, spent, stages
    )


def consume(inputs: Any) -> int:
    """Reads every byte of a batch."""
    flat = np.ascontiguousarray(inputs).reshape(-1).view(np.uint8)
    whole = len(flat) // 8 * 8
    return int(flat[:whole].view(np.int64).sum()) + int(flat[whole:].sum())


def _loading_stages(examples: Examples, before: dict[str, Any], rows: int) -> tuple[Stage, ...]:
    """Read, parse and decode, from what the loader counted since `before`."""
    limits = loading_limits(examples, rows)
    stages = []
    for name, now in examples.loader.times.items():
        done = max(1, now.examples - before[name].examples)
        took, size = now.seconds - before[name].seconds, now.bytes - before[name].bytes
        stages.append(Stage(name, took / done, size / done, limits[name], num_threads()))
    return tuple(stages)


def loading_limits(examples: Examples, rows: int) -> dict[str, float]:
    """Seconds per example of the bare operations on units of some rows, on one thread."""
    schema, index = examples.schema, examples.index
    numbers = np.arange(min(rows, index.num_records))
    bare = Loader(schema, index, examples.loader.decode_rows)
    payloads = bare.reader.read(numbers)
    serialised = tf.constant(payloads.tolist(), tf.string)
    parsed_rows = bare.to_rows(bare.parse_serialised(serialised))
    path = index.paths[int(index.shard[0])]
    length = int(index.length[numbers].sum()) + 16 * len(numbers)
    size = min(length, os.path.getsize(path))
    with open(path, "rb", buffering=0) as file:
        read = _least_seconds(lambda: os.pread(file.fileno(), size, 0))
    return {
        "read": read / size * length / len(numbers),
        "parse": _least_seconds(lambda: bare.parse_serialised(serialised)) / len(numbers),
        "decode": _least_seconds(lambda: bare.decode_rows(parsed_rows)) / len(numbers),
    }


def _gathering_stages(examples: Examples, order: Any) -> tuple[Stage, ...]:
    """Order, gather and deliver, each run alone."""
    size = order.global_batch_size
    plan = Plan(examples, order, (0, 0), 2, 1, slice(None))
    steps = min(plan.stride(), order.steps_per_epoch)
    planned = _least_seconds(lambda: plan.chunks(0, 0, steps)) / (steps * size)
    bare = _least_seconds(lambda: order.examples(0, 0, steps)) / (steps * size)
    numbers = plan.chunks(0, 0, steps)[0]
    calls = [numbers] if plan.gathers_together else list(numbers[:8])
    tensors = examples.host_tensors

    def gather() -> None:
        for rows in calls:
            pipeline.take(*tensors, tf.constant(rows))

    gathered = _least_seconds(gather) / sum(rows.size for rows in calls)
    batch = np.ascontiguousarray(tensors[0][:size].numpy())
    target = np.empty_like(batch)
    copied = _least_seconds(lambda: np.copyto(target, batch)) / size
    delivered = _delivery_seconds(batch) / size
    return (
        Stage("order", planned, 8, bare, 1),
        Stage("gather", gathered, examples.example_bytes, copied, num_threads()),
        Stage("deliver", delivered, examples.example_bytes, delivered, 1),
    )


def _delivery_seconds(batch: np.ndarray) -> float:
    """Seconds per batch that an iterator takes to hand out a tensor, and Python to read it."""
    repeats = 200
    ready = pipeline.repeat_batch(batch, repeats)
    start = time.perf_counter()
    for x in ready:
        consume(x)
    return (time.perf_counter() - start) / repeats


def _least_seconds(call: Callable[[], Any]) -> float:
    """The least of some runs: a limit is what is possible, not what noise allows."""
    call()
    times = []
    for _ in range(_LIMIT_REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
