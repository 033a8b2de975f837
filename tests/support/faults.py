"""Damages files, and compares the messages that faults show with the golden file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).resolve().parents[1] / "faults" / "damage_messages.md"
_HEADER = "| fault | what is seen | what follows |\n|---|---|---|\n"
# What differs between two runs of one test: figures, hashes, generated names.
_VARYING = re.compile(r"\b[0-9a-f]{12,}\b|\d[\d.,]*")


def record_fault(fault: str, shown: str, outcome: str, *folders: Path) -> None:
    """Says what a user sees of a fault: a row of tests/faults/damage_messages.md.

    With FAULT_MESSAGES set to a file (`make damage-page`) the row is added to it; else the page
    must hold it, figures aside.

    Args:
      fault: what was done; one row each.
      shown: the message, as it was printed.
      outcome: what followed, which the calling test has checked.
      folders: temporary ones, shown as DIR.
    """
    for folder in sorted({str(f) for f in folders}, key=len, reverse=True):
        shown = shown.replace(folder, "DIR")
    row = [fault, " ".join(shown.split()), outcome]
    if file := os.environ.get("FAULT_MESSAGES"):
        with open(file, "a", encoding="utf-8") as rows:
            rows.write(json.dumps(row) + "\n")
        return
    known = {_bare(line) for line in PAGE.read_text(encoding="utf-8").splitlines()}
    line = format_row(row)
    assert _bare(line) in known, f"{PAGE.name} lacks this row (make damage-page):\n{line}"


def format_row(row: list[str]) -> str:
    """A row of the table, in Markdown."""
    fault, shown, outcome = (cell.replace("|", "\\|") for cell in row)
    return f"| {fault} | `{shown.replace('`', chr(39))}` | {outcome} |"


def write_page(rows: list[list[str]]) -> None:
    """Replaces the page's table by the rows, one of each fault."""
    by_fault = {row[0]: format_row(row) for row in rows}
    table = "".join(f"{by_fault[fault]}\n" for fault in sorted(by_fault))
    before = PAGE.read_text(encoding="utf-8").partition(_HEADER)[0]
    PAGE.write_text(before + _HEADER + table, encoding="utf-8")


def _bare(line: str) -> str:
    return _VARYING.sub("N", line)


def flip(path: str | os.PathLike[str], at: int, bit: int = 0) -> None:
    """Flips one bit of a file in place; sizes stay, times change."""
    with open(path, "r+b") as file:
        file.seek(at)
        (value,) = file.read(1)
        file.seek(at)
        file.write(bytes([value ^ 1 << bit]))


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four random changes: flipped, inserted, removed, repeated or cut bytes."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(out) + 1))
        size = int(rng.integers(1, 9)) if rng.random() < 0.8 else int(rng.integers(1, 200))
        kind = rng.integers(0, 6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            out[at:at] = rng.bytes(size)
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            out[at : at + size] = bytes([int(rng.choice([0, 255, 127, 128]))]) * size
        else:
            del out[at:]
    return bytes(out)
