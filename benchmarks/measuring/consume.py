"""Reads every byte of every batch, and checks that all systems deliver the same examples."""

import collections
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.measuring.comparison import OURS
from benchmarks.measuring.work import Work
from records.diagnose.measure import consume
from records.sets.schema import IMAGE, TOKENS

# Peers decode with the fast or the accurate inverse DCT and round differently: 45 dB and more.
LEAST_PSNR = 40.0
# So many pictures with the nearest 8x8 thumbnails are compared in full: a set holds near copies,
# of which the nearest thumbnail need not be the same picture.
_NEAREST = 8

# (work, endless) -> batches of (inputs, labels) or (inputs, labels, weights).
Maker = Callable[..., Iterable[Any]]


def check_same(work: Work, systems: Mapping[str, Maker]) -> dict[str, float]:
    """Checks that every system delivers the split's examples once: counts, labels, shapes, pixels.

    Texts are compared padded to T: some systems cut their batches to the longest text.

    Returns:
      Per system, the least PSNR in dB of its pictures against ours (infinite where equal); for
      other inputs the share of its examples that are byte for byte ours. Ids are not: ours are
      ranked by their frequency among the training examples.

    Raises:
      ValueError: it delivers anything else; says which system and what.
    """
    delivered = {name: deliver(name, make, work) for name, make in systems.items()}
    found = {}
    for name, (inputs, labels) in delivered.items():
        expected = np.sort(delivered[OURS][1])
        if len(labels) != work.num_examples or not np.array_equal(np.sort(labels), expected):
            counts = np.bincount(labels).tolist()
            raise ValueError(
                f"benchmark: {work.schema.name}: {name} expected {work.num_examples} "
                f"examples with label counts {np.bincount(expected).tolist()}, received "
                f"{len(labels)} with {counts}"
            )
        if work.schema.modality != IMAGE:
            # A checksum in place of each row: two that clash by chance move a share that is only
            # shown.
            ours = collections.Counter(map(zlib.crc32, delivered[OURS][0]))
            same = ours & collections.Counter(map(zlib.crc32, inputs))
            found[name] = same.total() / work.num_examples
            continue
        found[name] = least_psnr(inputs, delivered[OURS][0])
        if found[name] < LEAST_PSNR:
            raise ValueError(
                f"benchmark: {work.schema.name}: {name} expected pictures within "
                f"{LEAST_PSNR} dB of ours, received one of {found[name]:.1f} dB"
            )
    return found


def least_psnr(pictures: np.ndarray, reference: np.ndarray) -> float:
    """The least PSNR, dB, of pictures uint8 [n, S, S, C] against the most alike of the others."""
    # Thumbnails of 8 x 8 means find the candidates: all pairs in full would be n squared pictures.
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


def deliver(name: str, make: Maker, work: Work) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, labels) of one epoch of a system; texts padded to T.

    Raises:
      ValueError: batches of another shape or dtype.
    """
    inputs, labels = [], []
    for x, y in real_rows(make(work)):
        if work.schema.modality == TOKENS and x.ndim == 2:
            x = np.pad(x, [(0, 0), (0, max(0, work.input_shape[0] - x.shape[1]))])
        if (x.shape[1:], x.dtype.name) != (work.input_shape, work.input_dtype):
            raise ValueError(
                f"benchmark: {work.schema.name}: {name} expected batches of "
                f"{work.input_dtype} {work.input_shape}, received {x.dtype} {x.shape[1:]}"
            )
        inputs.append(x)
        labels.append(y)
    return np.concatenate(inputs), np.concatenate(labels)


def real_rows(batches: Iterable[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(inputs, labels) of each batch; rows of weight 0 are left out."""
    for batch in batches:
        x, y, *weights = map(np.asarray, batch)
        real = weights[0] > 0 if weights else np.ones(len(y), bool)
        yield np.ascontiguousarray(x[real]), y[real]


def read_on_host(inputs: Any, labels: Any) -> int:
    """Reads every byte of a batch that an iterator gave: a number that depends on all of them.

    NumPy, on the tensors' or arrays' own memory: a compiled function costs 0.1 ms a call, which
    would hide the differences between systems whose batches take no longer.
    """
    return consume(inputs) + consume(labels)


def read_on_device(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The same inside a compiled loop: int64 []; rows of whole 8-byte words are summed as such."""
    if inputs.dtype in (tf.int32, tf.int64):  # texts, whose length may differ between batches
        total = tf.cast(tf.reduce_sum(inputs), tf.int64)
        return total + tf.reduce_sum(tf.cast(labels, tf.int64))
    words, rest = divmod(int(np.prod(inputs.shape[1:])) * inputs.dtype.size, 8)
    if words and not rest:
        shape = [-1, words] if inputs.dtype.size == 8 else [-1, words, 8 // inputs.dtype.size]
        total = tf.reduce_sum(tf.bitcast(tf.reshape(inputs, shape), tf.int64))
    else:
        total = tf.cast(tf.reduce_sum(tf.cast(inputs, tf.float32)), tf.int64)
    return total + tf.reduce_sum(tf.cast(labels, tf.int64))
