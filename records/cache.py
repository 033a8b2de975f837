"""Where decoded examples are kept between epochs.

| level | where | a batch is |
|---|---|---|
| `device` | each replica's memory | gathered by permuted index inside the compiled step |
| `memory` | host memory, one tensor per feature | gathered by permuted index, then sent |
| `none` | nowhere | read by offset and decoded again |

The level never changes which examples a batch holds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import psutil

LEVELS = ("auto", "device", "memory", "none")
# Half of what is free: the other half stays for the model, the framework and the page cache.
MEMORY_SHARE = 0.5
# TensorFlow reports no free memory for a GPU before it has grown into it, so what a decoded
# split may take of an accelerator is a stated number: small beside any current GPU.
ACCELERATOR_BYTES = 2 * 2**30


def choose_level(
    wanted: str, decoded_bytes: int, local_replicas: int, accelerator: bool
) -> tuple[str, str]:
    """Chooses the highest cache level that fits.

    Args:
      wanted: one of `LEVELS`; anything but `auto` is kept.
      decoded_bytes: bytes of all decoded splits.
      local_replicas: replicas of this process, each with a copy on the `device` level.
      accelerator: replicas have memory of their own (a GPU).

    Returns:
      (level, reason): the reason is a sentence for the user.
    """
    if wanted not in LEVELS:
        raise ValueError(f"records/cache: cache expected one of {LEVELS}, received {wanted!r}")
    size = _mebibytes(decoded_bytes)
    if wanted != "auto":
        return wanted, f"cache {wanted}: as asked ({size} decoded)"
    free = int(psutil.virtual_memory().available * MEMORY_SHARE)
    copies = decoded_bytes * local_replicas
    device_budget = ACCELERATOR_BYTES if accelerator else free
    device_bytes = decoded_bytes if accelerator else copies
    if device_bytes <= device_budget and decoded_bytes <= free:
        return "device", f"cache device: {size} decoded fit {_mebibytes(device_budget)}"
    if decoded_bytes <= free:
        return "memory", f"cache memory: {size} decoded fit {_mebibytes(free)} of host memory"
    return "none", f"cache none: {size} decoded exceed {_mebibytes(free)} of host memory"


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


def fill(
    batches: Iterable[np.ndarray], shape: tuple[int, ...], dtype: str, label: str
) -> np.ndarray:
    """Copies decoded batches into one contiguous array, with progress on a terminal.

    Args:
      batches: arrays [b, ...] in record order.
      shape: (N, ...) of the result.
      dtype: NumPy dtype of the result.
      label: what is decoded, for the progress line.

    Raises:
      ValueError: the batches hold fewer or more examples than N.
    """
    out = np.empty(shape, dtype)
    at = 0
    for batch in show_progress(batches, shape[0], label):
        if at + len(batch) > shape[0]:
            raise ValueError(f"records/cache: {label}: expected {shape[0]} examples, received more")
        out[at : at + len(batch)] = batch
        at += len(batch)
    if at != shape[0]:
        raise ValueError(f"records/cache: {label}: expected {shape[0]} examples, received {at}")
    return out


def show_progress(batches: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """Passes batches on; after two seconds shows rate and time left, on a terminal."""
    start = shown = time.monotonic()
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        now = time.monotonic()
        if sys.stderr.isatty() and now - start > 2 and now - shown > 0.5:
            shown = now
            rate = done / (now - start)
            left = (total - done) / rate
            print(
                f"\r  {label}: {done:,} of {total:,}, {rate:,.0f} examples/s, {left:.0f} s left ",
                end="",
                file=sys.stderr,
            )
    if shown != start:
        print("\r\033[K", end="", file=sys.stderr)
