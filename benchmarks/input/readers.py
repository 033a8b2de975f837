"""Input questions: how fast do examples come out, cold, warm, and inside the step loop?

Each system delivers the same split, and every byte it delivers is read by the same reduction.

| question | measured |
|---|---|
| cold epoch | from opening the set to the end of its first epoch, with decoding; page cache full |
| first batch | the part of that until the first batch is there |
| warm, iterator | later epochs, batch by batch, in host memory; ours as NumPy arrays |
| warm, tf.data | the same out of a `tf.data` iterator, ours too: what `fit` is fed with |
| warm, step loop | later epochs inside one compiled loop; ours gathers from its device cache |

Texts come in length buckets from ours, padded to their batch's longest from the tuned peer.
"""

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.measuring.comparison import FIRST_BATCH, OURS, Against, Comparison
from benchmarks.measuring.consume import Maker, check_same, read_on_device, read_on_host
from benchmarks.measuring.timing import Progress, Sample, alternate, whole_epochs
from benchmarks.measuring.work import Effort, Work, shortened
from benchmarks.peers import text_vectorization, tfds_reader
from records import open_data
from records.examples import AnyOrder, Examples
from records.ordering.buckets import make_order
from records.pipeline import make_arrays, make_batches
from records.sets.schema import IMAGE, TABULAR, TOKENS
from train.devices.strategy import make_cluster
from train.step.feed import make_feed
from train.step.rows import take_rows

_ENDLESS = 2**20  # epochs
_BUCKETS = 12  # as `train.run`
_TF_DATA = "ours, tf.data"
_TEXT = "TextVectorization"
_COPY = "limit: memory copy"
_WARM_NOTE = (
    "ours permutes all examples anew every epoch, tfds tuned shuffles its cache, tfds nothing"
)
# The least ratios that this project promises itself, over the tuned reader, by kind of input.
_GOALS: dict[str, dict[str, float]] = {
    TABULAR: {"warm, step loop": 3.0},
    IMAGE: {"warm, iterator": 1.0, "warm, step loop": 2.0},
    TOKENS: {"warm, iterator": 1.0, "warm, step loop": 3.0},
}


def open_examples(work: Work, **options: Any) -> tuple[Examples, AnyOrder]:
    """All examples of the split, also those that a run would hold back to validate, and an order.

    `options` are of `InputConfig`, beside those of the work.
    """
    config = dataclasses.replace(work.input_config(), **options)
    examples = open_data(work.schema.directory, config=config).examples(work.split)
    examples = dataclasses.replace(examples, numbers=np.arange(work.num_examples))
    lengths, size = examples.subset_lengths, work.global_batch_size
    return examples, make_order(
        examples.num_examples, size, lengths=lengths, length_buckets=_BUCKETS
    )


def make_ours(work: Work, endless: bool = False) -> Iterator[tuple[np.ndarray, ...]]:
    """This system's batches, in a new global permutation every epoch."""
    return make_arrays(*open_examples(work), _ENDLESS if endless else 1)


def make_our_dataset(work: Work, endless: bool = False) -> tf.data.Dataset:
    """The same as a `tf.data.Dataset`, as `make_dataset` gives it and the others: no padding."""
    batches = make_batches(*open_examples(work), pad=False)
    return batches.repeat() if endless else batches


# Every maker takes (work, endless) and starts from the shards.
SYSTEMS: dict[str, Maker] = {
    OURS: make_ours,
    _TF_DATA: make_our_dataset,
    "tfds": tfds_reader.make_plain,
    "tfds tuned": tfds_reader.make_tuned,
}


