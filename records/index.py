"""Where each record lies and what reading plans need to know of it.

One index per split, `<split>.index.npz` beside the shards: written with the data, rebuilt
when it is missing or does not fit the shards. It gives plain TFRecords random access.

A TFRecord file is a sequence of: length uint64, masked CRC32C of the length uint32, the
payload, masked CRC32C of the payload uint32; all little-endian
(tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import mmap
import os
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from records.schema import IMAGE, TEXT, TOKENS, Schema, read_schema

HEADER_BYTES, FOOTER_BYTES = 12, 4
_RUN_BYTES = 8 * 2**20  # read at once
# Records that stand apart are put together before they are cut and checked, up to so many bytes:
# batches of 256 vectors load 1.8 times as fast as with checks one by one.
_JOINED_BYTES = 2**20
_PARSE_BATCH = 1024  # batch-first parsing: 155k to 215k rows/s from 128 to 1024 rows


@dataclasses.dataclass(frozen=True)
class RecordIndex:
    """The records of one split, in the order of its shards.

    Attributes:
      paths: the split's shards.
      shard_bytes: int64 [shards], the sizes of the files indexed.
      shard: int32 [N], number of the shard that holds each record.
      offset: int64 [N], byte at which the record's header starts.
      length: int64 [N], bytes of the payload.
      label: int64 [N], the class, -1 where unknown.
      group: uint64 [N]; records of equal group must not straddle splits or folds.
      sequence_length: int32 [N], number of ids; 0 for other inputs.
      is_grey: bool [N], the picture has one distinct channel.
      input_start, input_bytes: int64 [N], where in the payload an encoded picture stands, and its
        size; 0 for other inputs.
    """

    paths: tuple[str, ...]
    shard_bytes: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    label: np.ndarray
    group: np.ndarray
    sequence_length: np.ndarray
    is_grey: np.ndarray
    input_start: np.ndarray
    input_bytes: np.ndarray

    @property
    def num_records(self) -> int:
        """N, the number of records."""
        return len(self.offset)


_ARRAYS = tuple(f.name for f in dataclasses.fields(RecordIndex) if f.name != "paths")


def write_indexes(directory: str) -> None:
    """Writes the index of every split of a set whose shards and metadata are complete."""
    schema = read_schema(directory)
    for split in schema.shards:
        _write(build_index(schema, split), _index_path(schema, split), schema)


def read_index(schema: Schema, split: str) -> RecordIndex:
    """Reads a split's index; rebuilds it, and stores it if it can, when it does not fit.

    Raises:
      ValueError: a shard is damaged, or the records are not as many as the metadata say.
    """
    schema.check_split(split)
    path = _index_path(schema, split)
    index = _read_stored(path, schema, split)
    if index is None:
        index = build_index(schema, split)
        try:
            _write(index, path, schema)
        except OSError:
            pass  # a read-only data directory: the index serves this process alone
    return index


def build_index(schema: Schema, split: str) -> RecordIndex:
    """Builds a split's index from its shards; errors as `read_index`."""
    framings = [scan_shard(p) for p in schema.shards[split]]
    count = sum(len(offsets) for offsets, _ in framings)
    if count != schema.split_counts[split]:
        raise ValueError(
            f"records/index: {schema.name}: split {split} expected "
            f"{schema.split_counts[split]} records by its metadata, received {count} in "
            f"{len(framings)} shards of {schema.directory}. {rebuild_hint(schema)}"
        )
    framing = RecordIndex(
        paths=schema.shards[split],
        shard_bytes=_shard_bytes(schema, split),
        shard=np.repeat(np.arange(len(framings), dtype=np.int32), [len(o) for o, _ in framings]),
        offset=np.concatenate([o for o, _ in framings]),
        length=np.concatenate([n for _, n in framings]),
        label=np.full(count, -1, np.int64),
        group=np.zeros(count, np.uint64),
        sequence_length=np.zeros(count, np.int32),
        is_grey=np.zeros(count, bool),
        input_start=np.zeros(count, np.int64),
        input_bytes=np.zeros(count, np.int64),
    )
    _parse_columns(schema, framing)
    return framing


def rebuild_hint(schema: Schema) -> str:
    """The command that builds a damaged set anew."""
    name, *config = schema.name.split("/")[:-1]
    flags = f" --config {config[0]}" if config else ""
    return f"Build the set again: tfds build builders/{name}{flags} --overwrite"


