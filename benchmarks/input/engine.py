"""Questions about the engine itself: a million rows, disk, streaming, resuming, huge orders.

| question | measured |
|---|---|
| cold, 10^6 rows | a vector set repeated to a million rows: opening, parsing, every batch of 1024 |
| verify, 10^6 rows | its `records.verify --no-content`, against reading and CRC32C in C |
| prepared | the first epoch of a later run, from the decoded file of an earlier one: not cold |
| streaming | pictures of 2 GB decoded in shuffle blocks under a budget of 512 MB, and its memory |
| resume at 90 % | time to the first batch, deep in an epoch, against a fresh start |
| order of 10^11 | numbers of 1,000 batches of 1024, anywhere in the epoch |
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from benchmarks.input.readers import make_ours, open_examples, read_epoch
from benchmarks.measuring.child import run_child
from benchmarks.measuring.comparison import FIRST_BATCH, OURS, Against, Comparison
from benchmarks.measuring.consume import Maker, read_on_host
from benchmarks.measuring.repeat import repeat_set
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Work, open_work
from benchmarks.peers import tfds_reader
from records.decoding.indexing import read_index
from records.decoding.modality import modality_of
from records.loading.cache import choose_shuffle_block
from records.ordering.order import Order
from records.pipeline import make_arrays
from records.sets.schema import IMAGE, TABULAR
from records.verify.check import verify_set

_ROWS, _QUICK_ROWS, _ROW_BATCH = 10**6, 10**4, 1024
# Decoded pictures four times as large as the budget: a pipeline that keeps them cannot hide it.
_STREAMED_BYTES, _BUDGET_BYTES = 2 * 10**9, 512 * 2**20
_MOST_ROUNDS = 3  # of questions that take a minute a round
_READ = "limit: read the file"
_CHECKED = "limit: read, CRC32C"
# 10^11 examples: an order that held a table of them would need 800 GB.
_HUGE, _HUGE_BATCHES, _HUGE_SIZE = 10**11, 1000, 1024


def measure_engine(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Answers the questions that fit the set's kind of input."""

    def tell(text: str) -> None:
        progress(f"engine: {text}")

    found = [_measure_resume(work, effort, tell, blocks) for blocks in (1, 4)]
    if work.schema.modality == TABULAR:
        with tempfile.TemporaryDirectory() as folder:
            found += _measure_rows(work, folder, effort, tell)
        found.append(_measure_order(work, effort, tell))
    if work.schema.modality == IMAGE:
        found += _measure_disk(work, effort, tell)
        if effort.thorough:  # a quick run has not the time
            with tempfile.TemporaryDirectory() as folder:
                found.append(_measure_streaming(work, folder, effort, tell))
    return found


def _answer(
    work: Work, question: str, samples: dict[str, list[Sample]], goal: float | None, **more: Any
) -> Comparison:
    return Comparison("engine", work.schema.name, question, samples, goal=goal, **more)


def _against(
    work: Work,
    question: str,
    samples: dict[str, list[Sample]],
    others: dict[str, tuple[Against, float]],
) -> list[Comparison]:
    """One comparison for each other system, with what it is and a goal of its own."""
    found = []
    for name, (against, goal) in others.items():
        pair = {OURS: samples[OURS], name: samples[name]}
        found.append(_answer(work, question, pair, goal, beside=name, against=against))
    return found


def _measure_rows(work: Work, folder: str, effort: Effort, progress: Progress) -> list[Comparison]:
    rows, shown = (_ROWS, "10^6 rows") if effort.thorough else (_QUICK_ROWS, "10^4 rows")
    progress(f"{shown}, writing them")
    directory = repeat_set(work.schema, work.split, rows, folder)
    # In small batches a batch's own cost would hide that of the rows.
    many = dataclasses.replace(open_work(directory), global_batch_size=_ROW_BATCH)
    makers: dict[str, Maker] = {OURS: make_ours, "tfds.load": _tfds_batches, "bare": _bare_batches}
    systems = {name: lambda make=make: read_epoch(many, make) for name, make in makers.items()}
    # Once without the clock: it traces, and fills the page cache.
    for run in systems.values():
        run()
    rounds = min(_MOST_ROUNDS, effort.repetitions)
    samples = alternate(systems, rounds, lambda text: progress(f"{shown}: {text}"))
    others = {"tfds.load": (Against.PEER, 7.0), "bare": (Against.PEER, 0.8)}
    found = _against(work, f"cold, {shown}", samples, others)
    checks = {OURS: lambda: _verify(many), _CHECKED: lambda: _check(many)}
    samples = alternate(checks, rounds, lambda text: progress(f"verify, {shown}: {text}"))
    others = {_CHECKED: (Against.LIMIT, 0.8)}
    return found + _against(work, f"verify, {shown}", samples, others)


