"""Pictures against other libraries, each in an environment of its own, and against the limits.

Cold: from JPEGs in the page cache to batches of uint8 pictures, one whole epoch. Ours opens the
set, decodes the whole split and gathers it in a global permutation; the others' own preparation
is not counted. Warm: a later epoch, from memory. Every byte of every batch is read.
"""

from __future__ import annotations

import contextlib
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import input as input_questions
from benchmarks.external import Peer, PeerError
from benchmarks.timing import OURS, Comparison, Sample, alternate
from benchmarks.work import Effort, Work
from records.decode import parse_spec
from records.index import RecordReader, read_index
from records.schema import IMAGE

Progress = Callable[[str], None]

# Name, file, what differs in its request, least ratio of ours over it that we promise ourselves.
_COLD: tuple[tuple[str, str, dict[str, Any], float], ...] = (
    ("DALI, grey", "dali_pictures", {}, 1.25),
    ("DALI, RGB", "dali_pictures", {"channels": 3}, 2.2),
    ("torch DataLoader, Pillow", "torch_pictures", {}, 3.5),
    ("FFCV, jpg", "ffcv_pictures", {"mode": "jpg", "channels": 3}, 3.0),
    ("limit: libjpeg-turbo alone", "libjpeg_limit", {"resize": False}, 0.6),
    ("limit: libjpeg-turbo and resize", "libjpeg_limit", {"resize": True}, 0.85),
)
_WARM: tuple[tuple[str, str, dict[str, Any], float], ...] = (
    ("FFCV, raw", "ffcv_pictures", {"mode": "raw", "channels": 3}, 2.5),
)


def measure_pictures(
    work: Work, effort: Effort, progress: Progress
) -> tuple[list[Comparison], list[str]]:
    """Compares with every installed peer: (comparisons, sentences on those that are skipped).

    Raises:
      ValueError: a peer does not deliver the same pictures.
    """
    if work.schema.modality != IMAGE:
        return [], []
    with tempfile.TemporaryDirectory(prefix="peers") as folder, contextlib.ExitStack() as stack:
        progress("peers: writing files and indexes for them")
        request = prepare_request(work, Path(folder))
        peers, skipped = _start(_COLD + _WARM, request, stack, progress)
        _check(work, peers, progress)
        cold = {k: p for k, p in peers.items() if k in [name for name, *_ in _COLD]}
        warm = {k: p for k, p in peers.items() if k not in cold}
        found = _compare(work, "cold", _cold_ours(work), cold, effort, progress)
        if warm:
            found += _compare(work, "warm, iterator", _warm_ours(work), warm, effort, progress)
    return found, skipped


def prepare_request(work: Work, folder: Path) -> dict[str, Any]:
    """Writes the split's pictures as files and the shards' indexes as DALI reads them."""
    import tensorflow as tf

    index = read_index(work.schema, work.split)
    spec = parse_spec(work.schema)
    reader = RecordReader(index)
    for start in range(0, index.num_records, 256):
        numbers = np.arange(start, min(start + 256, index.num_records))
        rows = tf.io.parse_example(tf.constant(reader.read(numbers).tolist(), tf.string), spec)
        for number, data in zip(numbers, rows[work.schema.input_name].numpy(), strict=True):
            file = folder / "pictures" / str(index.label[number]) / f"{number:06d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    indexes = []
    for shard, path in enumerate(index.paths):
        here = index.shard == shard
        rows = zip(index.offset[here].tolist(), (index.length[here] + 16).tolist())
        file = folder / f"{Path(path).name}.idx"
        file.write_text("".join(f"{offset} {size}\n" for offset, size in rows))
        indexes.append(str(file))
    return {
        "shards": list(index.paths),
        "indexes": indexes,
        "folder": str(folder / "pictures"),
        "count": work.num_examples,
        "image_size": work.input_shape[0],
        "channels": work.input_shape[2],
        "global_batch_size": work.global_batch_size,
    }


def _start(
    wanted: tuple[tuple[str, str, dict[str, Any], float], ...],
    request: dict[str, Any],
    stack: contextlib.ExitStack,
    progress: Progress,
) -> tuple[dict[str, Peer], list[str]]:
    peers, skipped = {}, []
    for name, file, changes, _ in wanted:
        progress(f"peers: starting {name}")
        try:
            peers[name] = stack.enter_context(Peer(file, request | changes))
        except PeerError as error:
            skipped.append(f"skipped: {error}")
    return peers, list(dict.fromkeys(skipped))


def _check(work: Work, peers: dict[str, Peer], progress: Progress) -> None:
    """Raises ValueError unless every peer delivers the same examples as we do."""
    progress("peers: checking that all deliver the same")
    ours = list(input_questions.real_rows(input_questions.make_ours(work)))
    reference, labels = (np.concatenate(column) for column in zip(*ours, strict=True))
    expected = np.bincount(labels).tolist()
    for name, peer in peers.items():
        if name.startswith("limit"):
            counts, least = np.bincount(peer.deliver()[1]).tolist(), np.inf
        else:
            pictures, classes = peer.deliver()
            counts = np.bincount(classes.astype(int)).tolist()
            grey = pictures[..., : reference.shape[-1]]
            # FFCV encodes JPEGs anew and stores raw pictures resized by Pillow, antialiased;
            # its pictures differ, its work does not.
            least = np.inf if "FFCV" in name else input_questions.least_psnr(grey[:256], reference)
        if counts != expected or least < input_questions.LEAST_PSNR - 10:
            raise ValueError(
                f"benchmarks/pictures: {work.schema.name}: {name} expected label counts {expected} "
                f"and pictures like ours, received {counts} and {least:.1f} dB"
            )


def _cold_ours(work: Work) -> Callable[[], Sample]:
    def run() -> Sample:
        gc.collect()
        start, first = time.perf_counter(), 0.0
        for x, y, *_ in input_questions.make_ours(work):
            first = first or time.perf_counter() - start
            input_questions.read_on_host(x, y)
        return Sample(work.num_examples, time.perf_counter() - start, first)

    return run


def _warm_ours(work: Work) -> Callable[[], Sample]:
    batches: Iterator[Any] = iter(input_questions.make_ours(work, endless=True))

    def run() -> Sample:
        start = time.perf_counter()
        for _ in range(10 * work.steps_per_epoch):
            x, y, *_ = next(batches)
            input_questions.read_on_host(x, y)
        return Sample(10 * work.num_examples, time.perf_counter() - start)

    run()
    return run


def _compare(
    work: Work,
    question: str,
    ours: Callable[[], Sample],
    peers: dict[str, Peer],
    effort: Effort,
    progress: Progress,
) -> list[Comparison]:
    """One comparison per peer; all take turns with ours in the same rounds."""
    goals = {name: goal for name, _, _, goal in _COLD + _WARM}
    systems = {OURS: ours} | {name: peer.run for name, peer in peers.items()}
    for run in systems.values():
        run()
    samples = alternate(systems, effort.repetitions, lambda text: progress(f"peers: {text}"))
    return [
        Comparison(
            "peers",
            work.schema.name,
            f"{question}: {name}",
            {OURS: samples[OURS], "other": samples[name]},
            goal=goals[name],
        )
        for name in peers
    ]
