"""Cost as sets grow: 10^3 to 10^6 records of one size, read without a cache, in blocks.

| question | measured |
|---|---|
| rows, 10^n; picture bytes, 10^n | examples/s once it runs, against the set of 10^4 |
| ...: start | from the directory to the first batch, against the set of 10^4 |
| a worker's part of a step | of 10^9 examples, at 1,024 workers, against the whole batch |

Memory is the highest above the idle process. Pictures are bytes that are read, checked, ordered
and copied, not decoded: decoding costs the same whatever the set's size. Where a figure at some
size is more than twice that of 10^4, the note says so.
"""

import dataclasses
import functools
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.measuring.child import run_child
from benchmarks.measuring.comparison import FIRST_BATCH, OURS, Against, Comparison
from benchmarks.measuring.repeat import SHARDS, repeat_set
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Work
from records.ordering.order import Order
from records.sets.schema import IMAGE, TABULAR, Schema

_SIZES, _BASE = (10**3, 10**4, 10**5, 10**6), 10**4
_BLOCK = 4096  # examples permuted together, at every size: memory must not grow with the set
# All sizes lie on the disk at once, 3.9 GB: rounds alternate between them. Real pictures are ten
# times as large, so that each record's own cost counts ten times as much here as there.
_PICTURE_BYTES = 3500
_ROUNDS, _SECONDS = 3, 5.0  # at most, and per size
_GOAL = 0.8
_MOST_GROWTH = 2.0
_FREE_SHARE = 0.5  # of the disk's free bytes, at most: other programs write, too
_WORKERS, _PER_WORKER, _HUGE, _STEPS = 1024, 64, 10**9, 100


