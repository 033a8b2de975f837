"""Input questions: how fast do examples come out, cold, warm, and inside the step loop?

Each system delivers the same split, and every byte it delivers is read by the same reduction.

| question | measured |
|---|---|
| cold epoch | from opening the set to the end of its first epoch, with decoding; page cache full |
| first batch | the part of that until the first batch is there |
| warm, iterator | later epochs, batch by batch out of the iterator, in host memory |
| warm, step loop | later epochs inside one compiled loop; ours gathers from its device cache |
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.peers import tfds_reader
from benchmarks.timing import (
    FIRST_BATCH,
    OURS,
    Comparison,
    Sample,
    alternate,
    fitting_count,
)
from benchmarks.work import Effort, Work
from records import open_data
from records.examples import Examples
from records.order import Order
from records.pipeline import make_batches
from records.schema import IMAGE
from train.feed import MAX_CHUNK_STEPS, Feed
from train.strategy import make_cluster

# Peers decode with the fast or the accurate inverse DCT and round differently: 45 dB and more.
LEAST_PSNR = 40.0
# Pictures whose 8x8 thumbnails are nearest: among near copies the nearest one need not be it.
_NEAREST = 8
_ENDLESS = 2**20  # epochs
_WARM_NOTE = (
    "ours permutes all examples anew every epoch, tfds tuned shuffles its cache, tfds nothing"
)

Progress = Callable[[str], None]


def _open_examples(work: Work) -> Examples:
    """All examples of the split, decoded: also those that a run would hold back to validate."""
    data = open_data(work.schema.directory, config=work.input_config())
    examples = data.examples(work.split)
    return dataclasses.replace(examples, numbers=np.arange(examples.index.num_records))


def make_ours(work: Work, endless: bool = False) -> tf.data.Dataset:
    """This system's batches, in a new global permutation every epoch."""
    examples = _open_examples(work)
    order = Order(examples.num_examples, work.global_batch_size)
    return make_batches(examples, order, _ENDLESS if endless else 1)


# Every maker takes (work, endless) and starts from the shards.
SYSTEMS: dict[str, Callable[..., tf.data.Dataset]] = {
    OURS: make_ours,
    "tfds": tfds_reader.make_plain,
    "tfds tuned": tfds_reader.make_tuned,
}


