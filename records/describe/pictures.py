"""What pictures look like: sizes, grey or colour, file bytes, a few of each class."""

import io
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from records.decoding.decode import PictureError, decode_whole
from records.decoding.orientation import read_orientation
from records.decoding.pixels import is_grey_picture
from records.describe.read import (
    Section,
    hash_strings,
    main_split,
    quantile_header,
    quantile_line,
    read_features,
    shown_classes,
    stored_features,
)
from records.sets.schema import Schema
from records.sets.target import MULTI_LABEL
from records.shards.index import RecordIndex, RecordReader, record_place
from records.system import plotting
from records.system.quiet import native_lines

_SHOWN_SIZES = 10
_SHOWN_CLASSES = 8
_PICTURES_PER_CLASS = 5
# Grey pictures stored in three channels are told from colour only by decoding. Where the set has
# no flag, this many are looked at: an error of at most 6 % at 95 % confidence.
_SAMPLED_PICTURES = 256


def describe_pictures(schema: Schema, indexes: dict[str, RecordIndex]) -> Section:
    """Describes a set of encoded pictures."""
    features = stored_features(schema)
    has_size = "height" in features and "width" in features
    spec: dict[str, Any] = {}
    if has_size:
        spec = {name: tf.io.FixedLenFeature([], tf.int64) for name in ("height", "width")}
    if "pixel_hash" in features:
        spec["pixel_hash"] = tf.io.FixedLenFeature([], tf.string)
    sizes: dict[str, np.ndarray] = {}
    file_bytes: dict[str, np.ndarray] = {}
    by_bytes: dict[str, np.ndarray] = {}
    by_pixels: dict[str, np.ndarray] = {}
    for split, index in indexes.items():
        count = index.num_records
        sizes[split] = np.zeros((count, 2), np.int64)
        file_bytes[split] = np.zeros(count, np.int64)
        by_bytes[split], by_pixels[split] = (np.zeros(count, np.uint64) for _ in range(2))
        for rows, batch in read_features(schema, split, index, spec):
            encoded = batch[schema.input_name]
            file_bytes[split][rows] = tf.strings.length(encoded).numpy()
            by_bytes[split][rows] = hash_strings(encoded)
            if "pixel_hash" in spec:
                by_pixels[split][rows] = hash_strings(batch["pixel_hash"])
            if has_size:
                stored = [batch["width"].numpy(), batch["height"].numpy()]
                sizes[split][rows] = np.stack(stored, 1)
            else:
                sizes[split][rows] = [header_size(data) for data in encoded.numpy()]
    copies = {"file bytes": by_bytes}
    if "pixel_hash" in spec:
        copies["decoded pixels"] = by_pixels
    lines = _size_lines(sizes) + _byte_lines(file_bytes) + _grey_lines(schema, indexes)
    return Section(lines, _figures(schema, indexes, sizes, file_bytes), copies)


def header_size(data: bytes) -> tuple[int, int]:
    """(width, height), upright, from the header of a picture; (0, 0) where it is none."""
    try:
        with Image.open(io.BytesIO(data)) as image:  # reads the header only
            return image.size if read_orientation(data) < 5 else image.size[::-1]
    except Exception:  # what Pillow raises for damaged headers is open
        return 0, 0


def _size_lines(sizes: dict[str, np.ndarray]) -> list[str]:
    together = np.concatenate(list(sizes.values()))
    if not len(together):
        return []
    lines = ["Picture sizes", quantile_header()]
    for column, name in enumerate(("width", "height")):
        lines.append(quantile_line(name, together[:, column], "pixels"))
    distinct, counts = _distinct_sizes(together)
    lines.append(f"  {len(distinct):,} distinct sizes; the most frequent, width x height:")
    for (width, height), count in list(zip(distinct, counts, strict=True))[:_SHOWN_SIZES]:
        share = 100 * count / len(together)
        lines.append(f"  {f'{width} x {height}':>15}{count:>9,}{share:>7.1f} %")
    for split, mine in sizes.items():
        unreadable = np.flatnonzero(mine.min(1, initial=2**31) <= 0)
        if len(unreadable):
            lines.append(
                f"  {split}: {len(unreadable):,} files are no pictures that can be read, the "
                f"first is record {unreadable[0]}"
            )
    return lines


