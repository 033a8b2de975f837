"""1,024 workers and up to 10^9 examples: the workers' parts partition every global batch.

The order is arithmetic, so steps anywhere in the epoch can be asked for: whole epochs of about 10^6
examples are checked one by one, of 10^9 examples random steps and the last one.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from records.examples import AnyOrder, plan_steps
from records.ordering.buckets import BucketOrder, make_order
from records.ordering.order import Order
from records.sets.schema import IMAGE

WORKERS = 1024
PER_WORKER = 4
BATCH = WORKERS * PER_WORKER
UNEVEN = 10**6 + 17
HUGE = 10**9 + 7


class _AllRecords:
    """The subset of all records, without an array of 10^9 numbers."""

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return positions


def _examples() -> Any:
    schema = types.SimpleNamespace(modality=IMAGE)
    index = types.SimpleNamespace(damaged=None)
    return types.SimpleNamespace(schema=schema, index=index, lengths=None, numbers=_AllRecords())


def _rows(worker: int) -> slice:
    return slice(worker * PER_WORKER, (worker + 1) * PER_WORKER)


def _parts(order: AnyOrder, epoch: int, step: int) -> list[np.ndarray]:
    """(numbers, weights, keys) [WORKERS, b] of a step, each worker's asked for by itself."""
    found = [plan_steps(_examples(), order, epoch, step, 1, _rows(w))[:3] for w in range(WORKERS)]
    return [np.concatenate(arrays) for arrays in zip(*found, strict=True)]


def _check_step(order: AnyOrder, epoch: int, step: int) -> np.ndarray:
    """Checks the workers' parts of a step against one worker's batch; the examples that count."""
    numbers, weights, keys = _parts(order, epoch, step)
    whole, its_weights = order.examples(epoch, step)
    assert numbers.shape == weights.shape == (WORKERS, PER_WORKER), "all workers have b rows"
    assert np.array_equal(numbers.reshape(-1), whole[0]), "one worker would have the same batch"
    assert np.array_equal(weights.reshape(-1), its_weights[0])
    assert np.array_equal(keys.reshape(-1), order.keys(epoch, step)[0])
    counted = numbers[weights > 0]
    assert len(np.unique(counted)) == len(counted) == order.counts(epoch, step)[0]
    assert ((numbers >= 0) & (numbers < order.num_examples)).all(), "padding is of real rows"
    return counted


def _check_epoch(order: AnyOrder, epoch: int) -> None:
    """Every example counts once, in an epoch that is asked for in calls of some steps."""
    seen = np.zeros(order.num_examples, np.int64)
    for step in range(0, order.steps_per_epoch, 16):
        steps = min(16, order.steps_per_epoch - step)
        numbers, weights = order.examples(epoch, step, steps)
        np.add.at(seen, numbers[weights > 0], 1)
    assert (seen == 1).all()


def _in_buckets() -> BucketOrder:
    lengths = np.random.default_rng(0).geometric(0.02, UNEVEN).clip(1, 200)
    order = make_order(UNEVEN, BATCH, 3, lengths=lengths, length_buckets=12)
    assert isinstance(order, BucketOrder)
    return order


ORDERS: dict[str, Callable[[], AnyOrder]] = {
    "global": lambda: Order(UNEVEN, BATCH, 3),
    "blocks": lambda: Order(UNEVEN, BATCH, 3, shuffle_block=50_000),
    "buckets": _in_buckets,
    "evaluation": lambda: Order(UNEVEN, BATCH, shuffle=False),
}


@pytest.mark.parametrize("name", ORDERS)
def test_workers_partition_every_batch_of_a_million(name: str) -> None:
    order = ORDERS[name]()
    last = order.steps_per_epoch - 1
    _check_epoch(order, 7)
    for epoch, step in ((0, last // 2), (7, last)):
        _check_step(order, epoch, step)


def test_fewer_examples_than_workers_are_padded_at_weight_0() -> None:
    order = Order(WORKERS - 1, BATCH)
    _, weights, _ = _parts(order, 0, 0)
    assert weights.sum() == WORKERS - 1
    assert np.array_equal(np.sort(_check_step(order, 0, 0)), np.arange(WORKERS - 1))


@pytest.mark.parametrize("block", [None, 10**7])
def test_workers_partition_sampled_batches_of_a_billion(block: int | None) -> None:
    order = Order(HUGE, BATCH, 5, shuffle_block=block)
    last = order.steps_per_epoch - 1
    # The last step's 1,024 workers share what is left; most of their rows are padding or none is.
    assert len(_check_step(order, 2, last)) == HUGE - last * BATCH
    random = np.random.default_rng(1)
    seen = [order.examples(0, last)[0][0, : HUGE - last * BATCH]]
    for step in np.unique(random.integers(0, last, 100)).tolist():
        numbers, weights = order.examples(0, step)
        assert (weights == 1).all()
        seen.append(numbers[0])
    together = np.concatenate(seen)
    assert len(np.unique(together)) == len(together), "no example stands in two batches"
    _check_step(order, 1, int(random.integers(0, last)))
