"""The trial of a sweep that is timed is a whole one, both ways."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest

from benchmarks.measuring import work as work_module
from benchmarks.measuring.comparison import OURS
from benchmarks.training import folds
from train.engine import whole_run


def test_both_ways_train_and_validate_every_fold(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def count(config: whole_run.TrainConfig) -> dict[str, object]:
        trained.append((config.seed, config.fold, config.epochs))
        return whole_run.train_and_evaluate(config)

    monkeypatch.setattr(folds, "train_and_evaluate", count)
    # XLA, the default, takes seconds for each of the four that are trained.
    monkeypatch.setattr(folds, "TrainConfig", functools.partial(folds.TrainConfig, xla=False))
    for name, value in (("_EPOCHS", 2), ("FOLDS", 2), ("_MODELS", ("mlp_small",))):
        monkeypatch.setattr(folds, name, value)
    directory = work_module.choose_set("fetal_health/synthetic", str(synthetic_data_dir))
    work = work_module.open_work(directory)
    effort = dataclasses.replace(work_module.FULL, repetitions=1)
    (answer,) = folds.measure_folds(work, effort, lambda text: None)
    assert answer.question == "mlp_small, a trial of 2 folds"
    assert trained == [(0, fold, 2) for fold in range(2)]
    ours, apart = answer.samples[OURS], answer.samples[folds.APART]
    assert [s.examples for s in ours] == [s.examples for s in apart] == [2 * work.num_examples]


def test_a_fold_that_was_left_out_is_an_error(synthetic_data_dir: Path) -> None:
    directory = work_module.choose_set("fetal_health/synthetic", str(synthetic_data_dir))
    work = work_module.open_work(directory)
    with pytest.raises(ValueError, match=f"{work.num_examples} validated examples expected"):
        folds._check(work.num_examples - 1, work)
