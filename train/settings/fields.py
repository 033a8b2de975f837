"""How a setting is declared: its flag, the values it may hold, and whether it names a run."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a field may hold, and what an error says was expected."""

    holds: Callable[[float], bool]
    expected: str


POSITIVE = Range(lambda x: 0 < x < float("inf"), "a positive number")
NOT_NEGATIVE = Range(lambda x: 0 <= x < float("inf"), "0 or more")
RATE = Range(lambda x: 0 <= x < 1, "a rate in [0, 1)")
SHARE = Range(lambda x: 0 <= x < 1, "a share in [0, 1)")
MOMENTUM = Range(lambda x: 0 < x < 1, "a momentum in (0, 1)")
WORDS = Range(lambda x: x >= 3, "at least 3 (padding, out of vocabulary and one word)")


def setting(
    group: str,
    default: Any,
    text: str,
    choices: tuple[str, ...] | None = None,
    within: Range | None = None,
    *,
    changes_result: bool = True,
    is_place: bool = False,
) -> Any:
    """A field of `TrainConfig` and its flag.

    Args:
      group, default, text, choices: of the flag; `text` is its help.
      within: the numbers it may hold.
      changes_result: False for settings with which a run may go on otherwise than it began.
      is_place: a path, which is another one on another machine.
    """
    metadata: dict[str, Any] = {"group": group, "help": text, "choices": choices, "within": within}
    metadata |= {"changes_result": changes_result and not is_place, "is_place": is_place}
    return dataclasses.field(default=default, metadata=metadata)
