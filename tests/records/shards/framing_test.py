"""Records of one length and of many, whole and damaged."""

import google_crc32c
import numpy as np
import pytest

from records.shards import crc, framing


def _frame(payload: bytes) -> bytes:
    length = len(payload).to_bytes(8, "little")
    crcs = (crc.masked_crc(part).to_bytes(4, "little") for part in (length, payload))
    return length + next(crcs) + payload + next(crcs)


def _check(data: bytes, starts: np.ndarray, ends: np.ndarray) -> list[int]:
    """The records that are damaged."""
    headers, crcs = framing.check_records(
        data, starts, ends, framing.cut_payloads(data, starts, ends)
    )
    return np.flatnonzero(~(headers & crcs)).tolist()


@pytest.mark.parametrize("lengths", [[7, 7, 7, 7], [0, 0, 0], [0, 300, 7, 70_000], [5], []])
def test_each_byte_of_a_header_and_of_a_crc_counts(lengths: list[int]) -> None:
    payloads = [bytes([n % 251]) * n for n in lengths]
    data = b"".join(map(_frame, payloads))
    ends = np.cumsum([n + framing.FRAME_BYTES for n in lengths]).astype(np.int64)
    starts = ends - np.array(lengths, np.int64) - framing.FRAME_BYTES
    assert list(framing.cut_payloads(data, starts, ends)) == payloads
    assert _check(data, starts, ends) == []
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist())):
        payload = range(start + framing.HEADER_BYTES, end, 1009)
        for at in (*range(start, start + framing.HEADER_BYTES), *payload, end - 1):
            damaged = bytearray(data)
            damaged[at] ^= 1
            assert _check(bytes(damaged), starts, ends) == [row]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 100, 1701])
def test_rows_are_judged_as_each_by_itself(count: int) -> None:
    rng = np.random.default_rng(count)
    frames = [_frame(rng.bytes(37)) for _ in range(count)]
    whole = np.frombuffer(b"".join(frames), np.uint8).reshape(count, -1)
    assert framing.rows_fit(whole)
    # The CRC that follows from the stored ones is that of the bytes.
    stored = crc.stored_crcs(whole[:, -4:])
    head = whole[0, : framing.HEADER_BYTES].tobytes()
    assert crc.joined_crc(head, stored, whole.shape[1]) == google_crc32c.value(b"".join(frames))
    for _ in range(200):
        rows = whole.copy()
        damaged = rng.choice(count, rng.integers(1, min(count, 4) + 1), replace=False)
        for row in damaged:
            rows[row, rng.integers(rows.shape[1])] ^= 1 << rng.integers(8)
        starts = np.arange(count) * rows.shape[1]
        assert not framing.rows_fit(rows)
        assert _check(rows.tobytes(), starts, starts + rows.shape[1]) == sorted(damaged.tolist())


def test_rows_that_became_zeros_are_damaged() -> None:
    rows = np.frombuffer(b"".join([_frame(b"abc")] * 6), np.uint8).reshape(6, -1).copy()
    rows[2:5] = 0
    assert not framing.rows_fit(rows)


def test_headers_of_many_lengths_are_those_of_each() -> None:
    lengths = [0, 1, 255, 256, 2**24 + 3, 2**32, 2**40 + 12_345, 2**62 + 1]
    stored = [n.to_bytes(8, "little") for n in lengths]
    expected = [s + crc.masked_crc(s).to_bytes(4, "little") for s in stored]
    assert [row.tobytes() for row in framing._headers(np.array(lengths))] == expected
