"""A file appears whole under its name, whatever that name is of."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from records.system.writing import check_output, write_atomically


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


def test_an_output_that_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in ("new.csv", "a/b/new.csv", "n" * 255):
        check_output(tmp_path / name, "predict")
        check_output(tmp_path / name, "describe", is_folder=True)
    check_output(tmp_path, "describe", is_folder=True)
    check_output(Path("/dev/null"), "predict")
    assert not list(tmp_path.iterdir())
    write_atomically(tmp_path / ("n" * 255), b"new")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_what_is_in_the_way_of_an_output_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    cases = {
        (tmp_path, False): f"{tmp_path} \\(a folder: name a file in it, as {tmp_path}/NAME",
        (file / "x.csv", False): f"file/x.csv \\({file} is a file",
        (file / "x" / "y", True): f"x/y \\({file} is a file",
        (file, True): f"{file} \\(which is a file",
        (tmp_path / ("n" * 300), False): "n \\(File name too long",
        (tmp_path / "a" / ("n" * 300), True): "n \\(a name of 300 bytes, at most 255 can be stored",
    }
    for (path, is_folder), expected in cases.items():
        what = "a folder" if is_folder else "a file"
        said = f"^predict: -o expected {what} that can be written, received .*{expected}\\). Choose"
        with pytest.raises(ValueError, match=said):
            check_output(path, "predict", "-o", is_folder=is_folder)
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(tmp_path / "gone" / "x.csv", b"")
    assert str(error.value) == f"[Errno 2] No such file or directory: '{tmp_path}/gone/x.csv'"
