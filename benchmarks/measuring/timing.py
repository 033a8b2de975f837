"""Time: samples, alternating repetitions, medians and ratios.

A sample is one repetition of one system: examples over seconds, in total, never a mean of
rates. Systems take turns (A B A B), so that a slow minute of the machine hits all of them, and
a ratio is the median of the ratios within the rounds.
"""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

OURS = "ours"
# Told what runs now.
Progress = Callable[[str], None]
RATE, FIRST_BATCH = "examples/s", "ms to first batch"
# Seconds of whole repetitions: of runs to a target, starts, builds of one size.
DURATION = "seconds"
# Rates of pairs: the goal is about the 95 % interval of the ratio of the times.
PAIRED = "examples/s in pairs"
_CONFIDENCE = 0.95
# Repetitions on a quiet machine stay within about 10 % of their median.
NOISY_SPREAD = 0.3


class Against(enum.StrEnum):
    """What a comparison is against."""

    PEER = "peer"
    """Another library, or another way of doing the same work."""
    LIMIT = "limit"
    """The most that can be reached: the machine's own speed, a step without its input."""
    OURSELVES = "ourselves"
    """This system with something more, something less, or what it promises."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One repetition of one system.

    Attributes:
      examples: examples consumed.
      seconds: wall time for all of them.
      first_batch_seconds: wall time until the first batch was there; None where a repetition
        goes on with what runs already.
    """

    examples: int
    seconds: float
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

    Args:
      systems: each call is one repetition; what must be warm has been warmed up before.
      repetitions: rounds, at least 1.
      progress: told what runs next.

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


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The answer to one question about one set.

    Attributes:
      suite: the suite's name.
      dataset: `name/config/version`.
      question: what was measured.
      samples: per system, in the order of the rounds; `ours` is this system.
      quantity: `RATE`, `FIRST_BATCH` for the samples' times to the first batch, `DURATION` for
        their times, or `PAIRED`.
      note: what a reader must know to judge the figures.
      details: settings, JSON-ready.
      goal: the least ratio that this project promises itself, or None; of `PAIRED` the ratio of
        the times that `time_interval` has to reach down to.
      against: what the systems beside ours are.
      beside: the other system, where the question is asked of each one by itself; else "".
      is_fixed: the other system's time follows from a definition: it is the same on any machine,
        so the ratio does not cancel the machine's speed.
    """

    suite: str
    dataset: str
    question: str
    samples: dict[str, list[Sample]]
    quantity: str = RATE
    note: str = ""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    goal: float | None = None
    against: Against = Against.PEER
    beside: str = ""
    is_fixed: bool = False

    @property
    def title(self) -> str:
        """The question, and the other system where it is asked of each one by itself."""
        return f"{self.question}: {self.beside}" if self.beside else self.question

    def values(self, system: str) -> np.ndarray:
        """float64 [repetitions]: examples/s, or seconds, or milliseconds to the first batch."""
        if self.quantity == DURATION:
            return np.array([s.seconds for s in self.samples[system]])
        if self.quantity != FIRST_BATCH:
            return np.array([s.rate for s in self.samples[system]])
        seconds = [s.first_batch_seconds for s in self.samples[system]]
        return np.array(seconds, np.float64) * 1000

    def median(self, system: str) -> float:
        """The median of `values`."""
        return float(np.median(self.values(system)))

    def spread(self, system: str) -> float:
        """(largest - smallest value) / median."""
        values = self.values(system)
        return float((values.max() - values.min()) / np.median(values))

    @property
    def noisy(self) -> bool:
        """The repetitions of some system differ by more than `NOISY_SPREAD`."""
        return any(self.spread(name) > NOISY_SPREAD for name in self.samples)

    @property
    def reference(self) -> str:
        """The system that `ratios` compares with: the other one of the best median."""
        others = [name for name in self.samples if name != OURS]
        best = min if self.quantity in (FIRST_BATCH, DURATION) else max
        return best(others, key=self.median)

    @property
    def peer_is_faster(self) -> bool:
        """Another library or way is ahead, in the median of the rounds."""
        return self.against is Against.PEER and self.ratio < 1

    def ratios(self, system: str | None = None) -> np.ndarray:
        """float64 [repetitions], speed of ours over the reference's or `system`'s, by rounds."""
        ours, other = self.values(OURS), self.values(system or self.reference)
        return other / ours if self.quantity in (FIRST_BATCH, DURATION) else ours / other

    @property
    def ratio(self) -> float:
        """The median of `ratios`: above 1 this system is the faster one."""
        return float(np.median(self.ratios()))

    def time_interval(self) -> tuple[float, float]:
        """The 95 % interval of the ratio of the times, ours over the reference's, in pairs.

        Student's t on the logarithms of the ratios; a single pair says nothing: (0, inf).
        """
        logs = -np.log(self.ratios())
        if len(logs) < 2:
            return 0.0, float("inf")
        error = logs.std(ddof=1) / np.sqrt(len(logs))
        reach = stats.t.ppf((1 + _CONFIDENCE) / 2, len(logs) - 1) * error
        return float(np.exp(logs.mean() - reach)), float(np.exp(logs.mean() + reach))

    @property
    def goal_met(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.goal is None:
            return None
        if self.quantity == PAIRED:
            return self.time_interval()[0] <= self.goal
        return self.ratio >= self.goal

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with every repetition."""
        ratios = self.ratios()
        return {
            "suite": self.suite,
            "dataset": self.dataset,
            "question": self.question,
            "beside": self.beside,
            "quantity": self.quantity,
            "reference": self.reference,
            "against": self.against,
            "is_fixed": self.is_fixed,
            "ratio": self.ratio,
            "goal": self.goal,
            "goal_met": self.goal_met,
            "ratio_range": [float(ratios.min()), float(ratios.max())],
            "time_interval": list(self.time_interval()) if self.quantity == PAIRED else None,
            "noisy": self.noisy,
            "note": self.note,
            "details": self.details,
            "systems": {
                name: {
                    "median": self.median(name),
                    "spread": self.spread(name),
                    "repetitions": [dataclasses.asdict(sample) for sample in samples],
                }
                for name, samples in self.samples.items()
            },
        }


def fitting_count(seconds_each: float, wanted_seconds: float) -> int:
    """How many runs of `seconds_each` last at least `wanted_seconds`; at least 1."""
    return max(1, int(np.ceil(wanted_seconds / max(seconds_each, 1e-6))))


def whole_epochs(
    run: Callable[[int], object], num_examples: int, seconds: float, *, drain: bool = False
) -> Callable[[], Sample]:
    """Repetitions of a system: one call does as many whole epochs as last `seconds` and more.

    Args:
      run: does so many epochs; it is warm.
      num_examples: of an epoch.
      seconds: least duration; at least one epoch is done.
      drain: before each repetition a quarter as many epochs go by untimed, so that a system that
        reads ahead while others are measured cannot live on what it had in store.
    """
    start = time.perf_counter()
    run(1)
    count = fitting_count(time.perf_counter() - start, seconds)

    def repetition() -> Sample:
        if drain:
            run(-(-count // 4))
        start = time.perf_counter()
        run(count)
        return Sample(count * num_examples, time.perf_counter() - start)

    return repetition