def measure_input(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Answers the input questions for one set.

    Raises:
      ValueError: the systems do not deliver the same examples.
    """
    progress("input: checking that all systems deliver the same")
    found = check_same(work)
    details = {
        "global_batch_size": work.global_batch_size,
        "input": [work.input_dtype, *work.input_shape],
        "examples": work.num_examples,
        "split": work.split,
        "fingerprint": work.fingerprint,
        "least_psnr_or_share_equal": found,
    }

    def answer(question: str, samples: dict[str, list[Sample]], **more: Any) -> Comparison:
        return Comparison("input", work.schema.name, question, samples, details=details, **more)

    cold = _measure_cold(work, effort, _prefixed(progress, "input, cold"))
    sources = {name: iter(make(work, endless=True)) for name, make in SYSTEMS.items()}
    warm = _measure_warm(work, sources, effort, _prefixed(progress, "input, warm iterator"))
    looped = _measure_looped(work, sources, effort, _prefixed(progress, "input, step loop"))
    return [
        answer("cold epoch", cold, note="ours decodes the whole split before its first batch"),
        answer("first batch", cold, quantity=FIRST_BATCH),
        answer("warm, iterator", warm, note=_WARM_NOTE),
        answer("warm, step loop", looped),
    ]


def _prefixed(progress: Progress, prefix: str) -> Progress:
    return lambda text: progress(f"{prefix}: {text}")


def check_same(work: Work) -> dict[str, float]:
    """Checks that every system delivers the split's examples once: counts, labels, shapes, pixels.

    Returns:
      Per system, the least PSNR in dB of its pictures against ours (infinite where equal); for
      other inputs the share of its examples that are byte for byte ours. Ids are not: ours are
      ranked by their frequency among the training examples.

    Raises:
      ValueError: it delivers anything else; says which system and what.
    """
    delivered = {name: _deliver(name, make, work) for name, make in SYSTEMS.items()}
    found = {}
    for name, (inputs, labels) in delivered.items():
        expected = np.sort(delivered[OURS][1])
        if len(labels) != work.num_examples or not np.array_equal(np.sort(labels), expected):
            counts = np.bincount(labels).tolist()
            raise ValueError(
                f"benchmarks/input: {work.schema.name}: {name} expected {work.num_examples} "
                f"examples with label counts {np.bincount(expected).tolist()}, received "
                f"{len(labels)} with {counts}"
            )
        if work.schema.modality != IMAGE:
            ours = collections.Counter(map(zlib.crc32, delivered[OURS][0]))
            same = ours & collections.Counter(map(zlib.crc32, inputs))
            found[name] = same.total() / work.num_examples
            continue
        found[name] = least_psnr(inputs, delivered[OURS][0])
        if found[name] < LEAST_PSNR:
            raise ValueError(
                f"benchmarks/input: {work.schema.name}: {name} expected pictures within "
                f"{LEAST_PSNR} dB of ours, received one of {found[name]:.1f} dB"
            )
    return found


def least_psnr(pictures: np.ndarray, reference: np.ndarray) -> float:
    """The least PSNR, dB, of pictures uint8 [n, S, S, C] against the most alike of the others."""
    side = max(1, pictures.shape[1] // 8)
    small, others = (
        p[:, : 8 * side, : 8 * side]
        .reshape(len(p), 8, side, 8, side, -1)
        .mean((2, 4, 5), dtype=np.float32)
        .reshape(len(p), -1)
        for p in (pictures, reference)
    )
    least = np.inf
    candidates = min(len(reference), _NEAREST)
    for row, picture in zip(small, pictures, strict=True):
        nearest = np.argpartition(((others - row) ** 2).sum(1), candidates - 1)[:candidates]
        differences = reference[nearest].astype(np.float32) - picture
        error = float((differences**2).mean((1, 2, 3)).min())
        least = min(least, 10 * np.log10(255**2 / error) if error else np.inf)
    return float(least)


def _deliver(
    name: str, make: Callable[..., tf.data.Dataset], work: Work
) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, labels) of one epoch of a system."""
    inputs, labels = [], []
    for x, y in real_rows(make(work)):
        if (x.shape[1:], x.dtype.name) != (work.input_shape, work.input_dtype):
            raise ValueError(
                f"benchmarks/input: {work.schema.name}: {name} expected batches of "
                f"{work.input_dtype} {work.input_shape}, received {x.dtype} {x.shape[1:]}"
            )
        inputs.append(x)
        labels.append(y)
    return np.concatenate(inputs), np.concatenate(labels)


def real_rows(dataset: tf.data.Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(inputs, labels) of each batch; rows of weight 0 are left out."""
    for x, y, *weights in dataset.as_numpy_iterator():
        real = weights[0] > 0 if weights else np.ones(len(y), bool)
        yield np.ascontiguousarray(x[real]), y[real]


def read_on_host(inputs: tf.Tensor, labels: tf.Tensor) -> int:
    """Reads every byte of a batch that an iterator gave: a number that depends on all of them.

    NumPy, on the tensors' own memory: a compiled function costs 0.1 ms a call, which would hide
    the differences between systems whose batches take no longer.
    """
    flat = np.asarray(inputs).reshape(-1)
    total = flat.view(np.int64).sum() if flat.nbytes % 8 == 0 else flat.sum()
    return int(total) + int(np.asarray(labels).sum())


def read_on_device(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The same inside a compiled loop: int64 []; rows of whole 8-byte words are summed as such."""
    words, rest = divmod(int(np.prod(inputs.shape[1:])) * inputs.dtype.size, 8)
    if words and not rest:
        shape = [-1, words] if inputs.dtype.size == 8 else [-1, words, 8 // inputs.dtype.size]
        total = tf.reduce_sum(tf.bitcast(tf.reshape(inputs, shape), tf.int64))
    else:
        total = tf.cast(tf.reduce_sum(tf.cast(inputs, tf.float32)), tf.int64)
    return total + tf.reduce_sum(tf.cast(labels, tf.int64))


def _measure_cold(work: Work, effort: Effort, progress: Progress) -> dict[str, list[Sample]]:
    def run(make: Callable[..., tf.data.Dataset]) -> Sample:
        gc.collect()  # what the one before left behind is not this one's cost
        start = time.perf_counter()
        first = 0.0
        for x, y, *_ in make(work):
            first = first or time.perf_counter() - start
            read_on_host(x, y)
        return Sample(work.num_examples, time.perf_counter() - start, first)

    # No warm-up: `check_same` has just run one such epoch of every system.
    systems = {name: lambda make=make: run(make) for name, make in SYSTEMS.items()}
    return alternate(systems, effort.repetitions, progress)


def _measure_warm(
    work: Work, sources: dict[str, Iterator[Any]], effort: Effort, progress: Progress
) -> dict[str, list[Sample]]:
    def consumer(source: Iterator[Any]) -> Callable[[int], None]:
        def consume(epochs: int) -> None:
            for _ in range(epochs * work.steps_per_epoch):
                x, y, *_ = next(source)
                read_on_host(x, y)

        return consume

    consumers = {name: consumer(source) for name, source in sources.items()}
    return _measure_epochs(work, consumers, effort, progress)


def _measure_looped(
    work: Work, sources: dict[str, Iterator[Any]], effort: Effort, progress: Progress
) -> dict[str, list[Sample]]:
    """Ours against the cached peer: plain `tfds.load` finishes every example anew in each epoch."""
    consumers = {OURS: _looped_ours(work), "tfds tuned": _looped_peer(work, sources["tfds tuned"])}
    return _measure_epochs(work, consumers, effort, progress)


def _looped_ours(work: Work) -> Callable[[int], None]:
    """Epochs of chunks from the device cache, as the training loop takes them."""
    examples = _open_examples(work)
    order = Order(examples.num_examples, work.global_batch_size)
    feed = Feed(examples, order, make_cluster("one_device"), "device")
    epoch = 0

    @tf.function
    def loop(arrays: Any, steps: tf.Tensor) -> tf.Tensor:
        inputs, labels, rows, *_ = arrays
        total = tf.constant(0, tf.int64)
        for i in tf.range(steps):
            total += read_on_device(tf.gather(inputs, rows[i]), tf.gather(labels, rows[i]))
        return total

    def consume(epochs: int) -> None:
        nonlocal epoch
        total = tf.constant(0, tf.int64)
        for _ in range(epochs):
            feed.start(epoch)
            while (chunk := feed.take(MAX_CHUNK_STEPS)) is not None:
                total += loop(chunk.arrays, tf.constant(chunk.steps, tf.int64))
            epoch += 1
        total.numpy()

    return consume


def _looped_peer(work: Work, iterator: Iterator[Any]) -> Callable[[int], None]:
    """Epochs out of an iterator that a compiled loop reads."""

    @tf.function
    def loop(source: Any, count: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0, tf.int64)
        for _ in tf.range(count):
            x, y = next(source)
            total += read_on_device(x, y)
        return total

    return lambda epochs: loop(
        iterator, tf.constant(epochs * work.steps_per_epoch, tf.int64)
    ).numpy()


def _measure_epochs(
    work: Work, consumers: dict[str, Callable[[int], None]], effort: Effort, progress: Progress
) -> dict[str, list[Sample]]:
    """Measures repetitions of whole epochs that last `effort.seconds` for each system.

    A system reads ahead while the others are measured: before its own turn as many epochs as a
    quarter of the repetition go by untimed, so that it cannot live on what it had in store.
    """
    counts: dict[str, int] = {}
    for name, consume in consumers.items():
        progress(f"{name}, warming up")
        consume(1)  # decodes, fills caches, compiles
        start = time.perf_counter()
        consume(1)
        counts[name] = fitting_count(time.perf_counter() - start, effort.seconds)

    def run(name: str) -> Sample:
        consumers[name](-(-counts[name] // 4))
        start = time.perf_counter()
        consumers[name](counts[name])
        return Sample(counts[name] * work.num_examples, time.perf_counter() - start)

    systems = {name: lambda name=name: run(name) for name in consumers}
    return alternate(systems, effort.repetitions, progress)
