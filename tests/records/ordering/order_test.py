"""The order of examples: exact permutations."""

import collections
import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.ordering.order import Order, mix64, permute, round_keys


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 5000), seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6))
def test_permutes_every_size(n: int, seed: int, epoch: int) -> None:
    found = permute(np.arange(n), n, round_keys(seed, epoch))
    assert np.array_equal(np.sort(found), np.arange(n))


@pytest.mark.parametrize("n", [3, 4, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 6))])
def test_all_permutations_are_equally_likely(n: int) -> None:
    draws = 50 * math.factorial(n)
    counts = collections.Counter(
        tuple(permute(np.arange(n), n, round_keys(seed)).tolist()) for seed in range(draws)
    )
    chi_squared = sum((counts[p] - 50) ** 2 / 50 for p in itertools.permutations(range(n)))
    freedom = math.factorial(n) - 1
    # Six standard deviations of the chi-squared distribution; fixed seeds, so no flakiness.
    assert chi_squared < freedom + 6 * math.sqrt(2 * freedom)


def test_positions_look_like_a_reference_shuffle() -> None:
    """Mean distance between neighbours and displacement, against NumPy's own shuffle."""
    n, epochs = 10_007, 20
    rng = np.random.default_rng(0)

    def figures(orders: list[np.ndarray]) -> np.ndarray:
        neighbours = [np.abs(np.diff(o)).mean() for o in orders]
        moved = [np.abs(o - np.arange(n)).mean() for o in orders]
        return np.array([np.mean(neighbours), np.mean(moved)])

    ours = figures([permute(np.arange(n), n, round_keys(0, e)) for e in range(epochs)])
    reference = figures([rng.permutation(n) for _ in range(epochs)])
    assert ours == pytest.approx(reference, rel=0.01)


def test_epochs_are_uncorrelated() -> None:
    n = 20_011
    orders = [permute(np.arange(n), n, round_keys(1, e)) for e in range(6)]
    for a, b in itertools.combinations(orders, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(n)
        assert (a == b).sum() < 10  # one is expected by chance


def test_every_example_counts_once_and_replicas_partition_the_batch() -> None:
    order = Order(num_examples=103, global_batch_size=8, seed=3)
    for epoch in range(3):
        seen: list[int] = []
        for step in range(order.steps_per_epoch):
            numbers, weights = order.examples(epoch, step)
            parts = np.split(numbers[0], 4), np.split(weights[0], 4)
            for part, weight in zip(*parts, strict=True):
                seen += part[weight == 1].tolist()
            assert set(numbers[0]) <= set(range(103)), "padding must be real rows"
        assert sorted(seen) == list(range(103))


def test_steps_can_be_asked_for_one_by_one_or_together() -> None:
    order = Order(1000, 32, seed=9)
    numbers, weights = order.examples(4, 3, 20)
    keys = order.keys(4, 3, 20)
    for i in range(20):
        assert np.array_equal(order.examples(4, 3 + i)[0][0], numbers[i])
        assert np.array_equal(order.examples(4, 3 + i)[1][0], weights[i])
        assert np.array_equal(order.keys(4, 3 + i)[0], keys[i])


def test_keys_differ_between_positions_epochs_and_seeds() -> None:
    keys = [Order(5000, 50, seed=s).keys(e, 0, 100) for s in range(3) for e in range(3)]
    together = np.concatenate([k.ravel() for k in keys])
    assert len(np.unique(together)) == len(together)
    assert (together >= 0).all()


def test_unshuffled_order_is_the_records_own() -> None:
    numbers, weights = Order(10, 4, shuffle=False).examples(7, 0, 3)
    assert numbers.ravel().tolist() == [*range(10), 0, 1]
    assert weights.ravel().tolist() == [1.0] * 10 + [0.0, 0.0]


def test_a_hundred_billion_examples() -> None:
    order = Order(10**11, 1024, seed=1)
    start = time.process_time()
    numbers, _ = order.examples(2, order.steps_per_epoch - 1001, 1000)
    assert time.process_time() - start < 5  # about 0.35 s; generous for a shared machine
    assert numbers.min() >= 0 and numbers.max() < 10**11
    assert len(np.unique(numbers)) == 1024 * 1000


def test_mix64_is_splitmix64() -> None:
    # First output of the reference implementation (prng.di.unimi.it/splitmix64.c) for state 0.
    assert mix64(0) == 0xE220A8397B1DCDAF


def test_steps_outside_the_epoch_are_refused() -> None:
    with pytest.raises(IndexError, match=r"steps 3 to 5 expected within 0 to 4"):
        Order(100, 30).examples(0, 3, 2)
    with pytest.raises(ValueError, match="num_examples expected 1"):
        Order(0, 1)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 3000),
    batch=st.integers(1, 64),
    block=st.integers(1, 4000),
    seed=st.integers(0, 2**40),
)
def test_blocks_visit_every_example_once(n: int, batch: int, block: int, seed: int) -> None:
    order = Order(n, batch, seed, shuffle_block=block)
    numbers, weights = order.examples(3, 0, order.steps_per_epoch)
    assert sorted(numbers[weights == 1].tolist()) == list(range(n))
    assert order.block_size == n or order.block_size <= max(block, batch)
    assert order.block_size == n or order.block_size % batch == 0


