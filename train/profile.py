"""`--profile FROM,TO`: a trace of some steps, with step markers, for TensorBoard's profiler."""

from __future__ import annotations

import contextlib
import glob
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import tensorflow as tf

from train.config import TrainConfig


class Profile:
    """Starts and stops the profiler around the steps asked for; a context manager."""

    def __init__(self, config: TrainConfig, run_dir: Path):
        """Profiles nothing unless `config.profile` is set."""
        steps = config.profile_steps()
        self._first, self._last = steps if steps else (-1, -1)
        self._folder = run_dir / "tensorboard"
        self._running = False

    def __enter__(self) -> Profile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def limit(self, number: int, wanted: int) -> int:
        """The most steps of a chunk that begins at step `number`: single ones while profiling."""
        if self._first <= number < self._last:
            return 1
        if number < self._first:
            return min(wanted, self._first - number)
        return wanted

    @contextlib.contextmanager
    def step(self, number: int, steps: int) -> Any:
        """Marks a call of some steps in the trace: the analyzer tells input from compute by it.

        From the host's memory a call has as many steps as a chunk: all of those are traced that
        hold a step asked for.
        """
        if self._first < number + steps and number < self._last and not self._running:
            tf.profiler.experimental.start(str(self._folder))
            self._running = True
        if number >= self._last:
            self._stop()
        if not self._running:
            yield
            return
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            yield

    def _stop(self) -> None:
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False


def read_input_share(run_dir: Path) -> str | None:
    """What TensorBoard's input pipeline analyzer concludes from a run's trace, or None.

    Read through xprof's converter, without a browser.
    """
    found = sorted(glob.glob(f"{run_dir}/tensorboard/plugins/profile/*/*.xplane.pb"))
    if not found:
        return None
    from xprof.convert import raw_to_tool_data

    data, _ = raw_to_tool_data.xspace_to_tool_data(found[-1:], "input_pipeline_analyzer", {})
    tables = json.loads(data)
    conclusion = str(tables[1]["p"]["input_conclusion"])
    if "No step time" in conclusion:
        # On CPUs the profiler groups the kernels of some compiled steps under no marker.
        return "the trace holds no step times (on CPUs that happens); see the line `time:`"
    return conclusion