def scan_shard(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Walks a shard's framing: (offset int64 [n] of each header, payload bytes int64 [n])."""
    offsets: list[int] = []
    lengths: list[int] = []
    size = os.path.getsize(path)
    if size == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = 0
        while at < size:
            end = at + HEADER_BYTES
            if end > size or masked_crc(data[at : at + 8]) != _uint32(data, at + 8):
                raise damage(path, len(offsets), at, "a record header with a matching CRC")
            (length,) = struct.unpack_from("<Q", data, at)
            if end + length + FOOTER_BYTES > size:
                raise damage(path, len(offsets), at, f"{length} bytes of payload")
            offsets.append(at)
            lengths.append(length)
            at = end + length + FOOTER_BYTES
    return np.array(offsets, np.int64), np.array(lengths, np.int64)


def damage(path: str, number: int, offset: int, expected: str) -> ValueError:
    """The error for a damaged record."""
    return ValueError(
        f"records/index: {path}, record {number} at byte {offset}: expected {expected}, "
        f"received damaged or truncated data (file of {os.path.getsize(path)} bytes). "
        "Build the set again, with --overwrite"
    )


def masked_crc(data: bytes) -> int:
    """The masked CRC32C of TFRecord files."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _uint32(data: Any, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


class RecordReader:
    """Reads records by number, checked, from any thread.

    Attributes:
      bytes_read: bytes read so far, framing included.
    """

    def __init__(self, index: RecordIndex):
        self._index = index
        self._files: dict[int, Any] = {}  # closed when the reader goes
        self._lock = threading.Lock()
        self.bytes_read = 0

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The payloads of the records `numbers` int [n], as bytes objects [n].

        Records that stand one behind the other in a shard are read at once, whatever their order
        in `numbers`.

        Raises:
          ValueError: a record's CRC does not match; names shard, record and byte offset.
        """
        numbers = np.asarray(numbers, np.int64)
        payloads = np.empty(len(numbers), object)
        in_file = np.argsort(numbers, kind="stable")
        ordered = numbers[in_file]
        offsets = self._index.offset[ordered]
        ends = offsets + self._index.length[ordered] + HEADER_BYTES + FOOTER_BYTES
        shards = self._index.shard[ordered]
        for runs in _held_together(_contiguous_runs(offsets, ends, shards), ends - offsets):
            part = slice(runs[0].start, runs[-1].stop)
            data = []
            for run in runs:
                first, last = int(offsets[run.start]), int(ends[run.stop - 1])
                data.append(os.pread(self._file(int(shards[run.start])), last - first, first))
                if len(data[-1]) < last - first:  # the shard ends here
                    data[-1] = data[-1].ljust(last - first, b"\0")
            stops = np.cumsum(ends[part] - offsets[part])
            starts = stops - (ends[part] - offsets[part])
            found = _cut_payloads(b"".join(data), starts, stops)
            if isinstance(found, int):
                raise self._damage(int(ordered[part.start + found]))
            payloads[in_file[part]] = found
        with self._lock:
            self.bytes_read += int((ends - offsets).sum())
        return payloads

    def _damage(self, number: int) -> ValueError:
        shard = int(self._index.shard[number])
        within = int(number) - int(np.searchsorted(self._index.shard, shard))
        expected = "a payload with a matching CRC"
        return damage(self._index.paths[shard], within, int(self._index.offset[number]), expected)

    def _file(self, shard: int) -> int:
        with self._lock:
            if shard not in self._files:
                self._files[shard] = open(self._index.paths[shard], "rb", buffering=0)  # noqa: SIM115
            return int(self._files[shard].fileno())


def _contiguous_runs(offsets: np.ndarray, ends: np.ndarray, shards: np.ndarray) -> list[slice]:
    """Slices of records, in file order, that stand one behind the other in one shard."""
    if not len(offsets):
        return []
    breaks = (offsets[1:] != ends[:-1]) | (shards[1:] != shards[:-1])
    # Bounded: a run is held twice while it is cut into payloads.
    stretch = np.cumsum(ends - offsets) // _RUN_BYTES
    starts = [0, *(np.flatnonzero(breaks | (stretch[1:] != stretch[:-1])) + 1).tolist()]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(offsets)])]


def _held_together(runs: list[slice], sizes: np.ndarray) -> Iterator[list[slice]]:
    """Lists of runs with up to `_JOINED_BYTES` together; larger runs by themselves."""
    held: list[slice] = []
    total = 0
    for run in runs:
        size = int(sizes[run].sum())
        if held and total + size > _JOINED_BYTES:
            yield held
            held, total = [], 0
        held.append(run)
        total += size
    if held:
        yield held


