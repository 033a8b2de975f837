from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.measuring import work as work_module
from benchmarks.measuring.comparison import OURS
from benchmarks.training import own_model


@pytest.mark.slow
def test_both_doors_train_the_same_rows(synthetic_data_dir: Path) -> None:
    directory = work_module.choose_set("fetal_health/synthetic", str(synthetic_data_dir))
    effort = dataclasses.replace(work_module.QUICK, repetitions=1)
    work = work_module.open_work(directory)
    found, _ = own_model.measure_own_model(work, effort, lambda text: None)
    assert set(found.samples) == {OURS, own_model.COMMAND}
    assert {s.examples for one in found.samples.values() for s in one} == {2_000}
    assert found.goal == 0.97
