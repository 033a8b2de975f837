"""Which other libraries are compared, in which way, on which inputs, and what we promise over them.

A new library is a file of `benchmarks/peers`, its requirements, and a row here.
"""

import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.measuring.comparison import Against
from benchmarks.measuring.consume import LEAST_PSNR
from records.sets.schema import IMAGE, TABULAR, TOKENS

# The questions, as tables show them; `libraries` says what is timed.
COLD, WARM, LOOPED = "cold", "warm", "step loop"
_ALL = (IMAGE, TABULAR, TOKENS)
_ROWS = (TABULAR, TOKENS)


@dataclasses.dataclass(frozen=True, eq=False)  # each is its own, and hashable
class Library:
    """A way of one library to do the work."""

    name: str  # as it is shown
    file: str  # `peers/<file>.py`, `.peers/<file>`, `peers/requirements/<file>.txt`
    modalities: tuple[str, ...]  # kinds of inputs that it reads
    # Per question that it answers the least ratio of ours over it that we promise ourselves, or
    # None.
    goals: dict[str, float | None]
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the request
    channels: int | None = None  # of its pictures, where it cannot deliver as many as are asked for
    psnr: float = LEAST_PSNR  # least PSNR, dB, of its pictures against ours
    note: str = ""  # what a reader must know
    # A peer, or a limit: one that does a part of the work, of which only the labels are checked.
    against: Against = Against.PEER

    def request(self, request: dict[str, Any], scratch: Path) -> dict[str, Any]:
        """The request of `write_files` as this one gets it, with a folder for its own files."""
        scratch.mkdir()
        shape = request["input_shape"]
        if self.channels is not None:
            # Work that a library cannot do as asked is named in its row, not left out.
            shape = [*shape[:2], self.channels]
        return request | {"input_shape": shape, "scratch": str(scratch)} | self.changes


def _keeps_nothing(name: str, file: str, goal: float | None = None, **more: Any) -> Library:
    return Library(name, file, goals={COLD: goal, WARM: None}, **more)


def _torch_pictures(name: str, decoder: str, goal: float | None = None) -> Library:
    changes = {"decoder": decoder, "keep": False}
    return _keeps_nothing(name, "torch_dataloader", goal, modalities=(IMAGE,), changes=changes)


def _limit(name: str, goal: float, changes: dict[str, Any]) -> Library:
    # A limit does a part of a cold epoch's work, and keeps nothing for a later one.
    goals: dict[str, float | None] = {COLD: goal}
    return Library(name, "libjpeg_limit", (IMAGE,), goals, changes, against=Against.LIMIT)


_NAIVE = "pictures and texts as in every later epoch of it: it keeps nothing of them"
_UNSHUFFLED = "not shuffled: its default"
_FFCV = "FFCV stores pictures anew (another JPEG, or resized with antialiasing), in colour: its "
_FFCV += "pictures differ from ours, its work does not"
LIBRARIES: tuple[Library, ...] = (
    Library("tf.data, naive", "naive", _ALL, {COLD: None}, {"keep": False}, note=_NAIVE),
    Library("tf.data, naive", "naive", (TABULAR,), {WARM: None}, {"keep": True}),
    Library("tf.data, guide", "guide", _ALL, {COLD: None}, {"keep": False}),
    Library("tf.data, guide, cached", "guide", _ALL, {WARM: None}, {"keep": True}),
    Library("TFDS", "tfds", _ALL, {COLD: None}, {"keep": False}, note=_UNSHUFFLED),
    Library("TFDS, autocached", "tfds", _ALL, {WARM: None}, {"keep": True}, note=_UNSHUFFLED),
    _keeps_nothing("DALI, grey", "dali", 1.25, modalities=(IMAGE,)),
    _keeps_nothing("DALI, RGB", "dali", 2.2, modalities=(IMAGE,), channels=3),
    _torch_pictures("torch DataLoader, Pillow", "pillow", 3.5),
    _torch_pictures("torch DataLoader, OpenCV", "opencv"),
    Library("torch DataLoader", "torch_dataloader", _ROWS, {COLD: None}, {"keep": False}),
    Library("torch DataLoader, in memory", "torch_dataloader", _ROWS, {WARM: None}, {"keep": True}),
    _keeps_nothing("MosaicML Streaming", "mosaicml_streaming", modalities=_ALL),
    _keeps_nothing("LitData", "litdata_loader", modalities=_ALL),
    Library("FFCV, jpg", "ffcv_loader", (IMAGE,), {COLD: 3.0}, {"mode": "jpg"}, 3, 0.0, _FFCV),
    Library(
        "FFCV, raw",
        "ffcv_loader",
        (IMAGE,),
        {WARM: 2.5, LOOPED: 5.0},
        {"mode": "raw"},
        3,
        note=_FFCV,
    ),
    _keeps_nothing("WebDataset", "webdataset_loader", modalities=_ALL),
    _keeps_nothing("Grain, ArrayRecord", "grain_loader", modalities=_ALL),
    _keeps_nothing("SPDL", "spdl_loader", modalities=_ALL),
    Library("Hugging Face datasets", "hf_datasets", _ALL, {COLD: None}, {"keep": False}),
    Library("Hugging Face datasets, mapped", "hf_datasets", _ALL, {WARM: None}, {"keep": True}),
    _limit("limit: libjpeg-turbo alone", 0.6, {"resize": False}),
    _limit("limit: libjpeg-turbo and resize", 0.85, {"resize": True}),
)
