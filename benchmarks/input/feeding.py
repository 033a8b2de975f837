"""What feeds emulated accelerators from a set, and how many of them it feeds, found by trial.

AU is that without the first step, as in MLPerf Storage. Where the host cannot feed one, the fastest
accelerator that it can feed is looked for instead.
"""

import functools
import gc
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.input.accelerator_rates import ACCELERATOR_BATCH, Kind
from benchmarks.input.emulator import Utilisation, largest_passing, passing, run_steps
from benchmarks.input.readers import open_examples
from benchmarks.measuring.consume import read_on_host
from benchmarks.measuring.timing import Progress, Sample
from benchmarks.measuring.work import Effort, Work
from records.pipeline import make_arrays
from records.system.threads import num_threads

Make = Callable[[], Iterator[Any]]

_ENDLESS = 2**20  # epochs
# AU; MLPerf Storage asks 0.9 of ResNet-50 (Submission_guidelines.md, Table 1). The higher one comes
# first: what reaches it reaches the other one too.
_LEAST = (0.99, 0.9)


class Host:
    """What feeds the accelerators: this system's iterators, cold and warm, and trials with them."""

    def __init__(self, work: Work, effort: Effort):
        """Fills the cache that warm iterators share.

        The batches of `work` are those of one accelerator.
        """
        self.work, self.effort = work, effort
        self._examples, self._order = open_examples(work)
        assert self._examples.inputs is not None, "decodes now, where it was not yet"

    def make(self, cache: str) -> Iterator[Any]:
        """A new endless iterator; a cold one opens the set first and decodes in every epoch."""
        if cache == "warm":
            return make_arrays(self._examples, self._order, _ENDLESS)
        return make_arrays(*open_examples(self.work, cache="none"), _ENDLESS)

    def sample(self, make: Make, kind: Kind, epochs: int) -> Sample:
        """Trains one accelerator for some epochs."""
        gc.collect()  # what the one before left behind is not this one's cost
        steps = epochs * self.work.steps_per_epoch
        used = run_steps(make, steps, kind.step_seconds, _read)
        return Sample(epochs * self.work.num_examples, used.seconds, used.first_seconds)

    def trial_steps(self, cache: str, step_seconds: float, accelerators: int) -> int:
        """Steps of a trial: after the first one as many as last a while, or cold take an epoch.

        Threads that decode a batch each give their batches in bursts. Whole bursts are measured:
        the rest of one, begun before the first step's end, would count as done in no time.
        """
        least, seconds = (3, 0.4) if self.effort.thorough else (2, 0.1)
        measured = max(least, math.ceil(seconds / step_seconds))
        if cache == "cold":
            batches = self.work.steps_per_epoch if self.effort.thorough else 2 * least
            measured = max(least, -(-batches // accelerators))
        bursts = -(-measured // num_threads())
        return 1 + bursts * num_threads()


def _read(batch: tuple[Any, ...]) -> None:
    """What stands for the copy to the accelerator."""
    read_on_host(batch[0], batch[1])


class Capacity:
    """How many accelerators can be fed from one kind of iterator."""

    def __init__(
        self, host: Host, cache: str, samples: dict[str, list[Sample]], progress: Progress
    ):
        """Begins with what samples of whole epochs showed."""
        self._host, self._cache, self._progress = host, cache, progress
        self._rate = max(s.rate for all_ in samples.values() for s in all_)
        self._together = 0.0  # examples/s of the accelerators that were fed last
        # Share of the demand. Half of it would cost one more trial for each answer.
        self._resolution = 0.05 if host.effort.thorough else 0.1

    def fed(self, kind: Kind, used: list[Utilisation]) -> dict[float, float]:
        """How many accelerators train together at an AU of `_LEAST`; or which part of one does.

        Part f of an accelerator is one whose steps take 1 / f as long.
        """
        one = median_of(used, "au_excluding_first")
        tried = {1.0: [one]}
        fed, count = {}, max(1.0, self._together // kind.rate)
        for least in _LEAST:
            if one < least:
                # Never more than whole epochs showed: they may have met a slower minute.
                fed[least] = min(one / least, self.images[least] / kind.rate)
                continue
            self._progress(f"{self._cache}, {kind.name}: how many at AU {least:.0%}")
            passes = passing(lambda n: self._trial(kind.step_seconds, int(n)), least, tried)
            fed[least] = count = largest_passing(passes, count, self._resolution, whole=True)
            self._together = count * kind.rate
        return fed

    @functools.cached_property
    def images(self) -> dict[float, float]:
        """Examples/s of the fastest accelerator that is fed; of which kind does not matter."""
        tried: dict[float, list[float]] = {}
        found, rate = {}, self._rate
        for least in _LEAST:
            self._progress(f"{self._cache}: the fastest accelerator at AU {least:.0%}")
            passes = passing(lambda r: self._trial(ACCELERATOR_BATCH / r), least, tried)
            found[least] = rate = largest_passing(passes, rate, self._resolution)
        return found

    def _trial(self, step_seconds: float, accelerators: int = 1) -> float:
        """AU without the first step, of so many accelerators."""
        host, cache = self._host, self._cache
        steps = host.trial_steps(cache, step_seconds, accelerators)
        make = functools.partial(host.make, cache)
        return run_steps(make, steps, step_seconds, _read, accelerators).au_excluding_first


def median_of(used: Sequence[Utilisation], name: str) -> float:
    """The median of an attribute."""
    return float(np.median([getattr(u, name) for u in used]))
