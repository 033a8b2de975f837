"""`--profile FROM,TO`: a trace of some steps, with step markers, and the share of it spent waiting.

The trace is read by xprof, the library behind TensorBoard's profiler, so that the share printed
after a run is the one that TensorBoard's input pipeline analyzer shows.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from records.system.writing import write_atomically
from train.devices.tensorflow_private import parse_trace

# The analyzer knows a step, and a wait for input, by how the event's name begins.
_STEP = "train"
_WAIT = "IteratorGetNext"
_FOLDER = "plugins/profile"  # where TensorBoard looks for traces


class Profile:
    """Starts and stops the profiler around the steps asked for; a context manager.

    A marker reaches from one `begin_step` to the next: a step is the call that trains it and the
    wait for the input of the one after it. The first of an epoch also has the wait for its own.
    """

    def __init__(self, steps: tuple[int, int] | None, run_dir: Path, *, is_chief: bool = True):
        """Profiles, in the chief, `steps`: the first, and the one after the last; None: nothing."""
        # (-1, -1) lies before every step: nothing below begins a trace.
        self._first, self._last = steps if steps else (-1, -1)
        self._folder, self._is_chief = run_dir / "tensorboard", is_chief
        self._written: str | None = None
        self._marker: tuple[int, Any] | None = None

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def limit(self, number: int, wanted: int) -> int:
        """The most steps of a chunk that begins at step `number`: single ones while profiling."""
        if self._first <= number < self._last:
            return 1  # the analyzer measures calls: one step each shows which step waited
        if number < self._first:  # a chunk ends where the trace begins
            return min(wanted, self._first - number)
        return wanted

    def begin_step(self, number: int, steps: int) -> None:
        """Ends the step before and marks a call of `steps` steps; nothing where it is marked.

        From the host's memory a call has as many steps as a chunk: all of those are traced that
        hold a step asked for.
        """
        if self._marker and self._marker[0] == number:
            return
        self.end_step()
        if number >= self._last:
            self._stop()
        elif self._is_chief and self._first < number + steps and self._written is None:
            # Written elsewhere first: a run folder holds whole files only.
            self._written = tempfile.mkdtemp(prefix="profile-")
            tf.profiler.experimental.start(self._written)
        if self._written is not None:
            # `_r=1` says that this is a step, as TensorFlow's profiler guide has it.
            marker = tf.profiler.experimental.Trace(_STEP, step_num=number, _r=1)
            marker.__enter__()
            self._marker = number, marker

    def end_step(self) -> None:
        """Ends the step that is marked, if there is one."""
        if self._marker:
            self._marker[1].__exit__(None, None, None)
            self._marker = None

    def wait(self) -> contextlib.AbstractContextManager[Any]:
        """Marks the wait for the next input."""
        if self._written is None:
            return contextlib.nullcontext()
        return tf.profiler.experimental.Trace(_WAIT)

    def _stop(self) -> None:
        self.end_step()
        if self._written is None:
            return
        written, self._written = self._written, None
        try:
            tf.profiler.experimental.stop()
            for path in Path(written, _FOLDER).glob("*/*.xplane.pb"):
                _move(path, self._folder / path.relative_to(written))
        finally:
            shutil.rmtree(written, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """Moves a trace into the run folder, where the iteration numbers of loops get another name.

    By a number of the name that TensorFlow gives them xprof groups a trace by the iterations of
    `tf.while_loop`, in which our steps (and every recurrent layer) run without XLA; it then
    ignores the step markers and finds no step times. Under this name they can still be read.
    """
    space = parse_trace(source.read_bytes())
    for plane in space.planes:
        for stat in plane.stat_metadata.values():
            if stat.name == "iter_num":
                stat.name = "loop_iteration"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, space.SerializeToString())


def find_traces(run_dir: Path) -> list[Path]:
    """The files of a run's newest trace, one per host; none without a trace."""
    # TensorFlow names a trace by its time: the last name is the newest trace.
    folders = sorted(Path(run_dir, "tensorboard", _FOLDER).glob("*/"))
    return sorted(folders[-1].glob("*.xplane.pb")) if folders else []


def read_input_share(run_dir: Path) -> dict[str, Any] | None:
    """What TensorBoard's input pipeline analyzer says of a run's trace; None without a trace.

    Returns:
      {"calls": traced calls of the step (of six or more xprof leaves out the first and the last,
      which may be cut off), "call_ms": their mean time, "input_ms": what of it waited
      for input, "input_share": 0 to 1, None without step times, "conclusion": the analyzer's
      sentence, "source": what gave the numbers}.
    """
    traces = find_traces(run_dir)
    if not traces:
        return None
    from xprof.convert import raw_to_tool_data

    with tempfile.TemporaryDirectory() as folder:
        # xprof keeps what it computed beside the trace: beside links, not in the run folder.
        links = [os.path.join(folder, path.name) for path in traces]
        for path, link in zip(traces, links, strict=True):
            os.symlink(path.resolve(), link)
        data, _ = raw_to_tool_data.xspace_to_tool_data(links, "input_pipeline_analyzer", {})
    table = json.loads(data)[1]
    names = [column["id"] for column in table["cols"]]
    rows = [dict(zip(names, (c.get("v") for c in r["c"]), strict=True)) for r in table["rows"]]
    call_ms = sum(float(row["stepTimeMs"]) for row in rows)
    input_ms = sum(float(row["infeedTimeMs"]) for row in rows)
    return {
        "calls": len(rows),
        "call_ms": call_ms / max(len(rows), 1),
        "input_ms": input_ms / max(len(rows), 1),
        "input_share": input_ms / call_ms if call_ms else None,
        "conclusion": str(table["p"]["input_conclusion"]),
        "source": "xprof input_pipeline_analyzer",
    }
