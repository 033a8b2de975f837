"""What was asked becomes settings with a value for everything, once."""

import dataclasses
import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.settings import make_settings
from train.run import parse_config
from train.settings.command_line import format_command
from train.settings.config import TrainConfig
from train.settings.resolve import _check_ignored, _nearest_multiple, check_kind, fill, resolve
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


_SET = {"name": "a/1.0.0", "input_name": "x"}


@pytest.mark.parametrize(
    ("modality", "fields", "flag", "kind"),
    [
        ("tabular", {"image_size": 224}, "--image-size", "pictures"),
        ("tabular", {"max_pixels": 9}, "--max-pixels", "pictures"),
        ("tabular", {"augment": False}, "--no-augment", "pictures"),
        ("tabular", {"freeze": False}, "--no-freeze", "pictures"),
        ("tabular", {"weights": "random"}, "--weights", "pictures"),
        ("tabular", {"sequence_length": 9}, "--sequence-length", "texts"),
        ("tokens", {"hidden": (8,)}, "--hidden", "a table"),
        ("text", {"mixup": 0.2}, "--mixup", "pictures"),
        ("image", {"vocab_size": 500}, "--vocab-size", "texts"),
        ("image", {"recurrent_dropout": 0.1}, "--recurrent-dropout", "texts"),
    ],
)
def test_a_setting_of_another_kind_of_data_is_refused(
    modality: str, fields: dict[str, Any], flag: str, kind: str
) -> None:
    schema: Any = SimpleNamespace(modality=modality, **_SET)
    cluster: Any = None  # not asked yet
    expected = f"settings: {flag} expected with {kind}, received with a/1.0.0, whose input 'x' is "
    with pytest.raises(ValueError, match=f"{expected}.*\\({modality}\\). Leave the flag out"):
        resolve(TrainConfig(**fields), schema, cluster)


def test_what_is_stored_of_a_run_is_of_its_kind() -> None:
    """The command that is written for a stored run names no flag of another kind."""
    for modality in ("tabular", "image", "text"):
        schema: Any = SimpleNamespace(modality=modality, **_SET)
        stored = make_settings(modality).to_dict()
        found = parse_config(shlex.split(format_command("", stored)))
        given = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
        check_kind({k: v for k, v in given.items() if v != getattr(TrainConfig, k)}, schema)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"fine_tune_epochs": 9}, "--fine-tune-epochs expected with --unfreeze-from"),
        ({"mixup": 0.2}, "--mixup expected with a picture model whose backbone is trained"),
        ({"freeze": False, "unfreeze_from": "all"}, "--unfreeze-from expected with a frozen"),
    ],
)
def test_a_setting_of_pictures_that_would_do_nothing(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^settings: {expected}"):
        _check_ignored(make_settings("image", **fields))