def measure_growth(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """The questions for a set of rows or of pictures; none for texts, and none in quick runs,
    because each size starts a process of some seconds.
    """
    if work.schema.modality not in (TABULAR, IMAGE) or not effort.thorough:
        return []
    with tempfile.TemporaryDirectory(prefix="growth") as folder:
        sets, left_out = _write_sets(work, _SIZES, Path(folder), progress)
        found = _measure_sizes(work, sets, left_out, effort, progress)
    if work.schema.modality == TABULAR:
        found.append(_measure_worker(work, effort, progress))
    return found


def _write_sets(
    work: Work, sizes: tuple[int, ...], folder: Path, progress: Progress
) -> tuple[dict[int, str], str]:
    """({size: directory}, what the disk had no room for)."""
    sets: dict[int, str] = {}
    for size in sizes:
        progress(f"growth: writing {size:,} records")
        raw = work.schema.modality == IMAGE
        needed = size * (_PICTURE_BYTES if raw else 1000)
        free = shutil.disk_usage(folder).free
        if needed > free * _FREE_SHARE:
            return (
                sets,
                f"left out: {size:,} and more, which need {needed:,} bytes of {free:,} free",
            )
        target = folder / str(size)
        # A folder for each size: all have the same name as the set that is repeated.
        target.mkdir()
        change = functools.partial(_with_bytes, work.schema, np.random.default_rng(size))
        more = {"change": change} if raw else {}
        sets[size] = repeat_set(work.schema, work.split, size, str(target), **more)
    return sets, ""


def _with_bytes(schema: Schema, random: np.random.Generator, record: bytes) -> bytes:
    """The record with other bytes for its picture."""
    example = tf.train.Example.FromString(record)
    feature = example.features.feature[schema.input_name]
    # Random: no file system makes them smaller.
    feature.bytes_list.value[:] = [random.bytes(_PICTURE_BYTES)]
    return example.SerializeToString(deterministic=True)


def _measure_sizes(
    work: Work, sets: dict[int, str], left_out: str, effort: Effort, progress: Progress
) -> list[Comparison]:
    def read(size: int, directory: str) -> Sample:
        request = {
            "directory": directory,
            "smallest": sets[min(sets)],
            "global_batch_size": work.global_batch_size,
            "shuffle_block": _BLOCK,
            "cache": "none",
            "seconds": _SECONDS,
            "raw": work.schema.modality == IMAGE,
        }
        found = run_child("benchmarks.input.reading_child", request)
        runs[size].append(found)
        return Sample(found["examples"], found["seconds"], found["seconds_to_first_batch"])

    runs: dict[int, list[dict[str, Any]]] = {size: [] for size in sets}
    systems: dict[str, Callable[[], Sample]] = {
        _name(size): functools.partial(read, size, directory) for size, directory in sets.items()
    }
    rounds = min(_ROUNDS, effort.repetitions)
    samples = alternate(systems, rounds, lambda text: progress(f"growth: {text}"))
    details = {size: _describe(size, sets[size], work, runs[size]) for size in sets}
    note = "; ".join(filter(None, [*_notes_on_growth(details, samples), left_out]))
    kind = "rows" if work.schema.modality == TABULAR else "picture bytes"
    found = []
    for size in sets:
        # On a full disk the base itself may be missing: then there is nothing to compare with.
        if size == _BASE or _BASE not in sets:
            continue
        pair = {OURS: samples[_name(size)], _name(_BASE): samples[_name(_BASE)]}
        question = f"{kind}, {_name(size)}"
        both = {"series": kind, "ours": details[size], "other": details[_BASE]}
        # Smaller sets only show that the base is past its own start.
        goal = _GOAL if size > _BASE else None
        one = Comparison(
            "growth",
            work.schema.name,
            question,
            pair,
            details=both,
            note=note,
            against=Against.OURSELVES,
        )
        start = f"{question}: start"
        found.append(dataclasses.replace(one, goal=goal))
        found.append(dataclasses.replace(one, question=start, quantity=FIRST_BATCH, note=""))
    return found


def _name(size: int) -> str:
    return f"10^{round(np.log10(size))}"


def _describe(size: int, directory: str, work: Work, runs: list[dict[str, Any]]) -> dict[str, Any]:
    folder = Path(directory)
    order = Order(size, work.global_batch_size, shuffle_block=_BLOCK)
    state = order.state | {"epoch": 0, "step": order.steps_per_epoch - 1}
    return {
        "examples": size,
        "bytes": sum(f.stat().st_size for f in folder.glob("*.tfrecord*")),
        "shards": SHARDS,
        "index_bytes": (folder / f"{work.split}.index.npz").stat().st_size,
        "state_bytes": len(json.dumps(state)),
        "shuffle_block": _BLOCK,
        "seconds_to_first_batch": [run["seconds_to_first_batch"] for run in runs],
        "peak_bytes": [run["peak_bytes"] for run in runs],
    }


def _notes_on_growth(
    details: dict[int, dict[str, Any]], samples: dict[str, list[Sample]]
) -> list[str]:
    """What grows to more than twice that of the base, and where it begins: a sentence each."""
    values: dict[str, dict[int, float]] = {
        "time per example": {
            size: float(np.median([1 / s.rate for s in samples[_name(size)]])) for size in details
        }
    }
    for name, key in (
        ("memory", "peak_bytes"),
        ("start", "seconds_to_first_batch"),
        ("order state", "state_bytes"),
        ("shards", "shards"),
    ):
        values[name] = {size: float(np.median(d[key])) for size, d in details.items()}
    found = []
    for name, by_size in values.items():
        base = by_size.get(_BASE, 0.0)
        grown = [s for s in by_size if s > _BASE and base and by_size[s] > _MOST_GROWTH * base]
        if grown:
            last = grown[-1]
            factor = by_size[last] / base
            where = f"{name} grows from {_name(grown[0])} on"
            found.append(f"{where}: {factor:.1f} x that of {_name(_BASE)} at {_name(last)}")
    return found or ["nothing grows with the set"]


def _measure_worker(work: Work, effort: Effort, progress: Progress) -> Comparison:
    """Numbers of one of 1,024 workers' rows of random steps of 10^9, and of all rows."""
    order = Order(_HUGE, _WORKERS * _PER_WORKER)
    random = np.random.default_rng(0)

    def run(rows: Callable[[], slice]) -> Sample:
        # Random steps: a run that is resumed may begin at any of them.
        chosen = random.integers(0, order.steps_per_epoch - 1, _STEPS).tolist()
        start = time.perf_counter()
        for step in chosen:
            order.examples(0, step, rows=rows())
        return Sample(_STEPS, time.perf_counter() - start)

    def part() -> slice:
        first = int(random.integers(0, _WORKERS)) * _PER_WORKER
        return slice(first, first + _PER_WORKER)

    systems = {OURS: lambda: run(part), "all workers' rows": lambda: run(lambda: slice(None))}
    shown = alternate(systems, effort.repetitions, lambda text: progress(f"growth: order, {text}"))
    return Comparison(
        "growth",
        work.schema.name,
        "a worker's part of a step",
        shown,
        note="steps/s of planning alone: a worker of 1,024 computes its own 64 rows of 65,536",
        details={"examples": _HUGE, "workers": _WORKERS, "rows_per_worker": _PER_WORKER},
        against=Against.OURSELVES,
    )
