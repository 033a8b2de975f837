"""Time: repetitions of systems that take turns.

A sample is one repetition of one system: examples over seconds, in total, never a mean of
rates. Systems take turns (A B A B), so that a slow minute of the machine hits all of them.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np

# Told what runs now.
Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One repetition of one system."""

    examples: int
    seconds: float  # wall time for all of them
    # Wall time until the first batch was there; None where a repetition goes on with what runs
    # already.
    first_batch_seconds: float | None = None

    @property
    def rate(self) -> float:
        """Examples per second."""
        return self.examples / self.seconds


def alternate(
    systems: Mapping[str, Callable[[], Sample]],
    repetitions: int,
    progress: Progress = lambda text: None,
) -> dict[str, list[Sample]]:
    """Runs the systems in turn: all of them once, then all again, `repetitions` times.

    What must be warm has been warmed up before.

    Returns:
      The samples of each system in the order measured; sample i of all belongs to round i.
    """
    if repetitions < 1:
        raise ValueError(f"benchmark: repetitions expected 1 or more, received {repetitions}")
    samples: dict[str, list[Sample]] = {name: [] for name in systems}
    for number in range(1, repetitions + 1):
        for name, run in systems.items():
            progress(f"{name}, repetition {number} of {repetitions}")
            samples[name].append(run())
    return samples


def fitting_count(seconds_each: float, wanted_seconds: float) -> int:
    """How many runs of `seconds_each` last at least `wanted_seconds`; at least 1."""
    return max(1, int(np.ceil(wanted_seconds / max(seconds_each, 1e-6))))


def whole_epochs(
    run: Callable[[int], object], num_examples: int, seconds: float, *, drain: bool = False
) -> Callable[[], Sample]:
    """Repetitions of a warm system: one call does as many whole epochs as last `seconds` and more.

    Args:
      run: does so many epochs of `num_examples`.
      drain: before each repetition a quarter as many epochs go by untimed, so that a system that
        reads ahead while others are measured cannot live on what it had in store.
    """
    start = time.perf_counter()
    # Finds how many epochs a repetition has; it is no sample itself.
    run(1)
    count = fitting_count(time.perf_counter() - start, seconds)

    def repetition() -> Sample:
        if drain:
            run(-(-count // 4))
        start = time.perf_counter()
        run(count)
        return Sample(count * num_examples, time.perf_counter() - start)

    return repetition
