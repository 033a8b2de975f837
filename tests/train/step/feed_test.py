from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from records.decoding.input_config import InputConfig
from records.opened import open_set
from records.ordering.order import Order
from records.pipeline import make_chunks
from records.roles import Data
from train.devices.strategy import make_cluster
from train.step import feed as feed_module
from train.step.feed import Feed, make_feed
from train.step.pace import Pace


def _batches(feed: Feed, epoch: int, limits: list[int]) -> list[tuple[Any, ...]]:
    """(inputs, labels, weights, count) of the epoch's steps, taken in calls of `limits` steps."""
    found: list[tuple[Any, ...]] = []
    feed.start(epoch)
    calls = 0
    while (chunk := feed.take(limits[calls % len(limits)])) is not None:
        assert 1 <= chunk.steps <= limits[calls % len(limits)]
        inputs, labels, rows, weights, _ = (np.asarray(a) for a in chunk.arrays)
        assert len(rows) == len(weights) == len(chunk.counts) == feed.chunk_steps
        for i in range(chunk.steps):
            batch = inputs[rows[i]], labels[rows[i]], weights[i], np.asarray(chunk.counts[i])
            found.append(batch)
        calls += 1
    return found


@pytest.mark.parametrize(
    ("level", "accelerator"), [("device", False), ("memory", False), ("memory", True)]
)
def test_calls_of_any_length_hold_the_order(
    synthetic_data_dir: Path, level: str, accelerator: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Chunks of 7 steps: some end within an epoch, the last one is short.
    monkeypatch.setattr(feed_module, "_CHUNK_STEPS", 7)
    monkeypatch.setattr(feed_module, "_CHUNK_EXAMPLES", 0)
    monkeypatch.setattr(feed_module, "_SHARED_BYTES", 1)
    opened = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    train = Data(opened, InputConfig(), 0).examples("train")
    order = Order(train.num_examples, 32, 0)
    cluster = dataclasses.replace(make_cluster("one_device"), accelerator=accelerator)
    feed = make_feed(train, order, cluster, level)
    assert feed.chunk_steps == 7 and order.steps_per_epoch % 7
    assert train.inputs is not None
    for epoch, limits in ((0, [1, 3, 100]), (1, [7]), (2, [2])):
        found = _batches(feed, epoch, limits)
        assert len(found) == order.steps_per_epoch
        for step, (inputs, labels, weights, count) in enumerate(found):
            positions, real = order.examples(epoch, step)
            numbers = train.numbers[positions[0]]
            np.testing.assert_array_equal(inputs, train.inputs[numbers])
            np.testing.assert_array_equal(labels, train.split_labels[numbers])
            np.testing.assert_array_equal(weights, real[0])
            assert count == real.sum()


@pytest.mark.parametrize("level", ["memory", "disk", "none"])
def test_the_next_chunk_is_copied_before_it_is_asked_for(
    synthetic_data_dir: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an accelerator; by the feed's own thread, of the gathered bytes themselves."""
    monkeypatch.setattr(feed_module, "_CHUNK_STEPS", 7)
    monkeypatch.setattr(feed_module, "_CHUNK_EXAMPLES", 0)
    monkeypatch.setattr(feed_module, "_SHARED_BYTES", 1)
    opened = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    train = Data(opened, InputConfig(cache=level), 0).examples("train")
    gathered, placed, second = [], [], threading.Event()
    place_chunk = feed_module._place_chunk

    def source(*arguments: Any) -> Any:
        for chunk in make_chunks(*arguments):
            gathered.append(chunk[0])
            yield chunk

    def note(*arguments: Any) -> tuple[Any, ...]:
        placed.append((threading.current_thread(), place_chunk(*arguments)))
        if len(placed) == 2:
            second.set()
        return placed[-1][1]

    monkeypatch.setattr(feed_module, "_place_chunk", note)
    cluster = dataclasses.replace(make_cluster("one_device"), accelerator=True)
    feed = make_feed(train, Order(train.num_examples, 32, 0), cluster, level, source=source)
    feed.start(0)
    first = feed.take(7)
    assert first is not None and first.arrays[0] is placed[0][1][0]
    # Steps are audited on the level `device`. Here, too, no example is of a type that GPUs leave on
    # the host.
    assert all(array.dtype != np.int32 for array in first.arrays)
    assert second.wait(60), "while nobody asks for it"
    assert all(thread is not threading.main_thread() for thread, _ in placed)
    # On a CPU device the tensor is the gathered memory: no byte was copied on the way to it. Of a
    # table that is parsed in every epoch the rows are cut out of the records.
    for array, (_, (inputs, *_)) in zip(gathered, placed, strict=False):
        assert level == "none" or np.shares_memory(array, inputs._numpy())


def test_small_batches_get_long_calls_and_large_ones_short(synthetic_data_dir: Path) -> None:
    opened = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    train = Data(opened, InputConfig(), 0).examples("train")
    many = dataclasses.replace(train, numbers=np.resize(train.numbers, 400_000))
    steps = {}
    for size in (32, 256, 10_000):
        order = Order(many.num_examples, size, 0)
        steps[size] = make_feed(many, order, make_cluster("one_device"), "device").chunk_steps
    assert steps == {32: 8192, 256: 1024, 10_000: 40}


def test_pace_fills_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    pace: Any = Pace()
    per_step, per_call = 60e-6, 1e-3
    seconds = []
    for call in range(8):
        steps = pace.steps
        with pace.timed(steps):
            now += per_call + steps * per_step + 2.0 * (call == 0)  # the first call compiles
        seconds.append(per_call + steps * per_step)
    assert max(seconds) <= 0.51
    assert per_call / seconds[-1] < 0.01
    per_step = 2.0
    for _ in range(3):
        steps = pace.steps
        with pace.timed(steps):
            now += steps * per_step
    assert pace.steps == 1
