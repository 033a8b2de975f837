"""Length buckets: an order as pure as the plain one, with the least padding."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.ordering.buckets import BucketOrder, choose_bounds, make_order
from records.ordering.order import Order


def _bucketed(count: int = 5000, batch: int = 16, seed: int = 3, **options: bool) -> BucketOrder:
    lengths = np.random.default_rng(0).gamma(2.0, 30.0, count).astype(int)
    found = make_order(count, batch, seed, lengths=lengths, length_buckets=8, **options)
    assert isinstance(found, BucketOrder)
    return found


def _padded(lengths: np.ndarray, bounds: np.ndarray) -> int:
    """Tokens of all examples, each padded to its bucket's bound."""
    return int(bounds[np.searchsorted(bounds, np.maximum(lengths, 1))].sum())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 6))
def test_bounds_leave_the_least_padding_there_is(lengths: list[int], buckets: int) -> None:
    found = choose_bounds(np.array(lengths), buckets)
    values = np.unique(np.maximum(lengths, 1))
    best = min(
        _padded(np.array(lengths), np.array([*chosen, values[-1]]))
        for count in range(min(buckets, len(values)))
        for chosen in itertools.combinations(values[:-1], count)
    )
    assert len(found) <= buckets
    assert _padded(np.array(lengths), found) == best


def test_every_example_counts_once_and_fits_its_batch() -> None:
    order = _bucketed()
    member_length = np.zeros(order.num_examples, int)
    for bound, members in zip(order.bounds, order.members, strict=True):
        member_length[members] = bound
    for epoch in range(2):
        numbers, weights = order.examples(epoch, 0, order.steps_per_epoch)
        assert sorted(numbers[weights == 1].tolist()) == list(range(order.num_examples))
        lengths = order.lengths(epoch, 0, order.steps_per_epoch)
        assert lengths is not None
        assert (member_length[numbers] == lengths[:, None]).all(), "one bucket per batch"
        counts = order.counts(epoch, 0, order.steps_per_epoch)
        assert np.array_equal(counts, weights.sum(1))
        # Cut at multiples of B: only one batch of an epoch is short.
        assert (counts < order.global_batch_size).sum() <= 1


def test_steps_can_be_asked_for_in_any_order() -> None:
    order, other = _bucketed(), _bucketed()
    whole = order.examples(5, 0, order.steps_per_epoch)[0]
    for step in (order.steps_per_epoch - 1, 0, 17):
        assert np.array_equal(other.examples(5, step)[0][0], whole[step])
        lengths = order.lengths(5, 0, order.steps_per_epoch)
        found = other.lengths(5, step)
        assert lengths is not None and found is not None
        assert found[0] == lengths[step]


def test_epochs_and_seeds_differ_and_buckets_are_mixed() -> None:
    order = _bucketed()
    first, second = (order.examples(e, 0, order.steps_per_epoch)[0] for e in (0, 1))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, _bucketed(seed=4).examples(0, 0, order.steps_per_epoch)[0])
    lengths = order.lengths(0, 0, order.steps_per_epoch)
    assert lengths is not None
    changes = (np.diff(lengths) != 0).mean()
    assert changes > 0.6, "batches of one bucket must not come in a row"


def test_unshuffled_batches_are_the_same_in_every_epoch() -> None:
    order = _bucketed(shuffle=False)
    a, b = (order.examples(e, 0, order.steps_per_epoch)[0] for e in (0, 7))
    assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "options",
    [
        {"lengths": None, "length_buckets": 12},
        {"lengths": np.arange(4000), "length_buckets": 1},
        {"lengths": np.arange(4000), "length_buckets": 12, "shuffle_block": 500},
    ],
)
def test_plain_order_where_buckets_make_no_sense(options: dict) -> None:
    assert isinstance(make_order(4000, 16, **options), Order)


def test_small_sets_get_fewer_buckets() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1000)
    few = make_order(1000, 16, lengths=lengths, length_buckets=12)
    assert isinstance(few, BucketOrder) and len(few.bounds) <= 3
    assert isinstance(make_order(100, 16, lengths=lengths[:100], length_buckets=12), Order)
