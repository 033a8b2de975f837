"""Builds on one and two cores, and by a plain TFDS builder: counts, bytes, and what is compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benchmarks.build import builders
from benchmarks.build.builders import _Variant
from benchmarks.measuring.comparison import OURS
from benchmarks.measuring.work import FULL, QUICK, choose_set, open_work


def _work(data_dir: Path, name: str) -> Any:
    return open_work(choose_set(f"{name}/synthetic", str(data_dir)))


def test_the_same_rows_by_both_builders(synthetic_data_dir: Path) -> None:
    work = _work(synthetic_data_dir, "fetal_health")
    (found,) = builders.measure_builders(work, QUICK, lambda text: None)
    assert found.question == "tfds build" and "generated files" in found.note
    total = sum(work.schema.split_counts.values())
    for samples in found.samples.values():
        assert [s.examples for s in samples] == [total]
    assert found.details["fingerprint"] == work.fingerprint, "the same files give the same set"
    for name in (OURS, "plain TFDS builder"):
        (startup,), (sample,) = found.details["startup_seconds"][name], found.samples[name]
        assert 0 < startup < sample.seconds


def test_full_texts_on_one_and_two_cores(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _work(synthetic_data_dir, "song_lyrics")
    monkeypatch.setattr(builders.os, "sched_getaffinity", lambda _: {0, 1})
    words = builders._write_full_texts(tmp_path, 1500)
    assert words > 150
    built = builders._Builds("song_lyrics", tmp_path, "")
    built.run(builders._on_cores([2]), 1, lambda text: None)
    found = built.compare(work, "full texts, 2 cores", _Variant(2), _Variant(1), 1.7)
    assert set(found.samples) == {OURS, "one process"} and found.goal == 1.7
    (ours,), (other,) = found.samples.values()
    assert ours.examples == other.examples > 1000
    assert found.details["ratio_without_startup"] > 0


def test_other_bytes_are_refused() -> None:
    details: Any = {_Variant(1): [{"content": "a"}], _Variant(2): [{"content": "b"}]}
    with pytest.raises(ValueError, match=r"expected the same bytes, received .*\['a', 'b'\]"):
        builders._check_same_bytes("set", details)
    builders._check_same_bytes(
        "set", {_Variant(1): [{"content": "a"}], _Variant(2, plain=True): [{"content": "b"}]}
    )


def test_another_set_has_no_builder_here(synthetic_data_dir: Path) -> None:
    work = _work(synthetic_data_dir, "fetal_health")
    other = dataclasses.replace(work, schema=dataclasses.replace(work.schema, name="mnist/3.0.1"))
    assert builders.measure_builders(other, FULL, lambda text: None) == []
