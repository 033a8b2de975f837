"""How TFRecord files frame records, and whether the frames are whole.

A TFRecord file is a sequence of: length uint64, masked CRC32C of the length uint32, the
payload, masked CRC32C of the payload uint32; all little-endian
(tensorflow/core/lib/io/record_writer.h).
"""

import itertools
import mmap
import os
import struct
from collections.abc import Iterable
from typing import Any

import google_crc32c
import numpy as np

from records.sets.hints import rebuild_hint, verify_hint
from records.shards.crc import crcs_of_lengths, joined_crc, mask, masked_crc, stored_crcs
from records.stores.mirror import place_of, shard_size

HEADER_BYTES, FOOTER_BYTES = 12, 4
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES


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
            length, fits = read_header(data, at)
            # Without a length that can be trusted nothing behind it can be found: `damage.walk`
            # searches.
            if not fits:
                raise damage(path, len(offsets), at, "a record header with a matching CRC")
            if at + length + FRAME_BYTES > size:
                raise damage(path, len(offsets), at, f"{length} bytes of payload")
            offsets.append(at)
            lengths.append(length)
            at += length + FRAME_BYTES
    return np.array(offsets, np.int64), np.array(lengths, np.int64)


def damage(
    path: str, number: int, offset: int, expected: str, received: str | None = None
) -> ValueError:
    """The error for a damaged record; `received` where it is whole and holds what it must not."""
    folder, size = place_of(os.path.dirname(path)), shard_size(path)
    place = f"{os.path.join(folder, os.path.basename(path))}, record {number} at byte {offset}"
    received = received or f"damaged or truncated data (file of {size} bytes)"
    return ValueError(
        f"shards: {place}: expected {expected}, received {received}. {verify_hint(folder)} "
        f"{rebuild_hint(os.path.dirname(path))}"
    )


def read_header(data: Any, at: int) -> tuple[int, bool]:
    """(payload bytes, whether they match their CRC) of the header at a byte of a shard."""
    header = data[at : at + HEADER_BYTES]
    length, crc = header[:8], int.from_bytes(header[8:], "little")
    fits = len(header) == HEADER_BYTES and crc == masked_crc(length)
    return int.from_bytes(length, "little"), fits


def cut_payloads(data: bytes, starts: np.ndarray, ends: np.ndarray) -> Iterable[bytes]:
    """The payloads of records that stand from `starts` to `ends`, int64 [n], in `data`."""
    if are_rows(starts, ends):
        # Cut in C: records of 143 bytes are checked in 0.16 instead of 0.35 us each. `x` skips
        # framing, `s` takes the payload.
        frame = f"{HEADER_BYTES}x{ends[0] - starts[0] - FRAME_BYTES}s{FOOTER_BYTES}x"
        rows = struct.iter_unpack(frame, memoryview(data)[starts[0] : ends[-1]])
        return itertools.chain.from_iterable(rows)
    firsts, lasts = (starts + HEADER_BYTES).tolist(), (ends - FOOTER_BYTES).tolist()
    return map(data.__getitem__, map(slice, firsts, lasts))


def are_rows(starts: np.ndarray, ends: np.ndarray) -> bool:
    """Whether records, at least one, have one length and stand one behind the other."""
    return (
        len(starts) > 0
        and bool((ends - starts == ends[0] - starts[0]).all())
        and np.array_equal(starts[1:], ends[:-1])
    )


def check_records(
    data: bytes, starts: np.ndarray, ends: np.ndarray, payloads: Iterable[bytes]
) -> tuple[np.ndarray, np.ndarray]:
    """Checks both CRCs of each record among bytes read from a shard.

    Args:
      data: bytes of the shard.
      starts, ends: int64 [n], where each record, framing included, begins and ends in `data`.
      payloads: those of the records, from `cut_payloads`.

    Returns:
      (bool [n] the header is that of such a payload, bool [n] the payload matches its CRC).
    """
    bytes_of, count = np.frombuffer(data, np.uint8), len(starts)
    if are_rows(starts, ends) and rows_fit(bytes_of[starts[0] : ends[-1]].reshape(count, -1)):
        return np.ones(count, bool), np.ones(count, bool)
    crcs = np.fromiter(map(google_crc32c.value, payloads), np.uint32, count)
    headers = bytes_of[starts[:, None] + np.arange(HEADER_BYTES)].view("<u4")
    footers = bytes_of[ends[:, None] - FOOTER_BYTES + np.arange(FOOTER_BYTES)]
    expected = _headers(ends - starts - FRAME_BYTES)
    same = [headers[:, i] == expected[:, i] for i in range(3)]  # 3 columns: faster than `all`
    return same[0] & same[1] & same[2], crcs == stored_crcs(footers)


def rows_fit(rows: np.ndarray) -> bool:
    """Whether all records match both of their CRCs: uint8 [n, L], framing included.

    One CRC over all bytes is compared with the one that follows from the stored CRCs. A damaged
    record among whole ones always shows. Several could hide each other, with the chance of 2^-32
    that any CRC has to miss damage. Rows of 159 bytes take 0.07 us each, with a call for each 0.2.
    """
    header = _headers(np.array([rows.shape[1] - FRAME_BYTES])).tobytes()
    if (rows[:, :HEADER_BYTES] != np.frombuffer(header, np.uint8)).any():
        return False
    crcs = stored_crcs(rows[:, -FOOTER_BYTES:])
    return google_crc32c.value(rows) == joined_crc(header, crcs, rows.shape[1])


def _headers(lengths: np.ndarray) -> np.ndarray:
    """uint32 [n, 3], the 12 bytes in front of so many bytes of payload, int64 [n]."""
    stored = lengths.astype("<i8")[:, None].view("<u4")
    return np.concatenate([stored, mask(crcs_of_lengths(lengths))[:, None]], axis=1)
