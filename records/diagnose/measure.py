"""Measures the stages of the input pipeline, and the limit of each on this machine.

Without a cache a unit of work goes through read, parse and decode on one thread of the pool, so
their times add up: examples/s = threads / sum of the stages' seconds per example. From a cache
the thread that takes the batches plans them, many at once, and then consumes them while the pool
gathers: the time of the plan comes on top, the slower of the other two holds up the other.
`Report.predict` is that arithmetic, for other times of some stages.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from records import pipeline
from records.examples import AnyOrder, Examples
from records.loading.load import Loader, StageTime
from records.roles import Data
from records.stores.mirror import fetch_all
from records.system.threads import num_threads

_LIMIT_REPEATS = 5
_TAKING = ("order", "consume")  # on the thread that takes the batches; the others on the pool


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage, per example."""

    name: str  # a key of the table in `records.diagnose`
    seconds: float  # time of one thread
    bytes: float  # bytes that come out
    limit_seconds: float  # time of the bare operation on one thread, measured in the same run
    threads: int  # how many of it run at once at most


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run of the pipeline showed."""

    name: str
    cache: str  # "memory", "disk" or "none"
    global_batch_size: int  # B
    rate: float  # examples/s, consumed: every byte of every batch was read
    seconds: float
    stages: tuple[Stage, ...]  # in the order of the data's way

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
        if self.cache == "none":
            # Every thread does all stages of its unit, one after the other.
            return sum(times) / num_threads()
        # Planned in bursts, which the few batches ahead do not bridge.
        order, gather, consume = times
        return order + max(consume, (gather + consume) / num_threads())


def measure(data: Data, global_batch_size: int, seconds: float) -> Report:
    """Runs the pipeline of the training examples for some seconds and measures its stages.

    The data were opened with the cache to look at; one batch goes by before, to warm up.

    Raises:
      ValueError: a record is damaged; names shard, record and byte offset.
    """
    examples = data.examples("train")
    cached = examples.inputs is not None  # decodes now, where it is kept
    order = examples.order(global_batch_size)
    chunks = pipeline.make_chunks(examples, order, (0, 0), 1, slice(None))
    for _ in range(4):
        consume(next(chunks)[0])  # traces, and fills what reads ahead
    times = examples.loader.times
    # What the warm-up and the decoding of the cache took is subtracted.
    before = {name: dataclasses.replace(t) for name, t in times.items()}
    start, count, consuming = time.perf_counter(), 0, 0.0
    while (spent := time.perf_counter() - start) < seconds or count == 0:
        batch = next(chunks)[0]
        taken = time.perf_counter()
        consume(batch)
        consuming += time.perf_counter() - taken
        count += global_batch_size
    if isinstance(chunks, Generator):
        chunks.close()
    if cached:
        limits = gathering_limits(examples, order) | {"consume": consuming / count}
        times["consume"] = StageTime(consuming, count, examples.example_bytes * count)
        before["consume"] = StageTime()
    else:
        limits = loading_limits(examples, global_batch_size)
    return Report(
        data.schema.name,
        data.config.cache,
        global_batch_size,
        count / spent,
        spent,
        tuple(_stage(name, times[name], before[name], limits[name]) for name in limits),
    )


def _stage(name: str, now: StageTime, before: StageTime, limit: float) -> Stage:
    """What was counted since `before`, per example."""
    done = max(1, now.examples - before.examples)
    size = (now.bytes - before.bytes) / done
    threads = 1 if name in _TAKING else num_threads()
    return Stage(name, (now.seconds - before.seconds) / done, size, limit, threads)


def consume(inputs: Any) -> int:
    """Reads every byte of a batch."""
    flat = np.ascontiguousarray(inputs).reshape(-1).view(np.uint8)
    # Eight bytes at a time: summed one by one, this would be the slowest stage.
    whole = len(flat) // 8 * 8
    return int(flat[:whole].view(np.int64).sum()) + int(flat[whole:].sum())


def loading_limits(examples: Examples, rows: int) -> dict[str, float]:
    """Seconds per example of the bare operations on units of some rows, on one thread."""
    schema, index = examples.schema, examples.index
    numbers = np.arange(min(rows, index.num_records))
    bare = Loader(schema, index, examples.loader.decode_rows)
    payloads = bare.reader.read(numbers)
    parsed_rows = bare.rows(numbers, payloads)
    path = index.paths[int(index.shard[0])]
    # 16 bytes of framing per record: length, its CRC, the payload's CRC.
    length = int(index.length[numbers].sum()) + 16 * len(numbers)
    fetch_all([path])  # of a store: here alone can it be compared
    size = min(length, os.path.getsize(path))
    with open(path, "rb", buffering=0) as file:
        read = _least_seconds(lambda: os.pread(file.fileno(), size, 0))
    return {
        "read": read / size * length / len(numbers),
        "parse": _least_seconds(lambda: bare.rows(numbers, payloads)) / len(numbers),
        "decode": _least_seconds(lambda: bare.decode_rows(parsed_rows)) / len(numbers),
    }


def gathering_limits(examples: Examples, order: AnyOrder) -> dict[str, float]:
    """Seconds per example of the bare operations of a cached pipeline, on one thread."""
    steps = min(64, order.steps_per_epoch)
    count = steps * order.global_batch_size
    source = np.ones(2**26, np.uint8)  # larger than a processor's cache, as a split is
    target = np.empty_like(source)
    copy = _least_seconds(lambda: np.copyto(target, source)) / len(source)
    return {
        "order": _least_seconds(lambda: order.examples(0, 0, steps)) / count,
        "gather": copy * examples.example_bytes,
    }


def _least_seconds(call: Callable[[], Any]) -> float:
    """The least of some runs: a limit is what is possible, not what noise allows."""
    call()
    times = []
    for _ in range(_LIMIT_REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
