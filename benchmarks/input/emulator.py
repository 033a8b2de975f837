"""An emulated accelerator: takes a batch, is busy for so many milliseconds, takes the next.

Accelerator utilisation (AU) is that of MLPerf Storage, Submission_guidelines.md, section 4
(https://github.com/mlcommons/storage):

    AU = total_compute_time / total_benchmark_running_time

"All the I/O operations from the first step are excluded from the AU calculation"; here both are
given, with the first step and without it. Without it its computing is left out as well, as DLIO
does (argonne-lcf/dlio_benchmark, utils/statscounter.py, `compute_metrics_train`).

MLPerf Storage sleeps in the thread that loads. A training loop does not wait there: it hands the
batch over and takes the next one while the device computes. So does this one: a step begins as
soon as the device is free and its batch is there, and the host is one batch ahead, not more.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

Clock = Callable[[], float]

_TRIES = 2


@dataclasses.dataclass(frozen=True)
class Utilisation:
    """What accelerators did that train in step with each other."""

    steps: int
    step_seconds: float  # time that each of them took
    seconds: float  # from the start, before the iterator was made, to the end of the last step
    first_seconds: float  # the part of it before the first step began

    @property
    def compute_seconds(self) -> float:
        """Time computed, of each accelerator."""
        return self.steps * self.step_seconds

    @property
    def au(self) -> float:
        """Compute time over total time, first step included."""
        return self.compute_seconds / self.seconds

    @property
    def au_excluding_first(self) -> float:
        """The same from the end of the first step on; needs two steps."""
        rest = self.seconds - self.first_seconds - self.step_seconds
        return (self.steps - 1) * self.step_seconds / rest


class Accelerator:
    """A device that is busy for a fixed time with every step.

    When a step ends is computed, not looked up after a sleep: a thread that wakes up late makes
    no step longer, just as it would not on a device.
    """

    def __init__(
        self,
        step_seconds: float,
        clock: Clock = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """Starts the total time."""
        self._step_seconds, self._clock, self._sleep = step_seconds, clock, sleep
        # The clock starts here, before the iterator is made: starting is a part of the time.
        self._start = self._free = clock()
        self._first = 0.0
        self._steps = 0

    def step(self) -> None:
        """Hands over a batch: waits until the device is free, begins the step and returns.

        A batch that is there in time is begun in the moment in which the step before ends.
        """
        # Before the wait: a sleep that ends late must not delay the step.
        begin = max(self._clock(), self._free)
        self._wait()
        if not self._steps:
            self._first = begin - self._start
        self._free = begin + self._step_seconds
        self._steps += 1

    def finish(self) -> Utilisation:
        """Waits for the last step."""
        self._wait()
        total = self._free - self._start
        return Utilisation(self._steps, self._step_seconds, total, self._first)

    def _wait(self) -> None:
        """Sleeps up to the end of the step that runs; a sleep may be cut short."""
        while (left := self._free - self._clock()) > 0:
            self._sleep(left)


def run_steps(
    make: Callable[[], Iterator[Any]],
    steps: int,
    step_seconds: float,
    take: Callable[[Any], Any],
    accelerators: int = 1,
    **options: Any,
) -> Utilisation:
    """Feeds accelerators from one iterator, which is made within the time and lasts for all steps.

    Several accelerators are one consumer of as many batches a step. Data-parallel training
    averages the gradients in every step, a barrier: none of them begins the next step before the
    last one has its batch (MLPerf Storage, section 9: "a pool-wide common barrier to synchronize
    the transition from one step to the next"). Consumers independent of each other would be as
    many trainings, and hide in each one's slack what another one lacks.

    Args:
      take: what the host does with a batch before it is on its accelerator.
      options: of `Accelerator`.
    """
    accelerator = Accelerator(step_seconds, **options)
    batches = make()
    for _ in range(steps):
        for _ in range(accelerators):
            take(next(batches))
        accelerator.step()
    return accelerator.finish()


def largest_passing(
    passes: Callable[[float], bool], start: float, resolution: float, whole: bool = False
) -> float:
    """The largest demand that passes, found by doubling (or halving) and bisection.

    Args:
      passes: whether a demand is met; those above one that is not are not either.
      start: the first one tried.
      resolution: share of the demand down to which it is found.
      whole: demands are whole numbers, as `start` is; 1 passes.
    """

    def half(demand: float) -> float:
        return demand // 2 if whole else demand / 2

    low = start
    # Doubling brackets the answer, halving finds it: a trial costs seconds.
    if passes(low):
        while passes(high := 2 * low):
            low = high
    else:
        high, low = low, half(low)
        while not passes(low):
            high, low = low, half(low)
    while high - low > max(resolution * low, whole):
        middle = half(low + high)
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def passing(
    trial: Callable[[float], float], least: float, tried: dict[float, list[float]]
) -> Callable[[float], bool]:
    """Whether the best AU of a demand's trials reaches the least one, for `largest_passing`.

    A trial that fails is repeated once: a hiccup of the machine is not what it can do. `tried`
    holds what is known before, by demand.
    """

    def passes(demand: float) -> bool:
        # Shared between the two AU that are asked for: a demand tried once is not tried again.
        found = tried.setdefault(demand, [])
        while max(found, default=0.0) < least and len(found) < _TRIES:
            found.append(trial(demand))
        return max(found) >= least

    return passes


def known_delay(step_seconds: float, delay: float, steps: int) -> float:
    """Total seconds where each batch takes `delay` seconds, one after the other."""
    return delay + (steps - 1) * max(step_seconds, delay) + step_seconds


def run_known_delay(step_seconds: float, delay: float, steps: int) -> Utilisation:
    """Runs such a producer, in real time.

    Raises:
      ValueError: the emulated accelerator was faster than it can be.
    """

    def batches() -> Iterator[None]:
        while True:
            time.sleep(delay)
            yield None

    found = run_steps(batches, steps, step_seconds, lambda batch: None)
    expected = known_delay(step_seconds, delay, steps)
    # On a busy machine it may be slower, but never faster than the arithmetic.
    if found.seconds < 0.999 * expected:
        raise ValueError(
            f"benchmark: {steps} steps of {step_seconds} s, a batch every {delay} s "
            f"expected {expected:.4f} s at least, received {found.seconds:.4f} s"
        )
    return found
