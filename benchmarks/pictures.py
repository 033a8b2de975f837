"""Pictures against other libraries, each in an environment of its own, and against the limits.

Cold: from JPEGs in the page cache to batches of uint8 pictures, one whole epoch, nothing kept. Ours
opens the set and decodes it in a global permutation; the others' own preparation is not counted.
Warm: a later epoch, from memory. Every byte of every batch is read.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.consume import LEAST_PSNR, least_psnr, read_on_host, real_rows
from benchmarks.external import Peer, PeerError
from benchmarks.input import looped_ours, make_ours, open_examples, read_epoch
from benchmarks.timing import OURS, Comparison, Sample, alternate
from benchmarks.work import Effort, Work
from records.decode import parse_spec
from records.index import RecordReader, read_index
from records.pipeline import make_arrays
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
_LOOPED = tuple((*peer[:3], 5.0) for peer in _WARM)


def measure_pictures(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Compares with every installed peer; tells of those that are not.

    Raises:
      ValueError: a peer does not deliver the same pictures.
    """
    if work.schema.modality != IMAGE:
        return []
    with tempfile.TemporaryDirectory(prefix="peers") as folder, contextlib.ExitStack() as stack:
        progress("peers: writing files and indexes for them")
        request = prepare_request(work, Path(folder))
        peers = _start(_COLD + _WARM, request, stack, progress)
        _check(work, peers, progress)
        cold = {k: p for k, p in peers.items() if k in [name for name, *_ in _COLD]}
        warm = {k: p for k, p in peers.items() if k not in cold}
        run: Callable[[], Sample] = lambda: read_epoch(work, _make_decoding)  # noqa: E731
        found = _compare(work, "cold", run, cold, _COLD, effort, progress)
        if warm:
            run = _warm_ours(work)
            found += _compare(work, "warm, iterator", run, warm, _WARM, effort, progress)
            run = _timed(work, looped_ours(work))
            found += _compare(work, "warm, step loop", run, warm, _LOOPED, effort, progress)
    return found


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
) -> dict[str, Peer]:
    peers = {}
    for name, file, changes, _ in wanted:
        progress(f"peers: starting {name}")
        try:
            peers[name] = stack.enter_context(Peer(file, request | changes))
        except PeerError as error:
            print(f"skipped: {error}")
    return peers


def _check(work: Work, peers: dict[str, Peer], progress: Progress) -> None:
    """Raises ValueError unless every peer delivers the same examples as we do."""
    progress("peers: checking that all deliver the same")
    ours = list(real_rows(make_ours(work)))
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
            least = np.inf if "FFCV" in name else least_psnr(grey[:256], reference)
        if counts != expected or least < LEAST_PSNR - 10:
            raise ValueError(
                f"benchmarks/pictures: {work.schema.name}: {name} expected label counts {expected} "
                f"and pictures like ours, received {counts} and {least:.1f} dB"
            )


def _make_decoding(work: Work) -> Iterator[tuple[np.ndarray, ...]]:
    """Ours without a cache: the others keep nothing of this epoch, either."""
    return make_arrays(*open_examples(work, cache="none"))


def _warm_ours(work: Work) -> Callable[[], Sample]:
    batches: Iterator[Any] = iter(make_ours(work, endless=True))

    def consume(epochs: int) -> None:
        for _ in range(epochs * work.steps_per_epoch):
            x, y, *_ = next(batches)
            read_on_host(x, y)

    return _timed(work, consume)


def _timed(work: Work, consume: Callable[[int], None]) -> Callable[[], Sample]:
    """Ten epochs, of a system that has had one to decode and to compile."""

    def run() -> Sample:
        consume(2)
        start = time.perf_counter()
        consume(10)
        return Sample(10 * work.num_examples, time.perf_counter() - start)

    return run


def _compare(
    work: Work,
    question: str,
    ours: Callable[[], Sample],
    peers: dict[str, Peer],
    wanted: tuple[tuple[str, str, dict[str, Any], float], ...],
    effort: Effort,
    progress: Progress,
) -> list[Comparison]:
    """One comparison per peer; all take turns with ours in the same rounds."""
    goals = {name: goal for name, _, _, goal in wanted}
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
