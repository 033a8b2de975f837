"""Finds examples that stand in more than one split, which makes test scores too good.

Exact copies have equal inputs: pictures pixel by pixel, whatever their files; texts word by word,
case and spaces aside; rows of tables number by number. Near copies are pictures whose thumbnails
correlate (`records.decoding.pixels`), texts whose word counts have a cosine of at least
NEAR_TEXT_COSINE, and rows whose standardised values differ by NEAR_ROW_DISTANCE at most (Euclidean,
per feature).
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.damage.shard_scan import ShardScan
from records.decoding.decode import PictureError, decode_whole
from records.decoding.indexing import hash64
from records.decoding.modality import modality_of
from records.decoding.parsing import read_targets, read_text
from records.decoding.pixels import MAX_PIXELS, NEAR_COPY_CORRELATION, describe_pixels
from records.sets.schema import IMAGE, TABULAR, TEXT, Schema
from records.shards.framing import HEADER_BYTES
from records.system.threads import ordered_map

NEAR_TEXT_COSINE, NEAR_ROW_DISTANCE = 0.95, 0.01
_LAST = ("test", "validation", "train")
_SHOWN = 20  # pairs of each kind
_BLOCK = 512  # rows that are compared with all others at once
_UNIT = 256


@dataclasses.dataclass(frozen=True)
class SplitInputs:
    """What is compared of one split's usable records."""

    names: list[str]  # id, or shard and number, of each record
    labels: np.ndarray  # int64 [n]; of other targets than one class their hashes
    exact: np.ndarray  # object [n], equal for exact copies
    vectors: Any  # [n, D], what near copies are found by; sparse for texts


@dataclasses.dataclass(frozen=True)
class Leak:
    """Records of one split that have copies in another."""

    # split and other: their names; records of `split` are counted.
    split: str
    other: str
    # exact and near: (record of `split`, one of `other`) for each record of `split` that has an
    # exact copy, or else a near one.
    exact: list[tuple[int, int]]
    near: list[tuple[int, int]]


def find_leakage(
    schema: Schema, scans: dict[str, list[ShardScan]], max_pixels: int = MAX_PIXELS
) -> tuple[dict[str, SplitInputs], list[Leak]]:
    """Compares every two splits; damaged records are left out.

    Raises:
      ValueError: a picture cannot be decoded.
    """
    whole = {split: found for split, found in scans.items() if split not in schema.parts}
    inputs = {split: _read_inputs(schema, found, max_pixels) for split, found in whole.items()}
    # A test split's copies are looked for in the others, not the other way round.
    ordered = [s for s in inputs if s not in _LAST] + [s for s in _LAST if s in inputs]
    leaks: list[Leak] = []
    for split, other in itertools.combinations(ordered, 2):
        a, b = inputs[split], inputs[other]
        # Reversed, so that the first of equal records is the one that is named.
        first = {key: i for i, key in reversed(list(enumerate(b.exact)))}
        exact = [(i, first[key]) for i, key in enumerate(a.exact) if key in first]
        # A record counts once: an exact copy is no near one, too.
        known = {i for i, _ in exact}
        alike = _near(schema.modality, a.vectors, b.vectors)
        near = [pair for pair in alike if pair[0] not in known]
        leaks.append(Leak(split, other, exact, near))
    return inputs, leaks


def print_leakage(
    schema: Schema, scans: dict[str, list[ShardScan]], max_pixels: int = MAX_PIXELS
) -> None:
    """Prints the counts of exact and near copies, and the first pairs of each."""
    inputs, leaks = find_leakage(schema, scans, max_pixels)
    for leak in leaks:
        a, b = inputs[leak.split], inputs[leak.other]
        for kind, pairs in (("exact", leak.exact), ("near", leak.near)):
            differ = sum(a.labels[i] != b.labels[j] for i, j in pairs)
            print(
                f"  {len(pairs):,} of {len(a.names):,} {leak.split} records have {kind} copies in "
                f"{leak.other}" + (f", {differ:,} of them under another class" if differ else "")
            )
            for i, j in pairs[:_SHOWN]:
                print(f"    {a.names[i]} = {b.names[j]}")
            if len(pairs) > _SHOWN:
                print(f"    and {len(pairs) - _SHOWN:,} more")
    _print_union(inputs, leaks)


def _print_union(inputs: dict[str, SplitInputs], leaks: list[Leak]) -> None:
    """How many records of a split have a copy in any of the splits behind it."""
    for split in dict.fromkeys(leak.split for leak in leaks):
        own = [leak for leak in leaks if leak.split == split]
        exact = {i for leak in own for i, _ in leak.exact}
        near = {i for leak in own for i, _ in leak.near} - exact
        others = " or ".join(leak.other for leak in own)
        print(
            f"  {split}: {len(exact):,} of {len(inputs[split].names):,} records have an exact copy "
            f"in {others}, {len(near):,} more a near one"
        )