def _distinct_sizes(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [n, 2], counts int64 [n]), the most frequent first."""
    distinct, counts = np.unique(sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return distinct[order], counts[order]


def _byte_lines(file_bytes: dict[str, np.ndarray]) -> list[str]:
    lines = ["File bytes", quantile_header()]
    lines += [quantile_line(split, n, "bytes") for split, n in file_bytes.items() if len(n)]
    total = sum(int(n.sum()) for n in file_bytes.values())
    return [*lines, f"  {total / 2**20:,.1f} MiB together"]


def _grey_lines(schema: Schema, indexes: dict[str, RecordIndex]) -> list[str]:
    lines = ["Grey pictures (one channel, or all channels equal in every pixel)"]
    for split, index in indexes.items():
        if not index.num_records:
            continue
        grey, looked_at = index.is_grey, f"of {index.num_records:,}"
        if not schema.grey_name and schema.input_shape[-1] != 1:
            numbers = np.unique(
                np.linspace(0, index.num_records - 1, _SAMPLED_PICTURES).astype(np.int64)
            )
            # Spread evenly over the split, which may be sorted by class.
            pictures = [p for p in _decode(schema, index, numbers) if p is not None]
            grey = np.array([is_grey_picture(p) for p in pictures], bool)
            looked_at = f"of {len(pictures):,} looked at"
        share = 100 * float(grey.mean()) if len(grey) else 0.0
        lines.append(f"  {split:12}{int(grey.sum()):>9,} {looked_at}, {share:.1f} %")
    return lines


def _decode(schema: Schema, index: RecordIndex, numbers: np.ndarray) -> list[np.ndarray | None]:
    """Pictures uint8 [H, W, C] of the records `numbers`; None for one that is damaged."""
    payloads = RecordReader(index).read(numbers)
    spec = {schema.input_name: tf.io.FixedLenFeature([], tf.string)}
    encoded = tf.io.parse_example(tf.constant(payloads, tf.string), spec)[schema.input_name]
    pictures: list[np.ndarray | None] = []
    for number, data in zip(numbers.tolist(), encoded.numpy(), strict=True):
        with native_lines() as lines:  # libjpeg's and libpng's, which name no file
            try:
                pictures.append(decode_whole(0, data, 3))
            except PictureError:  # a description goes on without it
                pictures.append(None)
        for line in lines:
            print(f"note: {record_place(index, number)}: {line}", file=sys.stderr)
    return pictures


def _figures(
    schema: Schema,
    indexes: dict[str, RecordIndex],
    sizes: dict[str, np.ndarray],
    file_bytes: dict[str, np.ndarray],
) -> dict[str, bytes]:
    together = np.concatenate(list(sizes.values()))
    # kB of 1000 bytes; the text's sum is in MiB.
    kilobytes = {split: n / 1000 for split, n in file_bytes.items()}
    split = main_split(schema)
    index = indexes[split]
    grid: dict[str, list[np.ndarray]] = {}
    targets = index.target if schema.task == MULTI_LABEL else None
    names = shown_classes(schema) if targets is None else schema.class_names
    for label, name in list(enumerate(names))[:_SHOWN_CLASSES]:
        own = index.label == label if targets is None else targets[:, label] > 0
        numbers = np.flatnonzero(own)[:_PICTURES_PER_CLASS]
        grid[name] = [p for p in _decode(schema, index, numbers) if p is not None]
    return {
        "sizes.png": plotting.picture_sizes(*_distinct_sizes(together)),
        "file_bytes.png": plotting.histograms("file bytes", "kB", kilobytes, ()),
        "pictures.png": plotting.picture_grid(grid),
    }
