"""CRC32C as TFRecord files store it: of one payload, of lengths, and of many rows at once.

Zeros appended to a message change its CRC by a linear map. So the CRC of joined messages follows
from their CRCs: as `crc32_combine` of zlib, with CRC32C's polynomial.
"""

import functools

import google_crc32c
import numpy as np

_POLYNOMIAL = np.uint32(0x82F63B78)  # reflected, RFC 3720
_ONES = np.uint32(0xFFFFFFFF)
_MASK = np.uint32(0xA282EAD8)


def masked_crc(data: bytes) -> int:
    """The masked CRC32C of TFRecord files."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + int(_MASK)) & 0xFFFFFFFF


def mask(crcs: np.ndarray) -> np.ndarray:
    """CRCs uint32 [n] as they are stored.

    Masked, because a CRC over bytes that hold CRCs is weak (tensorflow/core/lib/hash/crc32c.h).
    """
    return (crcs >> np.uint32(15) | crcs << np.uint32(17)) + _MASK


def stored_crcs(stored: np.ndarray) -> np.ndarray:
    """The CRCs uint32 [n] that are stored, masked, in bytes uint8 [n, 4]."""
    turned = np.ascontiguousarray(stored).view("<u4")[:, 0] - _MASK
    return turned >> np.uint32(17) | turned << np.uint32(15)


def crcs_of_lengths(lengths: np.ndarray) -> np.ndarray:
    """The CRC32C uint32 [n] of numbers int64 [n], as 8 bytes each."""
    low, high = np.ascontiguousarray(lengths, "<i8").view("<u4").reshape(-1, 2).T
    return _turn(_turn(low ^ _ONES, 4) ^ high, 4) ^ _ONES


def joined_crc(head: bytes, crcs: np.ndarray, row_bytes: int) -> int:
    """The CRC32C of rows that stand one behind the other.

    Each is `head`, a message whose CRC32C is in `crcs` uint32 [n], and that CRC, masked;
    `row_bytes` in all.
    """
    ahead = np.array([google_crc32c.value(head)], np.uint32)
    # Of 4 bytes that follow: they are XORed into the register, and it is turned by 4 zeros.
    found = _turn(crcs ^ _ONES ^ mask(crcs), 4) ^ _ONES ^ _turn(ahead, row_bytes - len(head))
    while len(found) > 1:  # neighbours become one row of twice the length
        if len(found) % 2:
            found = np.append(np.uint32(0), found)  # zeros in front leave a register of 0 as it is
        found = _turn(np.ascontiguousarray(found[0::2]), row_bytes) ^ found[1::2]
        row_bytes *= 2
    return int(found[0])


def _turn(registers: np.ndarray, zeros: int) -> np.ndarray:
    """Registers uint32 [...] after so many bytes of 0."""
    tables, parts = _tables(zeros), registers.view(np.uint8).reshape(*registers.shape, 4)
    first, second = (tables[i][parts[..., i]] ^ tables[i + 1][parts[..., i + 1]] for i in (0, 2))
    return first ^ second


@functools.lru_cache(1024)
def _tables(zeros: int) -> np.ndarray:
    """uint32 [4, 256]: of each byte of a register, the register after so many bytes of 0."""
    if zeros > 1:
        half = _turn(_tables(zeros // 2), zeros // 2)
        return _turn(half, 1) if zeros % 2 else half
    registers = np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    for _ in range(8 * zeros):
        registers = registers >> np.uint32(1) ^ _POLYNOMIAL * (registers & np.uint32(1))
    return registers
