from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.measuring import work as work_module
from benchmarks.measuring.comparison import OURS
from benchmarks.measuring.timing import Sample
from benchmarks.measuring.work import Question
from benchmarks.peers import keras_fit
from benchmarks.training import fit
from benchmarks.training.loop import build, steps_per_second
from records.sets.schema import IMAGE, TABULAR
from tests.support.tiny_models import take_tiny_backbone
from train.devices.strategy import make_cluster

_FROZEN = {"freeze": True, "weights": "random", "image_size": 32, "global_batch_size": 16}
_TINY = 0.001


def _open(data_dir: Path, name: str) -> work_module.Work:
    return work_module.open_work(work_module.choose_set(f"{name}/synthetic", str(data_dir)))


def _measure(work: work_module.Work, question: Question) -> Any:
    questions: dict[str, tuple[Question, ...]] = {work.schema.modality: (question,)}
    nothing: dict[str, tuple[Question, ...]] = {work.schema.modality: ()}
    effort = work_module.Effort(1, _TINY, questions, nothing, thorough=False)
    (found,) = fit.measure_training(work, effort, lambda text: None)
    return found


@pytest.mark.slow
def test_the_reports_way_with_its_own_table_model(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make demo` measures a table beside `fit` in the quick checks."""
    work = _open(synthetic_data_dir, "fetal_health")
    settings = {"global_batch_size": 32, "xla": False}
    found = _measure(work, Question("mlp_small", settings=settings, report=True))
    assert set(found.samples) == {OURS, "report", "fit tuned"}, "fit at its defaults is that way"
    steps = found.details["steps_per_second"]
    examples = found.details["examples"]
    per_epoch = -(-examples // 32)
    for name, (sample,) in found.samples.items():
        epochs = sample.examples / examples
        assert steps[name] == pytest.approx(epochs * per_epoch / sample.seconds)
        assert f"{name} {steps[name]:,.1f}" in found.note
    assert "report's own way" in found.note
    # Which systems there are does not depend on how fast they are.
    monkeypatch.setattr(fit.keras_fit, "make_default", lambda work: lambda epochs: None)
    monkeypatch.setattr(fit.keras_fit, "make_tuned", lambda *args: (lambda epochs: None, {}))
    plain = _measure(work, Question("mlp_small", settings=settings))
    assert set(plain.samples) == {OURS, "fit", "fit tuned"} and "report" not in plain.note


@pytest.mark.slow
def test_the_reports_way_runs_the_frozen_backbone_in_every_step(synthetic_data_dir: Path) -> None:
    work = _open(synthetic_data_dir, "brain_tumor_mri")
    found = _measure(work, Question("efficientnet_lite0", None, _FROZEN, 32, report=True))
    assert set(found.samples) == {OURS, "fit", "fit tuned", "report"}
    (report,), (ours,) = found.samples["report"], found.samples[OURS]
    assert report.examples % 32 == 0 and report.rate < ours.rate / 5
    assert "the backbone every step: epochs of 32 pictures, random weights" in found.note


def test_the_frozen_backbone_stays_frozen_in_its_copy(
    synthetic_data_dir: Path, monkeypatch: Any
) -> None:
    take_tiny_backbone(monkeypatch)
    work = _open(synthetic_data_dir, "brain_tumor_mri")
    built = build(work, Question("efficientnet_lite0", None, _FROZEN, 32), make_cluster("auto"))
    fit_work = built.fit_work(whole=True)
    assert fit_work.inputs.shape == (32, 32, 32, built.pictures.spec.shape[-1])
    compiled: list[Any] = []
    original = keras_fit._compile

    def compile_and_keep(*args: Any, **options: Any) -> Any:
        compiled.append(original(*args, **options))
        return compiled[-1]

    monkeypatch.setattr(keras_fit, "_compile", compile_and_keep)
    keras_fit.make_report(fit_work)(1)
    (copy,) = compiled
    assert not copy.jit_compile
    for stage in ("backbone", "head"):
        before, after = (m.get_layer(stage).get_weights() for m in (fit_work.model, copy))
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert same == (stage == "backbone")


def test_steps_count_the_smaller_batch_at_the_end() -> None:
    samples = {"a": [Sample(100, 1.0), Sample(100, 2.0), Sample(100, 4.0)]}
    assert steps_per_second(samples, 32, 100) == {"a": 4 / 2.0}


def test_full_runs_measure_the_reports_own_models() -> None:
    own = {q.model: q for of in work_module.FULL.train.values() for q in of if q.report}
    assert set(own) == {"mlp_report", "mlp_report_best", "resnet50", "lstm"}
    assert {q.settings["global_batch_size"] for q in own.values()} == {32}, "the report's batch"
    names = dataclasses.asdict(work_module.QUICK)["train"]
    assert all(names[m] for m in (TABULAR, IMAGE))
