"""The order of a mixture, against the rule written out row by row."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from records.ordering.mixture import MixedOrder, Mixture, whole_shares
from records.ordering.order import Order, mix64


def plain_batches(order: MixedOrder, epochs: int) -> list[list[int]]:
    """The rule, a row at a time: whole parts of the shares, then the rows that are due soonest.

    Of a batch with c rows of a set, its row j stands at (j + 1/2) / c.
    """
    size, total = order.global_batch_size, sum(order.shares)
    streams = []
    for number, (count, first) in enumerate(zip(order.sizes, np.cumsum([0, *order.sizes]))):
        own = Order(count, 1, mix64(order.seed, 3001, number))
        streams.append((own, int(first)))
    taken, batches = [0] * len(order.sizes), []
    extra = [0] * len(order.sizes)
    for step in range(1, epochs * math.ceil(sum(order.sizes) / size) + 1):
        whole = [share * size // total for share in order.shares]
        parts = [Fraction(share * size, total) - w for share, w in zip(order.shares, whole)]
        # Two sets at most get one of the rows left: no tie beyond the first step that is due.
        may = [k for k, part in enumerate(parts) if extra[k] < step * part]
        may.sort(key=lambda k: (math.ceil((extra[k] + 1) / parts[k]), k))
        counts = list(whole)
        for k in may[: int(sum(parts))]:
            extra[k] += 1
            counts[k] += 1
        rows = [(Fraction(2 * j + 1, 2 * c), k) for k, c in enumerate(counts) for j in range(c)]
        batch = []
        for _, k in sorted(rows):
            own, first = streams[k]
            epoch, at = divmod(taken[k], order.sizes[k])
            batch.append(first + int(own.examples(epoch, at)[0][0, 0]))
            taken[k] += 1
        batches.append(batch)
    return batches


@pytest.mark.parametrize(
    ("sizes", "shares", "size"),
    [((50, 13), (7, 3), 32), ((5, 40), (1, 1), 8), ((30, 9), (97, 3), 4), ((9, 3), (2, 1), 3)],
)
def test_the_order_is_the_rule(sizes: tuple[int, ...], shares: tuple[int, ...], size: int) -> None:
    order, epochs = MixedOrder(sizes, shares, size, seed=5), 7
    expected, steps = plain_batches(order, epochs), order.steps_per_epoch
    whole = np.concatenate([order.examples(epoch, 0, steps)[0] for epoch in range(epochs)])
    np.testing.assert_array_equal(whole, expected)
    # From any step on, for any part of the rows: the state is (seed, epoch, step).
    for epoch, step in ((0, steps - 1), (6, 0)):
        numbers, weights = order.examples(epoch, step, steps - step, slice(1, size, 2))
        np.testing.assert_array_equal(numbers, whole[epoch * steps + step :][: steps - step, 1::2])
        assert weights.min() == 1
    with pytest.raises(IndexError):
        order.examples(0, steps)


def test_a_batch_of_32_has_22_or_23_and_10_or_9() -> None:
    order = MixedOrder((1000, 100), (7, 3), 32)
    of_second = np.concatenate(
        [(order.examples(epoch, 0, 35)[0] >= 1000).sum(1) for epoch in range(4)]
    )
    assert of_second[:10].tolist() == [10, 9, 10, 9, 10, 10, 9, 10, 9, 10]
    # Every example of a set once, in another order, before one comes again.
    numbers = np.concatenate([order.examples(e, 0, 35)[0].ravel() for e in range(4)])
    second = numbers[numbers >= 1000][:300].reshape(3, 100)
    np.testing.assert_array_equal(np.sort(second), np.tile(np.arange(1000, 1100), (3, 1)))
    assert (second[0] != second[1]).any() and (second[1] != second[2]).any()
    first = numbers[numbers < 1000]
    assert len(np.unique(first[:1000])) == 1000
    # Each half of the rows, a replica's, has half of a set's rows, to one.
    of_half = (order.examples(0, 0, 35, slice(0, 16))[0] >= 1000).sum(1)
    assert (np.abs(of_half - of_second[:35] / 2) <= 0.5).all()


def test_shares_are_exact_to_one_row_at_every_step() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        count, size = int(rng.integers(2, 8)), int(rng.choice([1, 3, 8, 32, 100]))
        shares = whole_shares(rng.integers(1, 60, count).tolist())
        order = MixedOrder((7,) * count, shares, size)
        before, counts = order._counts(3, 0, order.steps_per_epoch)
        exact = np.array(shares) * size / sum(shares)
        assert (counts.sum(1) == size).all()
        assert (counts >= np.floor(exact)).all() and (counts <= np.ceil(exact)).all()
        steps = 3 * order.steps_per_epoch + np.arange(order.steps_per_epoch)
        assert np.abs(before - steps[:, None] * exact).max() < 1


def test_shares() -> None:
    assert whole_shares([0.7, 0.3]) == (7, 3)
    assert whole_shares(["2", "1"]) == (2, 1)
    for wrong in (["0", "1"], ["x", "1"], ["-1", "2"], ["nan", "1"], [], ["1/0", "1"]):
        with pytest.raises(ValueError, match="shares of a mixture expected numbers above 0"):
            whole_shares(wrong)
    with pytest.raises(ValueError, match="at most four digits"):
        whole_shares([0.33333, 0.66667])


def test_weights_say_how_often_an_epoch_shows_an_example() -> None:
    mixture = Mixture((90, 10), (1, 1))
    np.testing.assert_allclose(mixture.weights, [100 * 0.5 / 90] * 90 + [100 * 0.5 / 10] * 10)
    kept = mixture.keep(np.arange(100) % 10 > 0)
    assert kept == Mixture((81, 9), (1, 1))
