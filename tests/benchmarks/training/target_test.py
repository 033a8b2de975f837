from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from benchmarks.measuring import work as work_module
from benchmarks.measuring.child import ChildError
from benchmarks.measuring.comparison import DURATION, OURS
from benchmarks.peers import keras_target
from benchmarks.training import target
from benchmarks.training.target import Epoch, Goal, Race, run_until
from records.opened import open_set
from tests.support.forks import fork
from tests.support.tiny_models import take_tiny_backbone
from train.assembly.data import open_context
from train.assembly.training import build_training
from train.devices.strategy import make_cluster
from train.settings.config import TrainConfig
from train.settings.resolve import resolve

_SMALL = {"model": "mlp_small", "cpu_devices": None, "xla": False}


def _open(data_dir: Path, name: str) -> work_module.Work:
    return work_module.open_work(work_module.choose_set(f"{name}/synthetic", str(data_dir)))


def _write_history(file: Path, accuracies: list[float], ended: threading.Event) -> None:
    """What a run does: a start that takes its time, then an epoch every 20 ms, in two writes."""
    with file.open("w", buffering=1) as opened:
        opened.write("epoch,loss,val_accuracy\n")
        for number, accuracy in enumerate(accuracies, 1):
            time.sleep(0.02)
            opened.write(f"{number},0.1234,{accuracy:.1f}")
            opened.flush()
            opened.write("999\n")
    ended.set()


def _watch(folder: Path, accuracies: list[float], value: float, most: int) -> tuple[Epoch, ...]:
    file, ended = folder / "history.csv", threading.Event()
    file.unlink(missing_ok=True)
    writer = threading.Thread(target=_write_history, args=(file, accuracies, ended))

    def check_runs() -> None:
        if writer.ident is None:  # the clock runs: no epoch may end before it
            writer.start()
        if ended.is_set() and len(target.read_accuracies(file)) == len(accuracies):
            raise ChildError("ended too early")

    try:
        return run_until(file, check_runs, value, most)
    finally:
        writer.join()


def test_a_harder_target_takes_no_less(tmp_path: Path) -> None:
    accuracies = [0.2, 0.5, 0.4, 0.7, 0.9]
    wanted = (0.1, 0.2, 0.45, 0.5, 0.6, 0.9)
    found = [_watch(tmp_path, accuracies, value, 5) for value in wanted]
    assert [len(epochs) for epochs in found] == [1, 1, 2, 2, 4, 5]
    for value, epochs in zip(wanted, found, strict=True):
        assert epochs[-1].accuracy >= value > max([e.accuracy for e in epochs[:-1]], default=0)
        assert [e.accuracy for e in epochs] == pytest.approx(
            [a + 0.0999 for a in accuracies[: len(epochs)]]
        )
        seconds = [e.seconds for e in epochs]
        assert seconds == sorted(seconds)
        assert 0.02 * len(epochs) <= seconds[-1]


def test_a_run_that_ends_too_early_is_no_result(tmp_path: Path) -> None:
    assert target.read_accuracies(tmp_path / "none.csv") == []
    assert len(_watch(tmp_path, [0.1, 0.2], 0.9, most=2)) == 2
    with pytest.raises(ChildError, match="ended too early"):
        _watch(tmp_path, [0.1, 0.2], 0.9, most=3)


def test_who_does_not_arrive_is_named() -> None:
    goal = Goal(0.9, _SMALL, epochs=2)
    fast = Race(0, (Epoch(1.0, 0.9),), goal.accuracy)
    late = Race(1, (Epoch(1.0, 0.1), Epoch(2.0, 0.8999)), goal.accuracy)
    assert fast.reached and not late.reached and late.seconds == 2.0
    note = target.describe({OURS: [fast, fast], "report": [fast, late]}, goal)
    assert "epochs: ours 1, 1; report 1, 2" in note
    assert "report DID NOT REACH IT in 2 epochs with seed 1" in note
    assert "NOT REACH" not in target.describe({OURS: [fast], "report": [fast]}, goal)


def test_sets_without_a_goal_and_quick_runs(synthetic_data_dir: Path, monkeypatch: Any) -> None:
    started: list[tuple[str, int]] = []

    def measure(work: Any, goal: Goal, seeds: int, progress: Any) -> str:
        started.append((goal.settings["model"], seeds))
        return "measured"

    monkeypatch.setattr(target, "measure_goal", measure)
    table, pictures = (_open(synthetic_data_dir, n) for n in ("fetal_health", "brain_tumor_mri"))
    for work in (table, pictures):
        for effort in (work_module.QUICK, work_module.FULL):
            target.measure_target(work, effort, print)
    assert started == [("mlp", 3), ("efficientnet_lite0", 2)]
    monkeypatch.setattr(target, "GOALS", {})
    assert target.measure_target(table, work_module.FULL, print) == []


