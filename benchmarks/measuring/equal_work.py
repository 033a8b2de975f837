"""Checks that a peer in an environment of its own delivers the same examples as this system."""

import collections
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.comparison import OURS
from benchmarks.measuring.consume import Maker, deliver, least_psnr
from benchmarks.measuring.work import Work
from records.sets.schema import IMAGE, TABULAR

# Pictures of each side that are looked for among the other's: the least of 256 of 2,585 tells
# another resize or decoder, and costs half a second.
_PICTURES = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as JPEG has it


def read_expected(work: Work, folder: Path, ours: Maker) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, labels) that every peer has to deliver, in any order.

    Vectors, and texts int32 [N, T] padded with 0, stand in the folder of `peer_files.write_files`.
    Pictures, as they are to be, are in no file: they are those of our batches.

    Raises:
      ValueError: ours differ from the files.
    """
    inputs, labels = deliver(OURS, ours, work)
    stored = np.load(folder / "labels.npy", allow_pickle=False)
    if work.schema.modality == IMAGE:
        check_labels(OURS, labels, stored)
        return inputs, labels
    if work.schema.modality == TABULAR:
        expected = np.load(folder / "features.npy", allow_pickle=False)
        check_equal(OURS, inputs, labels, (expected, stored))
        return expected, stored
    # Our ids are ranked by their frequency in the subset: the same texts under other numbers.
    check_labels(OURS, labels, stored)
    ids = np.load(folder / "ids.npy", allow_pickle=False)
    offsets = np.load(folder / "offsets.npy", allow_pickle=False)
    expected = np.zeros((len(stored), work.input_shape[0]), np.int32)
    lengths = np.diff(offsets)
    expected[np.arange(expected.shape[1]) < lengths[:, None]] = ids
    return expected, stored


def check_equal(
    name: str,
    inputs: np.ndarray,
    labels: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray],
    psnr: float = 0.0,
) -> dict[str, Any]:
    """Checks one epoch of a peer, inputs [N, ...] and labels int [N], against those expected.

    They come in any order; pictures may have one channel against three. `psnr` is the least, dB, of
    a picture against the most alike one of the same label.

    Returns:
      What was found, JSON-ready: `least_psnr`, dB or "equal", of pictures; else `share_equal`,
      of the examples whose bytes and label are the expected ones.

    Raises:
      ValueError: it delivers other work; says what was expected and received.
    """
    reference, classes = expected
    shape = reference.shape[1:]
    pictures = reference.dtype == np.uint8
    same = inputs.shape[1:] == shape or (
        pictures and inputs.ndim == 4 and inputs.shape[1:] == (*shape[:2], 3)
    )
    if not same or inputs.dtype != reference.dtype:
        raise ValueError(
            f"{name} expected {reference.dtype} {shape}, received {inputs.dtype} {inputs.shape[1:]}"
        )
    check_labels(name, labels, classes)
    if pictures:
        return {"least_psnr": _check_pictures(name, inputs, labels, expected, psnr)}
    rows, others = (
        collections.Counter((x.tobytes(), int(y)) for x, y in zip(*side, strict=True))
        for side in ((inputs, labels), expected)
    )
    share = (rows & others).total() / len(classes)
    if share < 1:
        raise ValueError(
            f"{name} expected all {len(classes)} examples with their labels, received "
            f"{share:.1%} of them"
        )
    return {"share_equal": share}


def check_labels(name: str, labels: np.ndarray, expected: np.ndarray) -> None:
    """Raises ValueError unless the labels int [n] are the expected ones, in any order."""
    if not np.array_equal(np.sort(labels), np.sort(expected)):
        raise ValueError(
            f"{name} expected {len(expected)} examples with label counts "
            f"{np.bincount(expected).tolist()}, received {len(labels)} with "
            f"{np.bincount(labels.astype(int)).tolist()}"
        )


def _check_pictures(
    name: str,
    pictures: np.ndarray,
    labels: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray],
    psnr: float,
) -> float | str:
    """Looks for some of the peer's pictures among ours of the same label, and the other way."""
    found = np.inf
    for label in np.unique(labels):
        theirs, ours = pictures[labels == label], expected[0][expected[1] == label]
        if theirs.shape[-1] != ours.shape[-1]:
            # Of a library that has no grey pictures: compared by their luma.
            theirs = np.rint(theirs @ _LUMA)[..., None].astype(np.uint8)
        wanted = -(-_PICTURES * len(ours) // len(labels))
        step = max(1, len(ours) // wanted)
        # Both ways: one picture delivered n times would pass the first.
        found = min(found, least_psnr(theirs[::step], ours), least_psnr(ours[::step], theirs))
    if found < psnr:
        raise ValueError(
            f"{name} expected pictures within {psnr:.0f} dB of ours of the same label, received "
            f"one of {found:.1f} dB"
        )
    return round(found, 1) if np.isfinite(found) else "equal"
