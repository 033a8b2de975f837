from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.input import limits
from benchmarks.input import readers as input_questions
from benchmarks.input.readers import make_ours
from benchmarks.measuring import work as work_module
from benchmarks.measuring.comparison import OURS, Against
from records.decoding.indexing import read_index


def _open(data_dir: Path, name: str) -> work_module.Work:
    return work_module.open_work(work_module.choose_set(f"{name}/synthetic", str(data_dir)))


@pytest.mark.parametrize("name", work_module.DATASETS)
def test_every_pass_goes_through_every_byte(synthetic_data_dir: Path, name: str) -> None:
    work = _open(synthetic_data_dir, name)
    paths = read_index(work.schema, work.split).paths
    size = sum(Path(path).stat().st_size for path in paths)
    with ThreadPoolExecutor(2) as pool:
        found = {name: run() for name, run in limits.make_passes(work, paths, pool).items()}
    assert len(found) == 5 and set(found.values()) == {size}


def test_pieces_of_a_file_are_all_read(tmp_path: Path) -> None:
    file = tmp_path / "shard"
    file.write_bytes(bytes(1000))
    assert limits._read_file(str(file), memoryview(bytearray(300))) == 1000


def test_records_are_checked_and_parsed(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with work_module.view(_open(synthetic_data_dir, "fetal_health")) as work:
        paths = read_index(work.schema, work.split).paths
        with ThreadPoolExecutor(2) as pool:
            passes = limits.make_passes(work, paths, pool)
            parsed: list[int] = []
            rows = limits.Loader.rows

            def spy(self: Any, numbers: Any, payloads: Any) -> Any:
                parsed.append(len(numbers))
                return rows(self, numbers, payloads)

            monkeypatch.setattr(limits.Loader, "rows", spy)
            passes[limits._CHECKED]()
            assert not parsed
            passes[limits._PARSED]()
            assert sum(parsed) == work.num_examples
            # One byte of a record changed: the passes of ours see it.
            shard = next(Path(path) for path in paths if Path(path).stat().st_size)
            data = bytearray(shard.read_bytes())
            data[20] ^= 1
            shard.unlink()  # a link to the file that other tests read
            shard.write_bytes(data)
            for name in (limits._CHECKED, limits._PARSED):
                with pytest.raises(ValueError, match="record 0 at byte 0"):
                    passes[name]()


@pytest.mark.parametrize("name", work_module.DATASETS)
def test_answers(synthetic_data_dir: Path, name: str) -> None:
    work = _open(synthetic_data_dir, name)
    effort = dataclasses.replace(work_module.QUICK, repetitions=1, seconds=0.02)
    found = limits.measure_limits(work, effort, lambda text: None)
    if name == "brain_tumor_mri":  # decoding alone stands beside both
        *found, cold, streaming = found
        assert (cold.title, cold.goal) == ("cold epoch: OpenCV, decode and resize", 0.9)
        assert (streaming.title, streaming.goal) == ("streaming: OpenCV, decode and resize", 0.95)
        alone = [one.samples[one.beside] for one in (cold, streaming)]
        assert alone[0] == alone[1] and alone[0][0].examples == work.num_examples
        assert cold.samples[OURS] != streaming.samples[OURS]
    assert [c.title for c in found] == [
        "read, check, one thread: sequential read",
        "read, check, one thread: CRC32C",
        "read, check, parse: sequential read",
        "read, check, parse: CRC32C, all cores",
    ]
    assert [bool(c.note) for c in found] == [True, False, False, False]
    for comparison in found:
        speeds, size = comparison.details["bytes_per_s"], comparison.details["shard_bytes"]
        assert comparison.reference == comparison.beside and comparison.against is Against.LIMIT
        for system, samples in comparison.samples.items():
            assert samples[0].examples % work.num_examples == 0
            expected = samples[0].rate * size / work.num_examples
            assert speeds[system] == pytest.approx(expected)
    assert found[0].samples[OURS] == found[1].samples[OURS], "measured once"


@pytest.mark.parametrize("name", work_module.DATASETS)
def test_copies_have_the_bytes_of_an_epoch(
    synthetic_data_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _open(synthetic_data_dir, name)
    sizes: list[int] = []
    monkeypatch.setattr(
        input_questions.np, "copyto", lambda target, source: sizes.append(source.nbytes)
    )
    for copy in input_questions._copier(work).values():
        copy(2)
    if name == "fetal_health":
        assert not sizes
        return
    delivered = sum(x.nbytes for x, *_ in make_ours(work))
    real = delivered if name == "song_lyrics" else work.num_examples * 224 * 224
    assert sizes == [real, real]


def test_the_limit_of_pictures_decodes_the_same_pixels(synthetic_data_dir: Path) -> None:
    work = _open(synthetic_data_dir, "brain_tumor_mri")
    index = read_index(work.schema, work.split)
    pictures = limits.read_inputs(work, index)
    assert len(pictures) == work.num_examples
    examples, _ = input_questions.open_examples(work, cache="none")
    numbers = np.arange(0, work.num_examples, 50)
    for number, ours in zip(numbers, examples.loader.load(numbers), strict=True):
        limit = limits.opencv_picture.decode(pictures[number], work.input_shape)
        np.testing.assert_array_equal(limit, ours)