def _cut_payloads(data: bytes, starts: np.ndarray, ends: np.ndarray) -> list[bytes] | int:
    """The payloads of records at `starts` to `ends` of `data`, or the number of a damaged one."""
    spans = zip((starts + HEADER_BYTES).tolist(), (ends - FOOTER_BYTES).tolist())
    payloads = [data[a:b] for a, b in spans]
    crcs = np.fromiter(map(google_crc32c.value, payloads), np.uint32, len(payloads))
    footers = np.frombuffer(data, np.uint8)[ends[:, None] - FOOTER_BYTES + np.arange(FOOTER_BYTES)]
    headers = np.frombuffer(data, np.uint8)[starts[:, None] + np.arange(HEADER_BYTES)]
    # Many records have the same length, and so the same header.
    lengths, which = np.unique(list(map(len, payloads)), return_inverse=True)
    expected = np.frombuffer(b"".join(map(_header, lengths.tolist())), np.uint8)
    right = (headers == expected.reshape(-1, HEADER_BYTES)[which]).all(1)
    wrong = np.flatnonzero(~right | (_mask(crcs) != footers.view("<u4")[:, 0]))
    return int(wrong[0]) if len(wrong) else payloads


def _header(length: int) -> bytes:
    """The 12 bytes in front of `length` bytes of payload."""
    first = length.to_bytes(8, "little")
    return first + masked_crc(first).to_bytes(4, "little")


def _mask(crc: np.ndarray) -> np.ndarray:
    """`masked_crc` of CRC32C uint32 [n]."""
    return (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(0xA282EAD8)


def hash64(data: bytes) -> int:
    """A 64-bit content hash (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _parse_columns(schema: Schema, index: RecordIndex) -> None:
    """Fills in what the index keeps of every record's content, parsed in whole batches."""
    import tensorflow as tf

    from records.decode import parse_spec

    spec = parse_spec(schema, index_features=True)
    reader = RecordReader(index)  # names the record where one is damaged
    numbers = np.arange(index.num_records)
    for at in range(0, index.num_records, _PARSE_BATCH):
        rows = slice(at, at + _PARSE_BATCH)
        payloads = reader.read(numbers[rows])
        row = tf.io.parse_example(tf.constant(payloads, tf.string), spec)
        index.label[rows] = row[schema.label_name].numpy()
        index.group[rows] = _groups(schema, row)
        if schema.modality == TOKENS:
            index.sequence_length[rows] = row[schema.input_name].row_lengths().numpy()
        if schema.modality == IMAGE:
            one_channel = schema.input_shape[-1] == 1
            flags = row[schema.grey_name].numpy() if schema.grey_name else one_channel
            index.is_grey[rows] = flags
            pictures = row[schema.input_name].numpy()
            pairs = zip(payloads, pictures, strict=True)
            index.input_start[rows] = [payload.find(picture) for payload, picture in pairs]
            index.input_bytes[rows] = list(map(len, pictures))


def _groups(schema: Schema, row: dict[str, Any]) -> np.ndarray:
    """The group of each row: the set's own group feature, else equal inputs are one group."""
    if schema.group_name:
        values = row[schema.group_name].numpy()
        if values.dtype != object:
            return values.astype(np.uint64)
        return np.array([hash64(v) for v in values], np.uint64)
    values = row[schema.input_name]
    if schema.modality == TOKENS:
        return np.array([hash64(v.numpy().tobytes()) for v in values], np.uint64)
    if schema.modality in (IMAGE, TEXT):
        return np.array([hash64(v) for v in values.numpy()], np.uint64)
    return np.array([hash64(v.tobytes()) for v in values.numpy()], np.uint64)


def _index_path(schema: Schema, split: str) -> Path:
    return Path(schema.directory) / f"{split}.index.npz"


def _shard_bytes(schema: Schema, split: str) -> np.ndarray:
    return np.array([os.path.getsize(p) for p in schema.shards[split]], np.int64)


def _content_key(schema: Schema) -> str:
    """What, besides the shards, shapes an index: the features it was parsed from."""
    parts = (schema.input_name, schema.label_name, schema.group_name, schema.grey_name)
    return "\n".join(str(p) for p in parts)


def _write(index: RecordIndex, path: Path, schema: Schema) -> None:
    buffer = io.BytesIO()
    arrays: dict[str, np.ndarray] = {name: getattr(index, name) for name in _ARRAYS}
    np.savez(buffer, key=np.array(_content_key(schema)), **arrays)  # type: ignore[arg-type]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, path)


def _read_stored(path: Path, schema: Schema, split: str) -> RecordIndex | None:
    """The stored index, or None where there is none that fits shards and features."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != _content_key(schema):
                return None
            arrays = {name: stored[name] for name in _ARRAYS}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    per_record = {len(array) for name, array in arrays.items() if name != "shard_bytes"}
    fits = np.array_equal(arrays["shard_bytes"], _shard_bytes(schema, split))
    fits = fits and len(per_record) == 1
    return RecordIndex(paths=schema.shards[split], **arrays) if fits else None
