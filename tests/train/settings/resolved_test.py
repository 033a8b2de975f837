"""What was asked becomes settings with a value for everything, once."""

import dataclasses
from types import SimpleNamespace

import pytest

from tests.support.settings import make_settings
from train.settings.config import TrainConfig
from train.settings.resolve import _nearest_multiple, fill
from train.settings.resolved import Settings


def test_defaults_follow_the_kind_of_data_and_the_model() -> None:
    table, texts = make_settings(), make_settings("tokens")
    assert (table.model, table.global_batch_size, table.freeze) == ("mlp", 32, False)
    assert (texts.model, texts.monitor) == ("gru", "accuracy")
    pictures = make_settings("image")
    assert pictures.freeze and pictures.image_size == 224
    assert not make_settings("image", weights="random").freeze
    assert make_settings("image", epochs=3, image_size=64).image_size == 64
    assert make_settings(profile="4,8").profile == (4, 8)
    with pytest.raises(ValueError, match="mlp"):
        fill(TrainConfig(model="gru"), "tabular")


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="settings: image_size expected a value, received none"):
        Settings.of(TrainConfig(), {"precision": "float32", "xla": False})


def test_a_run_is_known_by_what_was_asked_of_the_hardware() -> None:
    settings = make_settings(hidden=(8, 4), profile="4,8")
    known = settings.to_dict()
    assert known["precision"] == "auto" and known["xla"] is None and known["profile"] == "4,8"
    assert known["hidden"] == [8, 4] and known["epochs"] == 60
    assert not {"data_dir", "run_dir", "cache", "evaluate_test"} & known.keys()
    there = dataclasses.replace(settings, xla=True, precision="mixed_bfloat16", cache="disk")
    assert there.to_dict() == known
    assert dataclasses.replace(settings, seed=1).to_dict() != known


def test_fine_tuning_is_a_second_stage() -> None:
    assert len(make_settings("image").stages()) == 1
    whole = make_settings("image", unfreeze_from="all", fine_tune_epochs=2, profile="4,8")
    head, tuning = whole.stages()
    assert head.freeze and not tuning.freeze
    assert (head.epochs, tuning.epochs) == (40, 2)
    assert (head.learning_rate, tuning.learning_rate) == (1e-3, 1e-4)
    assert (head.profile, tuning.profile) == (None, (4, 8))


def test_asked_and_resolved_are_two_types() -> None:
    assert not issubclass(Settings, TrainConfig) and not issubclass(TrainConfig, Settings)


def test_settings_of_other_kinds_of_data_are_left_out() -> None:
    table = make_settings().used("tabular")
    assert {"model", "learning_rate", "weight_decay", "epochs", "seed"} <= set(table)
    of_others = {"image_size", "freeze", "units", "vocab_size", "monitor", "fold", "clip_norm"}
    assert not of_others & set(table)
    pictures = make_settings("image").used("image")
    assert {"image_size", "freeze", "monitor"} <= set(pictures)
    assert not {"augment", "fine_tune_epochs", "units", "hidden"} & set(pictures)
    assert {"units", "vocab_size"} <= set(make_settings("text", units=9).used("text"))


def test_the_usual_batch_is_shared_evenly(capsys: pytest.CaptureFixture[str]) -> None:
    def found(size: int, replicas: int) -> int:
        return _nearest_multiple(size, SimpleNamespace(num_replicas=replicas, is_chief=True))  # type: ignore[arg-type]

    assert [found(32, 3), found(128, 3), found(64, 5), found(32, 40)] == [33, 129, 65, 40]
    assert (
        "--global-batch-size 33: of 3 replicas, nearest to the usual 32" in capsys.readouterr().out
    )
    assert [found(32, 1), found(64, 4)] == [32, 64] and not capsys.readouterr().out
