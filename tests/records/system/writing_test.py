"""A file appears whole under its name, whatever that name is of."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from records.system.writing import write_atomically


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target.csv", tmp_path / "link.csv"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["target.csv"]


def test_what_is_no_file_is_written_into(tmp_path: Path) -> None:
    """A pipe, as /dev/null or /dev/stdout is none: replaced, it would be lost to everybody."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"new")
    reader.join(10)
    assert read == [b"new"] and pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]