def _verify(work: Work) -> Sample:
    """Frames, both CRCs of every record, counts and fingerprint, on all cores.

    Without content: ids of a repeated set are all found twice, which would be measured.
    """
    start = time.perf_counter()
    report = verify_set(work.schema.directory, content=False)
    seconds = time.perf_counter() - start
    if not report.is_sound:
        raise ValueError(f"benchmark: {work.schema.name}: expected a sound set, {report.problems}")
    return Sample(work.num_examples, seconds)


def _check(work: Work) -> Sample:
    """`cat` into CRC32C: every byte of the shards is read, and checked in C."""
    crc, start = 0, time.perf_counter()
    for path in work.schema.shards[work.split]:
        with open(path, "rb", buffering=0) as file:
            while data := file.read(2**20):
                crc = google_crc32c.extend(crc, data)
    return Sample(work.num_examples, time.perf_counter() - start)


def _tfds_batches(work: Work) -> Iterator[tuple[Any, Any]]:
    """`tfds.load(...).batch(B)`."""
    dataset = tfds.builder_from_directory(work.schema.directory).as_dataset(split=work.split)
    for rows in dataset.batch(work.global_batch_size):
        yield rows[work.schema.input_name], rows[work.schema.label_name]


def _bare_batches(work: Work) -> Iterator[tuple[Any, Any]]:
    """`TFRecordDataset(...).batch(B).map(parse_example)`: in the order of the files."""
    spec, schema = modality_of(work.schema).parse_spec(), work.schema
    files = tf.data.TFRecordDataset(list(schema.shards[work.split]))
    for rows in files.batch(work.global_batch_size).map(lambda x: tf.io.parse_example(x, spec)):
        yield rows[schema.input_name], rows[schema.label_name]