def test_a_block_is_a_few_stretches_and_mixed_within() -> None:
    order = Order(100_000, 50, seed=2, shuffle_block=8000)
    size = order.block_size
    steps = size // 50
    for epoch in range(2):
        for block in range(3):
            numbers = order.examples(epoch, block * steps, steps)[0].ravel()
            ordered = np.sort(numbers)
            assert (np.diff(ordered) > 1).sum() <= 17, "16 pieces, one of which may wrap round"
            # Within a block any order is as likely as another: compare with a reference shuffle.
            places = np.argsort(np.argsort(numbers))
            moved = np.abs(places - np.arange(size)).mean()
            assert moved == pytest.approx(size / 3, rel=0.05)
    one, two = (set(order.examples(e, 0, steps)[0].ravel().tolist()) for e in (0, 1))
    assert len(one & two) < 0.3 * size, "blocks are of other pieces in every epoch"


def test_borders_of_pieces_move_between_epochs() -> None:
    order = Order(10_000, 10, seed=1, shuffle_block=1000)
    together = [
        len({0, 1, 2, 3} & set(order.examples(e, 0, 100)[0].ravel().tolist())) for e in range(40)
    ]
    assert set(together) & {1, 2, 3}, "a border falls between neighbours in some epoch"


def test_blocks_of_a_hundred_billion_examples() -> None:
    order = Order(10**11, 1024, seed=1, shuffle_block=10**8)
    numbers, _ = order.examples(2, order.steps_per_epoch - 1001, 1000)
    assert numbers.min() >= 0 and numbers.max() < 10**11
    assert len(np.unique(numbers)) == 1024 * 1000


def test_counts_are_those_of_the_weights() -> None:
    order = Order(103, 8)
    weights = order.examples(0, 0, order.steps_per_epoch)[1]
    assert np.array_equal(order.counts(0, 0, order.steps_per_epoch), weights.sum(1))


@pytest.mark.parametrize("num_examples", [1, 2, 7, 41, 1701, 4095, 4096, 25_000, 10**7, 10**11])
def test_tables_give_what_hashing_gives(num_examples: int) -> None:
    """Many positions at once are looked up in tables, few are hashed one by one."""
    keys = round_keys(5, 9)
    count = min(num_examples, 20_000)
    positions = np.random.default_rng(1).integers(0, num_examples, count)
    together = permute(positions, num_examples, keys)
    pieces = np.array_split(positions, 1000)[:200]
    few = np.concatenate([permute(p, num_examples, keys) for p in pieces])
    assert np.array_equal(together[: len(few)], few)
