"""Arguments of the public functions, checked at the door."""

import operator
from typing import Any

_MOST = 2**31 - 1  # whatever counts something is an int32 in places


def check_whole(name: str, value: Any, least: int = 1, most: int = _MOST) -> int:
    """The whole number that an argument holds; NumPy's integers are such.

    Raises:
      ValueError: it holds something else, or a number outside [least, most].
    """
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or not least <= found <= most:
        raise ValueError(
            f"input: {name} expected a whole number from {least:,} to {most:,}, received {value!r}"
        )
    return found


def check_seed(value: Any) -> int:
    """The seed that an argument holds: a whole number of 64 bits, also a negative one.

    Raises:
      ValueError: it holds something else.
    """
    return check_whole("seed", value, -(2**63), 2**63 - 1)


def check_kind(name: str, value: Any, kinds: type | tuple[type, ...], expected: str) -> None:
    """Raises ValueError, which says what was `expected`, for a value of none of the kinds."""
    if not isinstance(value, kinds):
        raise ValueError(f"input: {name} expected {expected}, received {value!r}")
