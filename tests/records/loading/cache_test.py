"""Cache levels: the highest that fits is chosen, and a stored split is used only if it fits."""

import mmap
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import records
from records.decoding.input_config import InputConfig
from records.loading import cache, disk_cache
from records.roles import open_data
from records.sets.find import find_directory
from tests.support.forks import fork

SIZES = InputConfig(image_size=48, cache="disk")
MIB = 2**20


@pytest.fixture
def pictures(synthetic_data_dir: Path, tmp_path: Path) -> Path:
    """A data directory with a copy of brain_tumor_mri/synthetic of its own."""
    source = Path(find_directory("brain_tumor_mri/synthetic", str(synthetic_data_dir)))
    target = tmp_path / "brain_tumor_mri" / "synthetic" / source.name
    # Other tests keep features of frozen backbones there.
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("decoded"))
    return tmp_path


def _files(data_dir: Path) -> list[Path]:
    return sorted(data_dir.glob("**/decoded/*"), key=lambda p: p.name)


def _batches(data_dir: Path, config: InputConfig, **options: Any) -> list[Any]:
    name = "brain_tumor_mri/synthetic"
    dataset = records.make_dataset(name, data_dir=str(data_dir), config=config, **options)
    return list(dataset.as_numpy_iterator())


def _choose(decoded: int, replicas: int = 1, accelerator: bool = False, **options: Any) -> str:
    options.setdefault("directory", "/")
    options.setdefault("memory_budget", 100 * MIB)
    return cache.choose_level("auto", decoded, replicas, accelerator, **options)[0]


def test_auto_takes_the_highest_level_that_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cache, "accelerator_budget", lambda: 50 * MIB)
    assert _choose(90 * MIB) == "device"
    assert _choose(60 * MIB, replicas=2) == "memory", "the copies of CPU devices lie in host memory"
    assert _choose(40 * MIB, replicas=8, accelerator=True) == "device", "each GPU holds one"
    assert _choose(60 * MIB, accelerator=True) == "memory"
    assert _choose(101 * MIB, directory=str(tmp_path)) == "disk"
    assert _choose(2**60, directory=str(tmp_path)) == "none"


def test_the_reason_names_the_figures() -> None:
    level, reason = cache.choose_level(
        "auto", 60 * MIB, 2, False, directory="/", memory_budget=100 * MIB
    )
    assert level == "memory" and "60 MiB" in reason and "100 MiB" in reason
    assert "as asked" in cache.choose_level("none", 1, 1, False, directory="/")[1]
    with pytest.raises(ValueError, match="expected one of"):
        cache.choose_level("all", 1, 1, False, directory="/")


def test_budget_of_a_gpu_is_half_of_what_nvidia_smi_says_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 40000\necho 30000\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert cache.accelerator_budget() == 15000 * MIB, "the fullest GPU counts"
    program.write_text("#!/bin/sh\necho no devices; exit 9\n")
    assert cache.accelerator_budget() == 2 * 2**30


def test_shuffle_blocks_fit_the_budget_twice() -> None:
    choose = cache.choose_shuffle_block
    assert choose("memory", 10**12, 10**7, 32, 10**6) is None, "cached: the whole split"
    assert choose("none", 10**6, 10**3, 32, 10**9) is None, "it fits"
    block = choose("none", 10**9, 10**5, 32, 10**8)
    assert block is not None, "a tenth is left for what is under way"
    assert 0.88 * 10**8 < 2 * block * (10**4 + 200) <= 0.9 * 10**8
    assert choose("none", 10**12, 10**3, 32, 1) == 32


def test_disk_cache_gives_the_batches_of_memory_and_is_used_again(pictures: Path) -> None:
    expected = _batches(pictures, InputConfig(image_size=48))
    found = _batches(pictures, SIZES)
    for a, b in zip(expected, found, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    (file,) = _files(pictures)
    before = file.stat().st_mtime_ns
    data = open_data("brain_tumor_mri/synthetic", str(pictures), SIZES)
    examples = data.examples("train")
    assert isinstance(examples.inputs, np.memmap)
    assert not any(t.examples for t in examples.loader.times.values()), "nothing is decoded again"
    assert _files(pictures) == [file] and file.stat().st_mtime_ns == before
    again = open_data("brain_tumor_mri/synthetic", str(pictures), InputConfig(image_size=48))
    assert np.array_equal(np.asarray(again.examples("train").inputs), examples.inputs)
    assert not any(t.examples for t in again.examples("train").loader.times.values())


def test_other_sizes_and_other_data_are_other_files(pictures: Path) -> None:
    _batches(pictures, SIZES)
    _batches(pictures, InputConfig(image_size=32, cache="disk"))
    assert len(_files(pictures)) == 2
    (directory,) = {p.parent.parent for p in _files(pictures)}
    fingerprint = directory / "fingerprint.json"
    fingerprint.write_text(fingerprint.read_text().replace('"content": "', '"content": "0'))
    with pytest.raises(ValueError, match=r"fingerprint.json: expected the one built"):
        _batches(pictures, SIZES)


@pytest.mark.parametrize("damage", ["cut short", "garbage", "other shape"])
def test_a_damaged_file_is_never_used(pictures: Path, damage: str) -> None:
    expected = _batches(pictures, SIZES)
    (file,) = _files(pictures)
    if damage == "cut short":
        os.truncate(file, file.stat().st_size - 1)
    elif damage == "garbage":
        file.write_bytes(b"\x93NUMPY nothing of the kind")
    else:
        np.save(file, np.zeros((3, 3), np.uint8))
    found = _batches(pictures, SIZES)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(expected, found, strict=True))


_KILLED = """
import os, sys
from records.decoding.input_config import InputConfig
from records.roles import open_data
from records.loading.load import Loader
load, count = Loader.load, 0
def killed(self, numbers):
    global count
    count += 1
    if count == 5:
        os.kill(os.getpid(), 9)
    return load(self, numbers)
Loader.load = killed
open_data("brain_tumor_mri/synthetic", sys.argv[1],
          InputConfig(image_size=48, cache="disk")).examples("train")
"""


def test_a_killed_writer_leaves_nothing_that_is_used(pictures: Path) -> None:
    process = fork("-c", _KILLED, pictures)
    _, err = process.communicate()
    assert process.returncode == -9, err[-2000:]
    (unfinished,) = _files(pictures)
    assert unfinished.name.startswith(".")
    _batches(pictures, SIZES)
    assert [p.name.startswith(".") for p in _files(pictures)] == [False], "and it is cleaned up"


def test_no_room_is_said_and_nothing_left(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "_SPARE_BYTES", 2**60)
    with pytest.raises(OSError, match=r"expected a folder with room.*--cache memory"):
        _batches(pictures, SIZES)
    assert not _files(pictures)


def test_a_mapped_file_is_a_mapping_of_the_system_that_is_read_ahead(tmp_path: Path) -> None:
    """NumPy says what memory an array lies in, which `_read_ahead` gives its hint to."""
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((3, 4), np.float32))
    stored = disk_cache.open_stored(path, (3, 4), np.float32, mapped=True)
    assert stored is not None and isinstance(stored.base, mmap.mmap)
