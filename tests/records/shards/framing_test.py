"""Records of one length and of many, whole and damaged."""

import numpy as np
import pytest

from records.shards import framing


def _frame(payload: bytes) -> bytes:
    length = len(payload).to_bytes(8, "little")
    crcs = (framing.masked_crc(part).to_bytes(4, "little") for part in (length, payload))
    return length + next(crcs) + payload + next(crcs)


@pytest.mark.parametrize("lengths", [[7, 7, 7, 7], [0, 300, 7, 70_000], [5], []])
def test_each_byte_of_a_header_and_of_a_crc_counts(lengths: list[int]) -> None:
    payloads = [bytes([n % 251]) * n for n in lengths]
    data = b"".join(map(_frame, payloads))
    ends = np.cumsum([n + framing.FRAME_BYTES for n in lengths]).astype(np.int64)
    starts = ends - np.array(lengths, np.int64) - framing.FRAME_BYTES
    found, headers, crcs = framing.check_records(data, starts, ends)
    assert found == payloads and headers.all() and crcs.all()
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist())):
        for at in (*range(start, start + framing.HEADER_BYTES), end - 1):
            damaged = bytearray(data)
            damaged[at] ^= 1
            _, headers, crcs = framing.check_records(bytes(damaged), starts, ends)
            assert np.flatnonzero(~(headers & crcs)).tolist() == [row]


def test_headers_of_many_lengths_are_those_of_each() -> None:
    lengths = [0, 1, 255, 256, 2**24 + 3, 2**32, 2**40 + 12_345, 2**62 + 1]
    stored = [n.to_bytes(8, "little") for n in lengths]
    expected = [s + framing.masked_crc(s).to_bytes(4, "little") for s in stored]
    assert [row.tobytes() for row in framing._headers(np.array(lengths))] == expected