def _measure_disk(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """The first epoch of a second run against cold ones, ours and tf.data's, and reading the file.

    From the opened set on: opening takes some milliseconds with either.
    """

    def epoch(cache: str) -> Sample:
        opened = open_examples(work, cache=cache)
        return read_epoch(work, lambda _: make_arrays(*opened))

    file = _decoded_file(work, lambda: epoch("disk"))

    def read() -> Sample:
        room, start = bytearray(2**23), time.perf_counter()
        # Without Python's buffer, in pieces of 8 MB: as fast as the system gives it.
        with open(file, "rb", buffering=0) as opened:
            while opened.readinto(room):
                pass
        return Sample(work.num_examples, time.perf_counter() - start)

    systems: dict[str, Callable[[], Sample]] = {
        OURS: lambda: epoch("disk"),
        "cold epoch": lambda: epoch("none"),
        "tf.data, cold": lambda: read_epoch(work, tfds_reader.make_tuned),
        _READ: read,
    }
    samples = alternate(systems, effort.repetitions, lambda text: progress(f"prepared: {text}"))
    others = {
        "cold epoch": (Against.OURSELVES, 5.0),
        "tf.data, cold": (Against.PEER, 5.0),
        _READ: (Against.LIMIT, 0.5),
    }
    return _against(work, "prepared", samples, others)


def _decoded_file(work: Work, write: Callable[[], Any]) -> Path:
    """The file that a run with the disk cache leaves."""
    folder = Path(work.schema.directory) / "decoded"
    write()
    # The newest one: other questions may have left files of the same split.
    return max(folder.glob(f"{work.split}-*.npy"), key=lambda file: file.stat().st_mtime)


def _measure_resume(work: Work, effort: Effort, progress: Progress, blocks: int) -> Comparison:
    """Without a cache, where a batch has to be read: in one permutation, or in several blocks."""
    examples, order = open_examples(work, cache="none")
    if blocks > 1:
        size, block = order.global_batch_size, order.num_examples // blocks
        order = Order(order.num_examples, size, shuffle_block=block)
    late = (3, int(0.9 * order.steps_per_epoch))

    def first_batch(start: tuple[int, int]) -> Sample:
        began = time.perf_counter()
        batches = make_arrays(examples, order, 4, start)
        read_on_host(*next(batches)[:2])
        seconds = time.perf_counter() - began
        return Sample(order.global_batch_size, seconds, seconds)

    # Without the clock: the first call traces.
    first_batch((0, 0))
    systems = {OURS: lambda: first_batch(late), "fresh start": lambda: first_batch((0, 0))}
    samples = alternate(systems, effort.repetitions, lambda text: progress(f"resume: {text}"))
    state = json.dumps({"seed": order.seed, "epoch": late[0], "step": late[1]})
    return _answer(
        work,
        f"resume at 90 %{f', {blocks} blocks' if blocks > 1 else ''}",
        samples,
        1 / 1.5,
        quantity=FIRST_BATCH,
        against=Against.OURSELVES,
        details={"state_bytes": len(state), "start": late},
    )


def _measure_order(work: Work, effort: Effort, progress: Progress) -> Comparison:
    order = Order(_HUGE, _HUGE_SIZE)
    random = np.random.default_rng(0)

    def ours() -> Sample:
        # Anywhere in the epoch: an order that is fast only from step to step would show here.
        steps = random.integers(0, order.steps_per_epoch - 1, _HUGE_BATCHES)
        start = time.perf_counter()
        for step in steps.tolist():
            order.examples(0, step)
        return Sample(_HUGE_BATCHES * _HUGE_SIZE, time.perf_counter() - start)

    # Not measured: 1 s for 1,000 batches is what this project promises.
    promise = Sample(_HUGE_BATCHES * _HUGE_SIZE, 1.0)
    systems = {OURS: ours, "promise: 1 s": lambda: promise}
    samples = alternate(systems, effort.repetitions, lambda text: progress(f"order: {text}"))
    more: dict[str, Any] = {"against": Against.OURSELVES, "is_fixed": True}
    return _answer(work, "order of 10^11, 1,000 batches", samples, 1.0, **more)


def _measure_streaming(work: Work, folder: str, effort: Effort, progress: Progress) -> Comparison:
    """Blocks under the budget against a cold epoch without one, each in a process of its own."""
    progress("streaming, writing pictures")
    count = -(-_STREAMED_BYTES // int(np.prod(work.input_shape)))
    directory = repeat_set(work.schema, work.split, count, folder)
    many = open_work(directory)
    encoded = int(read_index(many.schema, many.split).length.sum())
    size = work.global_batch_size
    block = choose_shuffle_block("none", encoded, count, size, _BUDGET_BYTES)

    def run(cache: str, shuffle_block: int | None) -> Sample:
        request = {
            "directory": directory,
            "smallest": work.schema.directory,
            "global_batch_size": size,
            "shuffle_block": shuffle_block,
            "cache": cache,
            "seconds": None,
            "raw": False,
        }
        found = run_child("benchmarks.input.reading_child", request)
        processes.append(found | {"shuffle_block": shuffle_block})
        first = found["seconds_to_first_batch"]
        return Sample(count, first + found["seconds"], first)

    processes: list[dict[str, Any]] = []
    systems = {OURS: lambda: run("none", block), "no budget": lambda: run("memory", None)}
    rounds = min(_MOST_ROUNDS, effort.repetitions)
    samples = alternate(systems, rounds, lambda text: progress(f"streaming: {text}"))
    peak = max(one["peak_bytes"] for one in processes if one["shuffle_block"]) >> 20
    note = f"at most {peak:,} MiB above the idle process, budget {_BUDGET_BYTES >> 20} MiB"
    return _answer(
        work,
        f"streaming, {_STREAMED_BYTES / 10**9:g} GB",
        samples,
        0.8,
        note=note,
        details={"examples": count, "budget": _BUDGET_BYTES, "processes": processes},
        against=Against.OURSELVES,
    )