def measure_input(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Answers the input questions for one set.

    Raises:
      ValueError: the systems do not deliver the same examples.
    """
    with shortened(work, effort) as short:
        return _measure_all(short, effort, progress)


def _measure_all(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    progress("input: checking that all systems deliver the same")
    details = {
        "global_batch_size": work.global_batch_size,
        "input": [work.input_dtype, *work.input_shape],
        "examples": work.num_examples,
        "split": work.split,
        "fingerprint": work.fingerprint,
        "least_psnr_or_share_equal": check_same(work, SYSTEMS),
    }
    goals = _GOALS.get(work.schema.modality, {})

    def answer(question: str, samples: dict[str, list[Sample]], **more: Any) -> Comparison:
        goal = goals.get(question)
        return Comparison(
            "input", work.schema.name, question, samples, details=details, goal=goal, **more
        )

    cold = _measure_cold(work, effort, _prefixed(progress, "input, cold"))
    # One iterator of each for all warm questions: its cache is filled once.
    sources = {name: iter(make(work, endless=True)) for name, make in SYSTEMS.items()}
    warm = _measure_warm(work, sources, effort, _prefixed(progress, "input, warm iterator"))
    looped = _measure_looped(work, sources, effort, _prefixed(progress, "input, step loop"))
    pairs = {name: looped[name] for name in (OURS, "tfds tuned")}
    found = [
        answer("cold epoch", _without(cold, _TF_DATA)),
        answer("first batch", _without(cold, _TF_DATA), quantity=FIRST_BATCH),
        answer("warm, iterator", _without(warm, _TF_DATA), note=_WARM_NOTE),
        answer("warm, tf.data", _without(warm, OURS) | {OURS: warm[_TF_DATA]}),
        answer("warm, step loop", pairs),
    ]
    copy_goal = 0.8 if work.schema.modality == IMAGE else None
    for question, measured, name, against, least in (
        ("warm, iterator", warm, _COPY, Against.LIMIT, None),
        ("warm, step loop", looped, _TEXT, Against.PEER, 8.0),
        ("warm, step loop", looped, _COPY, Against.LIMIT, copy_goal),
    ):
        if name in measured:
            samples = {OURS: measured[OURS], name: measured[name]}
            one = answer(question, samples, beside=name, against=against)
            found.append(dataclasses.replace(one, goal=least))
    return found


def _without(samples: dict[str, list[Sample]], name: str) -> dict[str, list[Sample]]:
    return {n: s for n, s in samples.items() if n not in (name, _TF_DATA, _COPY)}


def _prefixed(progress: Progress, prefix: str) -> Progress:
    return lambda text: progress(f"{prefix}: {text}")


def _measure_cold(work: Work, effort: Effort, progress: Progress) -> dict[str, list[Sample]]:
    # No warm-up: `check_same` has just run one such epoch of every system.
    systems = {name: lambda make=make: read_epoch(work, make) for name, make in SYSTEMS.items()}
    return alternate(systems, effort.repetitions, progress)


def read_epoch(work: Work, make: Maker) -> Sample:
    """Opens a system and reads its first epoch."""
    gc.collect()  # what the one before left behind is not this one's cost
    start = time.perf_counter()
    first = 0.0
    batches = iter(make(work))  # held: an iterator of tf.data may wait for its threads when it goes
    for x, y, *_ in batches:
        first = first or time.perf_counter() - start
        read_on_host(x, y)
    return Sample(work.num_examples, time.perf_counter() - start, first)


def _measure_warm(
    work: Work, sources: dict[str, Iterator[Any]], effort: Effort, progress: Progress
) -> dict[str, list[Sample]]:
    consumers = {name: iterated(work, source) for name, source in sources.items()}
    consumers |= _copier(work)
    return _measure_epochs(work, consumers, effort, progress)


def iterated(work: Work, source: Iterator[Any]) -> Callable[[int], None]:
    """Reads whole epochs from an endless iterator."""

    def consume(epochs: int) -> None:
        for _ in range(epochs * work.steps_per_epoch):
            x, y, *_ = next(source)
            read_on_host(x, y)

    return consume


def _measure_looped(
    work: Work, sources: dict[str, Iterator[Any]], effort: Effort, progress: Progress
) -> dict[str, list[Sample]]:
    """Ours against the cached peer: plain `tfds.load` finishes every example anew in each epoch."""
    consumers = {OURS: looped_ours(work), "tfds tuned": _looped_peer(work, sources["tfds tuned"])}
    if work.schema.modality == TOKENS:
        texts = iter(text_vectorization.make(work, endless=True))
        consumers[_TEXT] = _looped_peer(work, texts)
    return _measure_epochs(work, consumers | _copier(work), effort, progress)


def looped_ours(work: Work) -> Callable[[int], None]:
    """Epochs of chunks from the device cache, as the training loop takes them.

    Compiled with XLA where `train.run` on a CPU compiles the step: for vectors.
    """
    examples, order = open_examples(work)
    feed = make_feed(examples, order, make_cluster("one_device"), "device")
    epoch = 0

    @tf.function(jit_compile=work.schema.modality == TABULAR)
    def loop(arrays: Any, lengths: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        inputs, labels, rows, *_ = arrays

        def body(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = take_rows(inputs, rows[i], examples.spec, lengths[i])
            return i + 1, total + read_on_device(batch, tf.gather(labels, rows[i]))

        start = [tf.constant(0, tf.int32), tf.constant(0, tf.int64)]
        return tf.while_loop(lambda i, total: i < steps, body, start)[1]

    def consume(epochs: int) -> None:
        nonlocal epoch
        for _ in range(epochs):
            feed.start(epoch)
            while (chunk := feed.take(feed.chunk_steps)) is not None:
                steps = tf.constant(chunk.steps, tf.int32)
                total = loop(chunk.arrays, tf.constant(chunk.lengths), steps)
            epoch += 1
        # Waits for the device, which may still compute when a call has returned.
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


def _copier(work: Work) -> dict[str, Callable[[int], None]]:
    """Copies as many bytes as the epochs' inputs have, in memory, on one core.

    Not for vectors: a set that a processor's own cache holds says nothing of memory.
    """
    if work.schema.modality == TABULAR:
        return {}
    size = work.num_examples * int(np.prod(work.input_shape)) * np.dtype(work.input_dtype).itemsize
    if work.schema.modality == TOKENS:  # each batch is cut to the ids of its bucket
        _, order = open_examples(work, cache="none")
        lengths = order.lengths(0, 0, order.steps_per_epoch)
        assert lengths is not None, "texts come in buckets"
        size = int(lengths.sum()) * work.global_batch_size * np.dtype(work.input_dtype).itemsize
    source = np.ones(size, np.uint8)
    target = np.empty_like(source)

    def copy(epochs: int) -> None:
        for _ in range(epochs):
            np.copyto(target, source)

    return {_COPY: copy}


def _measure_epochs(
    work: Work, consumers: dict[str, Callable[[int], None]], effort: Effort, progress: Progress
) -> dict[str, list[Sample]]:
    """Measures repetitions of whole epochs that last `effort.seconds` for each system.

    What a system reads ahead while the others are measured goes by untimed.
    """
    systems = {}
    for name, consume in consumers.items():
        progress(f"{name}, warming up")
        consume(1)  # decodes, fills caches, compiles
        systems[name] = whole_epochs(consume, work.num_examples, effort.seconds, drain=True)
    return alternate(systems, effort.repetitions, progress)
