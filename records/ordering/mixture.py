"""A mixture: several sets in one run, each with a fixed share of every batch.

A set whose share of B rows is no whole number has one row more in some batches than in others. It
never has a row more, or less, than its share of all rows so far, counted from the first epoch on.
Each set is a stream of its own: its next examples in the order of its next epoch, whatever the
epoch of the mixture. So the state is `(seed, epoch, step)`, as of one set.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from records.ordering.order import Order, mix64, position_keys, step_positions

_SET = 3001  # separates the seeds of the sets
_MOST_PARTS = 10_000  # after at most so many steps the rows of all sets are whole


def whole_shares(shares: Sequence[float | str]) -> tuple[int, ...]:
    """Shares of any unit, such as "0.7" and "0.3", as whole numbers without a common divisor.

    Raises:
      ValueError: one is no number above 0, or they add up to more than 10,000 of the smallest unit.
    """
    try:
        found = [Fraction(str(share)) for share in shares]
    except (ValueError, ZeroDivisionError):
        found = []
    if not found or min(found) <= 0:
        raise ValueError(
            "settings: shares of a mixture expected numbers above 0, such as a=0.7 b=0.3, received "
            f"{', '.join(map(str, shares))}"
        )
    unit = math.lcm(*(share.denominator for share in found))
    whole = [int(share * unit) for share in found]
    whole = [number // math.gcd(*whole) for number in whole]
    if sum(whole) > _MOST_PARTS:
        raise ValueError(
            f"settings: shares of a mixture expected at most four digits each, received "
            f"{', '.join(map(str, shares))}"
        )
    return tuple(whole)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """How the examples of several sets, one set after the other, are mixed."""

    sizes: tuple[int, ...]  # examples of each set
    # Whole numbers without a common divisor; a set's share is its own over their sum.
    shares: tuple[int, ...]

    @property
    def weights(self) -> np.ndarray:
        """float64 [n]: how often an epoch shows each example, over how often it would without."""
        sizes, shares = np.array(self.sizes), np.array(self.shares)
        return np.repeat(shares / shares.sum() * sizes.sum() / sizes, sizes)

    def order(self, global_batch_size: int, seed: int = 0) -> MixedOrder:
        """The order of the examples, see `MixedOrder`."""
        return MixedOrder(self.sizes, self.shares, global_batch_size, seed)

    def keep(self, kept: np.ndarray) -> Mixture:
        """The mixture of the examples where `kept` bool [n]."""
        parts = np.split(kept, np.cumsum(self.sizes)[:-1])
        return dataclasses.replace(self, sizes=tuple(int(part.sum()) for part in parts))


@dataclasses.dataclass(frozen=True)
class MixedOrder(Mixture):
    """The order of a mixture's examples, used as `Order`."""

    global_batch_size: int  # B, rows of one step over all replicas
    seed: int = 0  # names the permutations; every set has a sequence of its own

    @property
    def steps_per_epoch(self) -> int:
        """Steps that all sets together fill; no batch is padded, because no set ends."""
        return -(-sum(self.sizes) // self.global_batch_size)

    @property
    def num_examples(self) -> int:
        """Rows of an epoch."""
        return self.steps_per_epoch * self.global_batch_size

    @property
    def state(self) -> dict[str, Any]:
        """As `Order.state`."""
        found = dataclasses.asdict(self)
        return found | {"sizes": list(self.sizes), "shares": list(self.shares)}  # as out of JSON

    def examples(
        self, epoch: int, step: int, steps: int = 1, rows: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Order.examples`; every weight is 1."""
        step_positions(self, step, steps)  # for its error
        before, counts = self._counts(epoch, step, steps)
        patterns, of_step = np.unique(counts, axis=0, return_inverse=True)
        spread = [_spread(tuple(pattern)) for pattern in patterns.tolist()]
        sets, places = (np.stack(a)[of_step.reshape(-1)][:, rows] for a in zip(*spread))
        positions = np.take_along_axis(before, sets, 1) + places
        numbers = np.empty_like(positions)
        for number, (order, first) in enumerate(self._orders):
            here = sets == number
            numbers[here] = first + _of_stream(order, positions[here])
        return numbers, np.ones(numbers.shape, np.float32)

    @functools.cached_property
    def _orders(self) -> list[tuple[Order, int]]:
        """Of each set: its order, and the number of its first example."""
        firsts = np.cumsum([0, *self.sizes]).tolist()
        seeds = [mix64(self.seed, _SET, number) for number in range(len(self.sizes))]
        return [
            (Order(size, self.global_batch_size, seed), first)
            for size, seed, first in zip(self.sizes, seeds, firsts)
        ]

    def _counts(self, epoch: int, step: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of each set before, and in, each of the steps: int64 [steps, K] both."""
        rows = _rows_so_far(self.shares, self.global_batch_size)
        period = len(rows) - 1
        cycle, at = np.divmod(epoch * self.steps_per_epoch + step + np.arange(steps), period)
        return cycle[:, None] * rows[period] + rows[at], rows[at + 1] - rows[at]

    def keys(self, epoch: int, step: int, steps: int = 1, rows: slice = slice(None)) -> np.ndarray:
        """As `Order.keys`."""
        return position_keys(self.seed, epoch, step_positions(self, step, steps, rows))

    def counts(self, epoch: int, step: int, steps: int = 1) -> np.ndarray:
        """As `Order.counts`: B."""
        return np.full(steps, self.global_batch_size)

    def lengths(self, epoch: int, step: int, steps: int = 1) -> np.ndarray | None:
        """As `Order.lengths`."""
        return None


def _of_stream(order: Order, positions: np.ndarray) -> np.ndarray:
    """The examples at positions of a set's endless stream: one epoch of it after the other."""
    epochs, within = np.divmod(positions, order.num_examples)
    found = np.empty_like(positions)
    for epoch in np.unique(epochs):
        found[epochs == epoch] = order.numbers(int(epoch), within[epochs == epoch])
    return found


@functools.lru_cache(maxsize=8)
def _rows_so_far(shares: tuple[int, ...], size: int) -> np.ndarray:
    """int64 [P + 1, K]: rows of each set before each step of a period, after which all are whole.

    Of every batch a set has the whole part of its share. The rows that are left go, one each, to
    the sets that must have their next one soonest to stay less than a row below their share, among
    those that would not rise a row above it. Of two that must by the same step, to the one whose
    rows after that are due sooner: algorithm PF of Baruah et al., "Proportionate progress",
    Algorithmica 1996, which always succeeds.
    """
    total = sum(shares)
    period = total // math.gcd(total, size)
    whole, rest = np.divmod(np.array(shares) * size, total)
    parts, extra = rest.tolist(), [0] * len(shares)
    found = np.zeros((period + 1, len(shares)), np.int64)

    def due(k: int, row: int) -> tuple[int, bool]:
        """The step by whose end a row is due, and whether the one after it cannot wait for that."""
        return -(-row * total // parts[k]), row * total % parts[k] == 0

    def compare(k: int, other: int) -> int:
        row, its = extra[k] + 1, extra[other] + 1
        while (parts[k], row) != (parts[other], its):
            one, two = due(k, row), due(other, its)
            if one != two:
                return -1 if one < two else 1
            if one[1]:
                break
            row, its = row + 1, its + 1
        return 0

    for step in range(1, period + 1):
        may = [k for k, part in enumerate(parts) if extra[k] * total < step * part]
        may.sort(key=functools.cmp_to_key(compare))
        for k in may[: sum(parts) // total]:
            extra[k] += 1
        found[step] = whole * step + extra
    return found


@functools.lru_cache(maxsize=64)
def _spread(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(set int64 [B] of each row of a batch, its number int64 [B] among the set's rows).

    Spread evenly, so that each replica's part of the batch holds of each set what is due to it.
    """
    sets = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([np.arange(count) for count in counts])
    in_order = np.argsort((places + 0.5) / np.array(counts)[sets], kind="stable")
    return sets[in_order], places[in_order]