class _Forked:
    """As `start_child`, of a process that has TensorFlow imported; `slow` starts whole ones."""

    def __init__(self, module: str, request: dict[str, Any]) -> None:
        self._process = fork("-m", module, json.dumps(request))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self) -> None:
        while '{"ready": true}' not in self._process.printed():
            self.check_runs()
            time.sleep(0.002)

    def check_runs(self) -> None:
        if self._process.poll() is not None:
            raise ChildError(str(self._process.communicate()))


def test_a_race_ends_where_it_reaches_its_target(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "start_child", _Forked)
    work = _open(synthetic_data_dir, "fetal_health")
    race = target._race(work, Goal(0.3, _SMALL, epochs=2), OURS, 0)
    assert race.reached and len(race.epochs) == 1 and race.epochs[0].accuracy > 0.3


@pytest.mark.slow
def test_all_systems_on_their_way_to_a_target(synthetic_data_dir: Path) -> None:
    """One that none can reach shows every epoch; ours then stops where it reaches another one."""
    work = _open(synthetic_data_dir, "fetal_health")
    goal = Goal(1.1, _SMALL, epochs=3)
    found = target.measure_goal(work, goal, 1, lambda text: None)
    assert found.quantity == DURATION and set(found.samples) == {OURS, "fit", "report"}
    assert found.details["reached"] == {name: [False] for name in found.samples}
    assert found.note.count("DID NOT REACH IT in 3 epochs with seed 0") == 3
    for name, (sample,) in found.samples.items():
        assert sample.examples == 3 * work.num_examples
        assert sample.seconds > found.details["first_epoch_seconds"][name][0] > 0
        (accuracies,) = found.details["accuracies"][name]
        assert len(accuracies) == 3 and max(accuracies) > 0.6, "the majority class has 0.78 of it"
    (accuracies,) = found.details["accuracies"][OURS]
    easier = dataclasses.replace(goal, accuracy=max(accuracies))
    race = target._race(work, easier, OURS, 0)
    assert race.reached
    assert [e.accuracy for e in race.epochs] == accuracies[: np.argmax(accuracies) + 1]


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri"])
def test_fit_begins_with_the_same_model_and_examples(
    name: str, synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_tiny_backbone(monkeypatch)
    directory = _open(synthetic_data_dir, name).schema.directory
    settings: dict[str, Any] = {"model": "mlp"}
    if name == "brain_tumor_mri":
        settings = {"model": "efficientnet_lite0", "image_size": 32}
    settings |= {"precision": "float32", "xla": False}
    asked = TrainConfig(dataset=directory, schedule="constant", epochs=1, seed=3, **settings)
    parts = keras_target._open(asked)
    opened, cluster = open_set(directory), make_cluster("one_device")
    context = open_context(resolve(asked, opened.schema, cluster), opened, cluster)
    for role, (inputs, labels) in (("train", parts.train), ("validation", parts.validation)):
        source = context.examples[role]
        np.testing.assert_array_equal(inputs, np.asarray(source.inputs)[source.numbers])
        np.testing.assert_array_equal(labels, source.subset_labels)
    ours = build_training(context).model
    for a, b in zip(ours.get_weights(), parts.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    trained = [len(model.trainable_weights) for model in (ours, parts.model)]
    assert trained[0] == trained[1]


def test_both_fits_train_the_head_alone_and_keep_a_history(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    take_tiny_backbone(monkeypatch)
    directory = _open(synthetic_data_dir, "brain_tumor_mri").schema.directory
    config = TrainConfig(
        dataset=directory, model="efficientnet_lite0", image_size=32, epochs=2, schedule="constant"
    )
    opened: list[Any] = []
    original = keras_target._open

    def open_and_keep(config: TrainConfig) -> Any:
        parts = original(config)
        layers = {stage: parts.model.get_layer(stage) for stage in ("backbone", "head")}
        opened.extend((stage, layer, layer.get_weights()) for stage, layer in layers.items())
        return parts

    monkeypatch.setattr(keras_target, "_open", open_and_keep)
    for train in (keras_target.train_cached, keras_target.train_arrays):
        folder = tmp_path / train.__name__
        train(dataclasses.replace(config, run_dir=str(folder)))
        accuracies = target.read_accuracies(folder / "history.csv")
        assert len(accuracies) == 2 and all(0 <= a <= 1 for a in accuracies)
    assert len(opened) == 4
    for stage, layer, before in opened:
        same = all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))
        assert same == (stage == "backbone")
