"""Batches of texts of like length, so that little of a batch is padding.

The lengths of a subset are cut into buckets once; every batch is of one bucket and padded to its
upper bound. The order is as pure as `records.ordering.order`: the epoch's batches (slots) are
permuted; a slot gives (bucket, j), and the batch is slice j of that bucket's own permutation.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from records.ordering.order import Order, permute, position_keys, round_keys, step_positions

_SLOTS, _BUCKET = 2001, 2002  # separate the uses of one seed
# A bucket costs one compilation (XLA): small sets get fewer.
_BATCHES_PER_BUCKET = 16


@dataclasses.dataclass(frozen=True, eq=False)
class BucketOrder:
    """The order of a subset's examples in batches of like length; used as `Order`."""

    # int64 [K], the buckets' upper bounds, rising; a batch is padded to its bucket's.
    bounds: np.ndarray
    # Per bucket, the numbers int64 [n] of its examples in the subset.
    members: tuple[np.ndarray, ...]
    global_batch_size: int  # B, rows of one step over all replicas
    seed: int = 0  # names the sequence of permutations
    shuffle: bool = True  # False keeps buckets and examples in their own order (evaluation)

    @functools.cached_property
    def num_examples(self) -> int:
        """N, examples of the subset."""
        return sum(map(len, self.members))

    @functools.cached_property
    def _first_slots(self) -> np.ndarray:
        """int64 [K + 1]: the first slot of each bucket, and the number of slots."""
        batches = [-(-len(m) // self.global_batch_size) for m in self.members]
        return np.concatenate([[0], np.cumsum(batches)]).astype(np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch; a bucket's last batch is padded with rows of weight 0."""
        return int(self._first_slots[-1])

    def _slots(self, epoch: int, step: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """(bucket int64 [steps], number of the batch in its bucket int64 [steps])."""
        slots = step_positions(self, step, steps, slice(1))[:, 0] // self.global_batch_size
        if self.shuffle:
            slots = permute(slots, self.steps_per_epoch, round_keys(self.seed, epoch, _SLOTS))
        bucket = np.searchsorted(self._first_slots, slots, side="right") - 1
        return bucket, slots - self._first_slots[bucket]

    @property
    def state(self) -> dict[str, Any]:
        """As `Order.state`."""
        return {
            "num_examples": self.num_examples,
            "global_batch_size": self.global_batch_size,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "bounds": self.bounds.tolist(),
        }

    def examples(
        self, epoch: int, step: int, steps: int = 1, rows: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Order.examples`; every batch is of one bucket."""
        buckets, batches = self._slots(epoch, step, steps)
        size = self.global_batch_size
        sizes = np.array([len(members) for members in self.members], np.int64)[buckets]
        positions = batches[:, None] * size + np.arange(*rows.indices(size))
        # Rows beyond the bucket's end wrap to its first examples, at weight 0: they are of its
        # length.
        places = self._starts[buckets][:, None] + positions % sizes[:, None]
        weights = (positions < sizes[:, None]).astype(np.float32)
        return self._members_in_order(epoch)[places], weights

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """int64 [K]: where each bucket's members begin, all buckets one after the other."""
        return np.cumsum([0, *(len(m) for m in self.members[:-1])])

    @functools.lru_cache(maxsize=2)  # noqa: B019 - one epoch, and the next where it is read ahead
    def _members_in_order(self, epoch: int) -> np.ndarray:
        """int64 [N]: the members of all buckets, each bucket in its order of the epoch.

        Kept per epoch: the members are an array of N numbers anyway, and permuting the few rows
        of a step bucket by bucket took four times as long as gathering them.
        """
        if not self.shuffle:
            return np.concatenate(self.members)
        orders = []
        for bucket, members in enumerate(self.members):
            keys = round_keys(self.seed, epoch, _BUCKET, bucket)
            orders.append(members[permute(np.arange(len(members)), len(members), keys)])
        return np.concatenate(orders)

    def keys(self, epoch: int, step: int, steps: int = 1, rows: slice = slice(None)) -> np.ndarray:
        """As `Order.keys`."""
        return position_keys(self.seed, epoch, step_positions(self, step, steps, rows))

    def counts(self, epoch: int, step: int, steps: int = 1) -> np.ndarray:
        """As `Order.counts`."""
        buckets, batches = self._slots(epoch, step, steps)
        sizes = np.array([len(members) for members in self.members], np.int64)
        left = sizes[buckets] - batches * self.global_batch_size
        return np.minimum(left, self.global_batch_size)

    def lengths(self, epoch: int, step: int, steps: int = 1) -> np.ndarray | None:
        """Tokens int64 [steps] to which each batch is padded: its bucket's bound."""
        return self.bounds[self._slots(epoch, step, steps)[0]]


def make_order(
    num_examples: int,
    global_batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    *,
    shuffle_block: int | None = None,
    lengths: np.ndarray | None = None,
    length_buckets: int = 1,
) -> Order | BucketOrder:
    """The order of a subset: in buckets where there are lengths and enough batches for them.

    Args:
      seed, shuffle, shuffle_block: as `Order`; buckets are permuted whole.
      lengths: int [N], tokens of each example of the subset; None for other inputs.
      length_buckets: the most buckets; 1 for none.
    """
    batches = -(-num_examples // global_batch_size)
    buckets = min(length_buckets, batches // _BATCHES_PER_BUCKET)
    # Buckets permute the whole subset, which blocks exist to avoid.
    if lengths is None or buckets < 2 or shuffle_block is not None:
        return Order(num_examples, global_batch_size, seed, shuffle, shuffle_block)
    bounds, members = _cut(np.maximum(lengths, 1), global_batch_size, buckets)
    return BucketOrder(bounds, members, global_batch_size, seed, shuffle)


def _cut(
    lengths: np.ndarray, global_batch_size: int, buckets: int
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Buckets of whole batches: (bounds, members); only the last one has rows of weight 0.

    Examples are sorted by length and cut near the best bounds, at multiples of B. On the lyrics
    this leaves 8.6 % of padding in all; a padded batch in every bucket would make it 10.6 %.
    """
    by_length = np.argsort(lengths, kind="stable")
    bounds = choose_bounds(lengths, buckets)
    ends = np.searchsorted(lengths[by_length], bounds, side="right")
    whole = np.unique(ends[:-1] // global_batch_size * global_batch_size)
    # In record order within a bucket, so that without shuffling reads go forward.
    members = tuple(np.sort(m) for m in np.split(by_length, whole[whole > 0]))
    return np.array([lengths[m].max() for m in members], np.int64), members


def choose_bounds(lengths: np.ndarray, buckets: int) -> np.ndarray:
    """The upper bounds, int64, rising, of at most `buckets` buckets with the least padding in all.

    Exact, by dynamic programming over the distinct `lengths`, int [N], of which 0 counts as 1. On
    the lyrics (199 tokens at most, 12 buckets) it leaves 8.2 % padding, quantiles leave 9.8 %.
    """
    values, counts = np.unique(np.maximum(lengths, 1), return_counts=True)
    total = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    # cost[i, j]: tokens of a bucket that holds the distinct lengths i to j - 1, padding included.
    cost = (total[None, 1:] - total[:-1, None]) * values
    # A bucket that ends before it begins.
    cost[np.tril_indices(len(values), -1)] = np.inf
    best, chosen = cost[0], []
    for _ in range(min(buckets, len(values)) - 1):
        # A last bucket that begins at i, after the best of one bucket fewer up to i - 1.
        candidates = best[:-1, None] + cost[1:]
        choice = np.concatenate([[0], candidates.argmin(0)[1:] + 1])
        best = np.concatenate([best[:1], candidates.min(0)[1:]])
        chosen.append(choice)
    ends, end = [], len(values) - 1
    for choice in reversed(chosen):
        ends.append(values[end])
        end = int(choice[end]) - 1
        if end < 0:
            break
    else:
        ends.append(values[end])
    return np.array(sorted(ends), np.int64)
