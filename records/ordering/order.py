"""The order of examples: which record stands at which position of which epoch.

Pure integer mathematics, no state and no buffer. An epoch is a permutation of the
records of a (sub)set; the global batch of step `s` is the slice of positions
`[s * B, (s + 1) * B)`, and a replica takes its contiguous part of that slice. So the
sequence of global batches does not depend on replicas, workers, caches or memory, and
the whole state of an iterator is `(seed, epoch, step)`.

Data larger than memory are permuted in blocks (`shuffle_block`): each epoch the records are
rotated by a random amount and cut into contiguous pieces, the pieces are permuted, and each
run of `PIECES` of them is a block, permuted exactly within. A block is therefore read in few
long stretches, and the pieces' borders lie elsewhere in every epoch.

The permutation is a generalised Feistel network on the grid `Z_a x Z_b` with
`a = ceil(sqrt(N))` and `b = ceil(N / a)`, restricted to `[0, N)` by cycle walking
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). The grid has
fewer than `a` cells too many, so walking is rare.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

# Four rounds are the least for a pseudo-random permutation (Luby and Rackoff, 1988), but
# small grids mix slowly: over all 720 permutations of N = 6, chi-squared is 456 standard
# deviations too high with 8 rounds, 31 with 12, 1.5 with 16, 0 with 24.
ROUNDS = 8
SMALL_ROUNDS = 24
SMALL = 4096
MAX_EXAMPLES = 2**62 - 1
# Pieces of a block: more mix better, fewer are read in longer stretches. 16 distant places of the
# epoch in every block; a piece of a block of 1 GB is then 64 MB, far beyond any seek's cost.
PIECES = 16
# Fewer positions are hashed one by one: the tables would take longer.
_TABLE_POSITIONS = 32
_ROTATE, _PIECE, _BLOCK = 1001, 1002, 1003  # separate the uses of one seed
_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF


def mix64(*values: int) -> int:
    """Hashes integers to one 64-bit integer (splitmix64, Steele et al., OOPSLA 2014)."""
    state = 0
    for value in values:
        state = (state ^ (value & _MASK64)) + 0x9E3779B97F4A7C15 & _MASK64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK64
        state ^= state >> 31
    return state


def round_keys(*values: int) -> np.ndarray:
    """The int64 [SMALL_ROUNDS] keys, each in [0, 2^32), of the permutation named by `values`."""
    return np.array([mix64(*values, r) & _MASK32 for r in range(SMALL_ROUNDS)], np.int64)


def _hash32(x: np.ndarray, key: Any) -> np.ndarray:
    """Mixes x in [0, 2^32) with a key to [0, 2^32): the `lowbias32` finaliser of C. Wellons.

    Products of two 32-bit numbers wrap in int64; their low 32 bits, all that is kept,
    are those of the unsigned product.
    """
    x = x ^ key
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _MASK32
    x = (x ^ (x >> 15)) * 0x735A2D97 & _MASK32
    return x ^ (x >> 15)


def _rounds(num_examples: int) -> int:
    return SMALL_ROUNDS if num_examples < SMALL else ROUNDS


def _sides(num_examples: int) -> tuple[int, int]:
    """(a, b) of the grid."""
    a = max(1, int(np.ceil(np.sqrt(num_examples))))
    return a, -(-num_examples // a)


def _amount(values: np.ndarray, key: Any, modulus: int) -> np.ndarray:
    """The round function: how far a half moves, in [0, modulus), given the other half."""
    # 31 bits scaled to the modulus: no division, bias below 2^-15.
    return (_hash32(values, key) >> 1) * modulus >> 31


def permute(positions: np.ndarray, num_examples: int, keys: np.ndarray) -> np.ndarray:
    """The numbers of the examples that stand at `positions`, int64 of any shape, each in `[0, N)`.

    A bijection of `[0, N)` for each value of `keys`, int64 [SMALL_ROUNDS], from `round_keys`. N is
    from 1 to 2^62.
    """
    a, b = _sides(num_examples)

    def shift(value: np.ndarray, amount: np.ndarray, modulus: int) -> np.ndarray:
        # Both below the modulus: one subtraction instead of a division.
        moved = value + amount
        return np.where(moved >= modulus, moved - modulus, moved)

    def network(x: np.ndarray) -> np.ndarray:
        left, right = x % a, x // a
        for r in range(0, _rounds(num_examples), 2):
            left = shift(left, _amount(right, keys[r], a), a)
            right = shift(right, _amount(left, keys[r + 1], b), b)
        return right * a + left

    is_many = positions.size > max(a, _TABLE_POSITIONS)
    step = _tabulated(num_examples, keys) if is_many else network
    found = step(positions)
    outside = np.flatnonzero(found >= num_examples)
    while len(outside):
        found.flat[outside] = step(found.flat[outside])
        outside = outside[found.flat[outside] >= num_examples]
    return found


def _tabulated(num_examples: int, keys: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The network of `permute` by table: the same function, evaluated once per row and column.

    A half has only about sqrt(N) values, so many positions share the work of hashing. The tables
    repeat, so that the halves need no reduction between the rounds. Measured in one run: 7 times
    as fast as hashing (N = 1701, 1,792 positions), 5 times (N = 10^6, 65,536 positions).
    """
    a, b = _sides(num_examples)
    rounds = _rounds(num_examples)
    repeats = rounds // 2 + 1  # a half grows by less than its modulus in each of its rounds
    of_right, of_left = (
        np.tile(_amount(np.arange(n), k[:, None], modulus), repeats)
        for n, k, modulus in ((b, keys[:rounds:2], a), (a, keys[1:rounds:2], b))
    )

    def network(x: np.ndarray) -> np.ndarray:
        right, left = np.divmod(x, a)
        moved = np.empty_like(x)
        for to_left, to_right in zip(of_right, of_left, strict=True):
            left += np.take(to_left, right, out=moved, mode="clip")
            right += np.take(to_right, left, out=moved, mode="clip")
        return right % b * a + left % a

    return network


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of one (sub)set's examples over all epochs.

    Attributes:
      num_examples: N, examples of the (sub)set.
      global_batch_size: B, rows of one step over all replicas.
      seed: names the sequence of permutations.
      shuffle: False keeps the records' own order in every epoch (evaluation).
      shuffle_block: None for one permutation of the whole (sub)set, else the most examples that
        are permuted together; see `block_size`.
    """

    num_examples: int
    global_batch_size: int
    seed: int = 0
    shuffle: bool = True
    shuffle_block: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.num_examples <= MAX_EXAMPLES:
            raise ValueError(
                f"input: num_examples expected 1 to {MAX_EXAMPLES}, received {self.num_examples}"
            )
        for name in ("global_batch_size", "shuffle_block"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"input: {name} expected at least 1, received {value}")

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch; the last batch is padded with rows of weight 0."""
        return -(-self.num_examples // self.global_batch_size)

    @property
    def state(self) -> dict[str, Any]:
        """What names the order, JSON-ready: with (epoch, step) the whole state of the input."""
        return dataclasses.asdict(self)

    @functools.cached_property
    def block_size(self) -> int:
        """Examples of a block: a multiple of B at most `shuffle_block` (at least B), or N."""
        if self.shuffle_block is None:
            return self.num_examples
        return min(self.num_examples, self._pieces[0] * self._pieces[1])

    @functools.cached_property
    def _pieces(self) -> tuple[int, int]:
        """(examples of a piece, pieces of a block), for a block smaller than the set."""
        batches = max(1, (self.shuffle_block or 0) // self.global_batch_size)
        count = min(PIECES, batches)
        return batches // count * self.global_batch_size, count

    def examples(
        self, epoch: int, step: int, steps: int = 1, rows: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """The examples of `steps` consecutive global batches of one epoch, or of parts of them.

        Args:
          rows: a replica's part of each, b rows; no other row is computed.

        Returns:
          (numbers int64 [steps, b] in [0, N), weights float32 [steps, b]): weight 1 for the
          examples of the epoch, 0 for the real rows that pad its last batch.

        Raises:
          IndexError: the steps do not lie in `[0, steps_per_epoch)`.
        """
        positions = step_positions(self, step, steps, rows)
        weights = (positions < self.num_examples).astype(np.float32)
        # The rows that pad the last batch are the epoch's first examples: real, hence of valid
        # shape.
        wrapped = positions % self.num_examples
        return self.numbers(epoch, wrapped), weights

    def numbers(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """The examples int64 that stand at `positions` int64 in [0, N) of an epoch."""
        if not self.shuffle:
            return positions
        size = self.block_size
        if size == self.num_examples:
            return permute(positions, size, round_keys(self.seed, epoch))
        # Positions of a call lie in few blocks: the loop is over blocks, not over positions.
        blocks = positions // size
        within = np.empty_like(positions)
        for block in np.unique(blocks):
            here, first = blocks == block, int(block) * size
            length = min(size, self.num_examples - first)
            keys = round_keys(self.seed, epoch, _BLOCK, int(block))
            within[here] = first + permute(positions[here] - first, length, keys)
        return self._unrotated(epoch, within)

    def _unrotated(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """Examples at places of the epoch's sequence of permuted pieces."""
        piece = self._pieces[0]
        whole = self.num_examples // piece  # the short piece that may be left comes last
        number, offset = places // piece, places % piece
        permuted = permute(
            np.minimum(number, whole - 1), whole, round_keys(self.seed, epoch, _PIECE)
        )
        number = np.where(number < whole, permuted, number)
        # Moves the borders of the pieces, else the same records would always be read together.
        rotation = mix64(self.seed, epoch, _ROTATE) % self.num_examples
        return (number * piece + offset + rotation) % self.num_examples

    def keys(self, epoch: int, step: int, steps: int = 1, rows: slice = slice(None)) -> np.ndarray:
        """Random keys, int64 [steps, b], a function of (seed, epoch, global position) only.

        They feed augmentation, which is therefore the same for any number of replicas.
        """
        return position_keys(self.seed, epoch, step_positions(self, step, steps, rows))

    def counts(self, epoch: int, step: int, steps: int = 1) -> np.ndarray:
        """Examples int64 [steps] of weight 1 in each batch: B, fewer in the last one."""
        del epoch
        first = step_positions(self, step, steps, slice(1))[:, 0]
        return np.minimum(self.num_examples - first, self.global_batch_size)

    def lengths(self, epoch: int, step: int, steps: int = 1) -> np.ndarray | None:
        """Tokens int64 [steps] to which each batch is cut; None: all inputs are of one shape."""
        del epoch, step, steps
        return None


def step_positions(order: Any, step: int, steps: int, rows: slice = slice(None)) -> np.ndarray:
    """Global positions int64 [steps, b] of rows of consecutive steps of an order; default B rows.

    Raises:
      IndexError: the steps do not lie in `[0, steps_per_epoch)`.
    """
    if step < 0 or steps < 0 or step + steps > order.steps_per_epoch:
        raise IndexError(
            f"input: steps {step} to {step + steps} expected within "
            f"0 to {order.steps_per_epoch}, the steps of one epoch"
        )
    size = order.global_batch_size
    firsts = np.arange(step, step + steps, dtype=np.int64) * size
    return firsts[:, None] + np.arange(*rows.indices(size))


def position_keys(seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """Random keys in [0, 2^63), a function of (seed, epoch, position) only."""
    # Not part of any permutation: a bit more or less here changes every augmented picture.
    low = _hash32(positions & _MASK32, mix64(seed, epoch, 1) & _MASK32)
    mixed = low ^ (positions >> 32)
    high = _hash32(mixed, mix64(seed, epoch, 2) & _MASK32)
    return (high >> 1) << 32 | low
