"""A comparison: the answer to one question, with every repetition, medians, ratios and the goal.

A ratio is the median of the ratios within the rounds, which cancels the speed of the machine.
"""

import dataclasses
import enum
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.measuring.timing import Sample

OURS = "ours"
RATE, FIRST_BATCH = "examples/s", "ms to first batch"
# Seconds of whole repetitions: of runs to a target, starts, builds of one size.
DURATION = "seconds"
# Rates of pairs. The goal is met where the 95 % interval of the ratio of the times has its lower
# end at or below it.
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
class Comparison:
    """The answer to one question about one set."""

    suite: str
    dataset: str  # `name/config/version`
    question: str
    # Per system, in the order of the rounds; `ours` is this system.
    samples: dict[str, list[Sample]]
    # `RATE`, `FIRST_BATCH` for the samples' times to the first batch, `DURATION` for their times,
    # or `PAIRED`.
    quantity: str = RATE
    note: str = ""  # what a reader must know to judge the figures
    details: dict[str, Any] = dataclasses.field(default_factory=dict)  # settings, JSON-ready
    # The least ratio that this project promises itself, or None. Of `PAIRED` a ratio of the times:
    # the goal is met where the lower end of `time_interval` is at or below it.
    goal: float | None = None
    against: Against = Against.PEER  # what the systems beside ours are
    beside: str = ""  # the other system, where the question is asked of each one by itself; else ""
    # The other system's time follows from a definition: it is the same on any machine, so the
    # ratio does not cancel the machine's speed.
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
        # The best time is the least, the best rate the largest.
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
        # `ratios` are those of speeds; minus makes them ratios of times.
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
