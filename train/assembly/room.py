"""Refuses sizes for which there is no memory, before the system ends the process for them."""

import itertools

from records.system.memory import free_memory, show_bytes

# Of each weight: itself, its gradient and the optimizer's two moments, float32.
_WEIGHT_BYTES = 16
# Of each row of a batch besides its input: numbers, weights, keys and labels on their way.
_ROW_BYTES = 64


def check_batch_room(size: int, example_bytes: int) -> None:
    """Raises ValueError where one batch of so many examples does not fit the free memory."""
    _check(f"--global-batch-size {size}", "rows", size * (example_bytes + _ROW_BYTES))


def check_weight_room(
    hidden: tuple[int, ...] | None, units: int | None, width: int | None, vocab_size: int
) -> None:
    """Raises ValueError where the layers that were asked for do not fit the free memory.

    `hidden`, `units` and `width` (of a token's vector) are None where the model has its own.
    """
    asked, units, width = [], units or 0, width or 0
    # Where the width is the model's own, 1 is counted: a lower bound.
    weights = 4 * units * units + vocab_size * width
    if hidden:
        weights += sum(a * b for a, b in itertools.pairwise((1, *hidden)))
        asked.append(f"--hidden {' '.join(map(str, hidden))}")
    asked += [f"--units {units}"] * bool(units) + [f"--embedding-dim {width}"] * bool(width)
    _check(" ".join(asked), "weights", _WEIGHT_BYTES * weights)


def _check(asked: str, what: str, needed: int) -> None:
    if needed > (free := free_memory()):
        raise ValueError(
            f"settings: {asked} expected {what} that fit the {show_bytes(free)} of free memory, "
            f"received some of {show_bytes(needed)}. Choose smaller numbers, or free memory"
        )
