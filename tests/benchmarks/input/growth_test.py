"""Sets that grow: what is written, measured, compared, and said of what grows."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.input import growth, reading_child
from benchmarks.measuring import child, repeat
from benchmarks.measuring.comparison import OURS
from benchmarks.measuring.timing import Sample
from benchmarks.measuring.work import QUICK, choose_set, open_work
from records.decoding.indexing import read_index
from records.sets.schema import read_schema
from records.shards.index import RecordReader

_FULL = dataclasses.replace(QUICK, thorough=True)


def _work(data_dir: Path, name: str) -> Any:
    return open_work(choose_set(f"{name}/synthetic", str(data_dir)))


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri"])
def test_sizes_are_compared_with_the_base(
    synthetic_data_dir: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started = [] if name == "fetal_health" else ["one is enough"]

    def run_child(module: str, request: dict[str, Any]) -> dict[str, Any]:
        """One process as a run starts it; the others' work is done here, which takes no start."""
        started.append(request["directory"])
        if len(started) == 1:
            return child.run_child(module, request)
        monkeypatch.setattr(sys, "argv", ["", json.dumps(request)])
        reading_child.main()
        return json.loads(capsys.readouterr().out)

    monkeypatch.setattr(growth, "run_child", run_child)
    monkeypatch.setattr(growth, "_SIZES", (100, 1000, 10_000))
    monkeypatch.setattr(growth, "_ROUNDS", 1)
    monkeypatch.setattr(growth, "_SECONDS", 0.2)
    monkeypatch.setattr(growth, "_BASE", 1000)
    monkeypatch.setattr(growth, "_BLOCK", 256)
    work = _work(synthetic_data_dir, name)
    found = {c.question: c for c in growth.measure_growth(work, _FULL, lambda text: None)}
    kind = "rows" if name == "fetal_health" else "picture bytes"
    expected = {f"{kind}, 10^{n}{more}" for n in (2, 4) for more in ("", ": start")}
    assert set(found) == expected | ({"a worker's part of a step"} if kind == "rows" else set())
    grown = found[f"{kind}, 10^4"]
    assert set(grown.samples) == {OURS, "10^3"} and grown.goal == 0.8
    assert found[f"{kind}, 10^2"].goal is None
    ours, other = grown.details["ours"], grown.details["other"]
    assert (ours["examples"], other["examples"]) == (10_000, 1000)
    assert ours["bytes"] == pytest.approx(10 * other["bytes"], rel=0.02)
    assert ours["index_bytes"] > 9 * (other["index_bytes"] - 3000)
    assert ours["shards"] == other["shards"] == repeat.SHARDS
    assert abs(ours["state_bytes"] - other["state_bytes"]) < 4
    for details in (ours, other):
        assert min(details["seconds_to_first_batch"]) > 0 and min(details["peak_bytes"]) > 0


def test_texts_and_quick_runs_have_no_such_question(
    synthetic_data_dir: Path,
) -> None:
    for name, effort in (
        ("song_lyrics", _FULL),
        ("brain_tumor_mri", QUICK),
        ("fetal_health", QUICK),
    ):
        work = _work(synthetic_data_dir, name)
        assert growth.measure_growth(work, effort, lambda text: None) == []


def test_a_set_too_large_for_the_disk_is_left_out(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _work(synthetic_data_dir, "brain_tumor_mri")
    monkeypatch.setattr(growth.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 10**6}))
    sets, left_out = growth._write_sets(work, (100, 1000), tmp_path, lambda text: None)
    assert list(sets) == [100]
    assert left_out == "left out: 1,000 and more, which need 3,500,000 bytes of 1,000,000 free"


def test_any_number_of_records_is_repeated(synthetic_data_dir: Path, tmp_path: Path) -> None:
    work = _work(synthetic_data_dir, "fetal_health")
    count = work.num_examples + 13
    directory = repeat.repeat_set(work.schema, "train", count, str(tmp_path), lambda r: r)
    schema = read_schema(directory)
    assert schema.split_counts == {"train": count}
    index, original = read_index(schema, "train"), read_index(work.schema, "train")
    numbers = np.arange(count)
    expected = RecordReader(original).read(numbers % work.num_examples)
    assert RecordReader(index).read(numbers).tolist() == expected.tolist()


def test_what_grows_is_said() -> None:
    sizes = (10**3, 10**4, 10**5, 10**6)
    flat = {"state_bytes": 100, "shards": 8, "peak_bytes": [5, 5]}
    details = {s: flat | {"seconds_to_first_batch": [s / 1e4]} for s in sizes}
    samples = {f"10^{n}": [Sample(1000, 1.0)] for n in (3, 4, 5)} | {"10^6": [Sample(400, 1.0)]}
    assert growth._notes_on_growth(details, samples) == [
        "time per example grows from 10^6 on: 2.5 x that of 10^4 at 10^6",
        "start grows from 10^5 on: 100.0 x that of 10^4 at 10^6",
    ]
    level = {s: flat | {"seconds_to_first_batch": [1.0]} for s in sizes}
    assert growth._notes_on_growth(level, dict.fromkeys(samples, samples["10^3"])) == [
        "nothing grows with the set"
    ]