def _read_inputs(schema: Schema, scans: list[ShardScan], max_pixels: int) -> SplitInputs:
    names: list[str] = []
    parts: list[tuple[np.ndarray, list[Any], Any]] = []
    spec = modality_of(schema).parse_spec()

    def describe(payloads: list[bytes]) -> tuple[np.ndarray, list[Any], Any]:
        row = tf.io.parse_example(tf.constant(payloads, tf.string), spec)
        labels, targets = read_targets(schema, row[schema.label_name])
        if targets is not None:
            labels = np.array([hash64(target.tobytes()) for target in targets], np.uint64)
        return labels, *_describe(schema, row[schema.input_name], max_pixels)

    def units() -> Iterator[list[bytes]]:
        for scan in scans:
            for numbers, payloads in _payloads(scan):
                for number, payload in zip(numbers, payloads, strict=True):
                    own = read_text(payload, schema.id_name)
                    # Appended where units are made, in this thread: their order is that of the
                    # parts.
                    names.append(own or f"{scan.path} record {number}")
                yield payloads

    parts = list(ordered_map(describe, units()))
    if not parts:
        return SplitInputs([], np.zeros(0, np.int64), np.zeros(0, object), np.zeros((0, 1)))
    exact = np.empty(len(names), object)
    exact[:] = list(itertools.chain.from_iterable(keys for _, keys, _ in parts))
    vectors = [v for _, _, v in parts]
    if schema.modality in (IMAGE, TABULAR):
        joined: Any = np.concatenate(vectors)
    else:
        import scipy.sparse

        joined = scipy.sparse.vstack(vectors).tocsr()
    return SplitInputs(names, np.concatenate([labels for labels, _, _ in parts]), exact, joined)


def _payloads(scan: ShardScan) -> Iterator[tuple[np.ndarray, list[bytes]]]:
    """(numbers in the shard, payloads) of its usable records, some at a time."""
    usable = np.flatnonzero(scan.usable)
    if not len(usable):
        return
    with open(scan.path, "rb") as file:
        for at in range(0, len(usable), _UNIT):
            payloads = []
            numbers = usable[at : at + _UNIT]
            for number in numbers:
                file.seek(int(scan.layout.offset[number]) + HEADER_BYTES)
                payloads.append(file.read(int(scan.layout.length[number])))
            yield numbers, payloads


def _decode(picture: bytes, max_pixels: int) -> np.ndarray:
    """uint8 [H, W, 3], as training decodes it, in its own size."""
    try:
        return decode_whole(0, picture, 3, max_pixels)
    except PictureError as error:
        raise ValueError(
            "verify: --leakage expected pictures that can be decoded, received one that cannot: "
            f"{error}. {error.remedy}"
        ) from None


def _describe(schema: Schema, inputs: Any, max_pixels: int) -> tuple[list[Any], Any]:
    """(keys equal for exact copies [n], vectors [n, D])."""
    if schema.modality == IMAGE:
        facts = [describe_pixels(_decode(picture, max_pixels)) for picture in inputs.numpy()]
        thumbnails = np.stack([f.thumbnail for f in facts])
        return [f.pixel_hash for f in facts], thumbnails
    if schema.modality == TABULAR:
        rows = modality_of(schema).unpack(inputs).astype(np.float64)
        return [row.tobytes() for row in rows], rows
    from sklearn.feature_extraction.text import HashingVectorizer

    if schema.modality == TEXT:
        texts = [str(text, "utf-8", "replace").lower().split() for text in inputs.numpy()]
    else:
        texts = [[str(i) for i in ids.numpy()] for ids in inputs]
    # No vocabulary has to be built over both splits: equal words have equal columns.
    hashing = HashingVectorizer(
        n_features=2**18, analyzer=lambda words: words, alternate_sign=False
    )
    return [tuple(words) for words in texts], hashing.transform(texts)


def _near(modality: str, a: Any, b: Any) -> Iterator[tuple[int, int]]:
    """(row of `a`, the most alike row of `b`) for each row of `a` that has a near copy there."""
    if not a.shape[0] or not b.shape[0]:
        return
    a, b, least = _comparable(modality, a, b)
    for at in range(0, a.shape[0], _BLOCK):
        likeness = a[at : at + _BLOCK] @ b.T
        # Dense, _BLOCK rows at a time: 512 x 100,000 float64 are 400 MB.
        dense = likeness.toarray() if hasattr(likeness, "toarray") else likeness
        best = dense.argmax(1)
        for row in np.flatnonzero(dense[np.arange(len(best)), best] >= least):
            yield at + int(row), int(best[row])


def _comparable(modality: str, a: Any, b: Any) -> tuple[Any, Any, float]:
    """Both as vectors whose inner product says how alike they are, and the least of near copies."""
    if modality == IMAGE:
        return _standardised(a), _standardised(b), NEAR_COPY_CORRELATION
    if modality != TABULAR:
        return a, b, NEAR_TEXT_COSINE  # the vectors have length 1 already
    # Over both, so that equal rows stay equal.
    both = np.concatenate([a, b])
    deviation = np.where(both.std(0) > 0, both.std(0), 1)
    a, b = (a - both.mean(0)) / deviation, (b - both.mean(0)) / deviation
    # -|x - y|^2 = 2xy - |x|^2 - |y|^2, as one product.
    one = np.ones((len(a), 1)), np.ones((len(b), 1))
    left = np.hstack([2 * a, -(a**2).sum(1, keepdims=True), one[0]])
    right = np.hstack([b, one[1], -(b**2).sum(1, keepdims=True)])
    return left, right, -(NEAR_ROW_DISTANCE**2) * a.shape[1]


def _standardised(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails uint8 [n, 32, 32] as float64 [n, 1024] of mean 0 and length 1."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float64)
    # The product of two such rows is their Pearson correlation.
    flat -= flat.mean(1, keepdims=True)
    length = np.sqrt((flat**2).sum(1, keepdims=True))
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
