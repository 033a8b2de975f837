"""The way to decoding against what this machine can do at all: reading and CRC32C of the shards.

| question | ours | its limits, a row each |
|---|---|---|
| read, check | every record by the index, one thread | reading; CRC32C, one thread |
| read, check, parse | the same and parsed, all cores: a cold epoch | reading; CRC32C, all cores |
| cold epoch | pictures: one that decodes and fills the cache | OpenCV: decode, resize, all cores |
| streaming | pictures: the same with `--cache none` | OpenCV: decode, resize, all cores |

Shards are in the page cache. The limits know nothing of records: reading copies every shard into
the same memory in large pieces, CRC32C runs over whole shards in memory, and OpenCV, a thread per
core in this process, has the pictures' bytes in memory and drops its pixels. libjpeg-turbo and
memory copies are limits beside their own questions (`benchmarks.input.libraries`,
`benchmarks.input.readers`).
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c

from benchmarks.input.peer_files import read_inputs
from benchmarks.input.readers import open_examples, read_epoch
from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate, whole_epochs
from benchmarks.measuring.work import Effort, Work
from benchmarks.peers import opencv_picture
from records.decoding.indexing import read_index
from records.loading.load import Loader
from records.pipeline import make_arrays
from records.sets.schema import IMAGE
from records.shards.index import RecordReader
from records.system.threads import num_threads, ordered_map

_READ, _CRC, _CRC_CORES = "sequential read", "CRC32C", "CRC32C, all cores"
_CHECKED, _PARSED = "read, check, one thread", "read, check, parse"
_OPENCV = "OpenCV, decode and resize"
# By the level of `--cache`: the question, and the least share of the limit that is promised.
_DECODING = {"memory": ("cold epoch", 0.9), "none": ("streaming", 0.95)}
_NOTE = "the smaller the records, the more the fixed cost of each one counts"
_PIECE_BYTES = 8 * 2**20  # as much as `RecordReader` reads at once
_CRC_BYTES = 2**20  # small enough that all cores are busy to the end


def measure_limits(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Answers the questions for one set, of any kind of input."""
    paths = read_index(work.schema, work.split).paths
    with ThreadPoolExecutor(num_threads()) as pool:
        samples = _measure(work, make_passes(work, paths, pool), effort, progress)
    size = sum(Path(path).stat().st_size for path in paths)
    pairs = ((_CHECKED, _READ), (_CHECKED, _CRC), (_PARSED, _READ), (_PARSED, _CRC_CORES))
    found = [_answer(work, ours, limit, samples, size) for ours, limit in pairs]
    if work.schema.modality == IMAGE:
        found += _measure_pictures(work, effort, progress)
    return found


def _measure_pictures(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Epochs that decode, from the opened set on, against decoding alone."""
    pictures = read_inputs(work, read_index(work.schema, work.split))
    # 32 pictures a unit: handing one over costs little of it, and all cores end at about one time.
    units = [pictures[start : start + 32] for start in range(0, len(pictures), 32)]

    def decode(unit: list[bytes]) -> None:
        for data in unit:
            opencv_picture.decode(data, work.input_shape)

    def epoch(cache: str) -> Sample:
        opened = open_examples(work, cache=cache)
        return read_epoch(work, lambda _: make_arrays(*opened))

    with ThreadPoolExecutor(num_threads()) as pool:

        def limit() -> Sample:
            start = time.perf_counter()
            list(pool.map(decode, units))
            return Sample(len(pictures), time.perf_counter() - start)

        systems: dict[str, Callable[[], Sample]] = {_OPENCV: limit}
        systems |= {cache: functools.partial(epoch, cache) for cache in _DECODING}
        for run in systems.values():
            run()  # traces, starts threads
        samples = alternate(systems, effort.repetitions, lambda text: progress(f"limits: {text}"))
    found = []
    for cache, (question, goal) in _DECODING.items():
        pair = {OURS: samples[cache], _OPENCV: samples[_OPENCV]}
        more: dict[str, Any] = {"goal": goal, "against": Against.LIMIT, "beside": _OPENCV}
        found.append(Comparison("limits", work.schema.name, question, pair, **more))
    return found


def _measure(
    work: Work, passes: dict[str, Callable[[], int]], effort: Effort, progress: Progress
) -> dict[str, list[Sample]]:
    systems = {}
    for name, run in passes.items():
        progress(f"limits: {name}, warming up")
        run()
        systems[name] = whole_epochs(_repeated(run), work.num_examples, effort.seconds / 2)
    return alternate(systems, effort.repetitions, lambda text: progress(f"limits: {text}"))


def _repeated(run: Callable[[], object]) -> Callable[[int], None]:
    def passes(count: int) -> None:
        for _ in range(count):
            run()

    return passes


def make_passes(
    work: Work, paths: tuple[str, ...], pool: ThreadPoolExecutor
) -> dict[str, Callable[[], int]]:
    """One pass of each system over the split; each returns the bytes that it went through."""
    # In memory before the clock starts: CRC32C is measured, not reading.
    shards = [Path(path).read_bytes() for path in paths]
    pieces = [
        data[start : start + _CRC_BYTES]
        for data in shards
        for start in range(0, len(data), _CRC_BYTES)
    ]
    room = memoryview(bytearray(_PIECE_BYTES))
    loader = open_examples(work, cache="none")[0].loader
    return {
        _CHECKED: lambda: _read_records(loader, 1, parse=False),
        _PARSED: lambda: _read_records(loader, num_threads(), parse=True),
        _READ: lambda: sum(_read_file(path, room) for path in paths),
        _CRC: lambda: sum(map(_check, shards)),
        _CRC_CORES: lambda: sum(pool.map(_check, pieces)),
    }


def _read_records(loader: Loader, threads: int, parse: bool) -> int:
    """Reads all records in units of work, as a cold epoch does; opens the shards anew."""
    reader = RecordReader(loader.index)

    def load(numbers: Any) -> Any:
        payloads = reader.read(numbers)
        return loader.rows(numbers, payloads) if parse else payloads

    if threads == 1:  # without a pool
        for numbers in loader.units():
            load(numbers)
    else:
        for _ in ordered_map(load, loader.units(), threads):
            pass
    return reader.bytes_read


def _read_file(path: str, room: memoryview) -> int:
    total = 0
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(room):
            total += count
    return total


def _check(data: bytes) -> int:
    google_crc32c.value(data)
    return len(data)


def _answer(
    work: Work, ours: str, limit: str, samples: dict[str, list[Sample]], size: int
) -> Comparison:
    pair = {OURS: samples[ours], limit: samples[limit]}
    one = Comparison("limits", work.schema.name, ours, pair, against=Against.LIMIT, beside=limit)
    record = size / work.num_examples
    details = {
        "limit": limit,
        "shard_bytes": size,
        "bytes_per_s": {name: one.median(name) * record for name in pair},
        "processors": num_threads(),
    }
    first = (ours, limit) == (_CHECKED, _READ)  # said once for each set
    note = f"{work.schema.name.split('/')[0]}: records of {record:,.0f} bytes; {_NOTE}"
    return dataclasses.replace(one, note=note if first else "", details=details)
