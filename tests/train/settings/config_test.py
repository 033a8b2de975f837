"""The command line: flags generated from the configuration."""

import dataclasses
from typing import Any

import pytest

import models
from tests.support.settings import make_settings
from train.run import parse_config
from train.settings.config import setting_fields


def test_issue_flags_are_there_with_dashes_and_underscores() -> None:
    arguments = (
        "--dataset fetal_health --data-dir D --manual_dir M --run-dir R --model mlp "
        "--strategy mirrored --precision mixed_bfloat16 --no-xla --cache memory --epochs 3 "
        "--global_batch_size=64 --learning-rate 0.01 --seed 4 --class-weights balanced "
        "--early-stopping 5 --optimizer sgd --dropout 0.1 --no-freeze --clip-norm 1 "
        "--profile 5,9 --weights random --vocab-size 900 --sequence_length 33"
    )
    found = parse_config(arguments.split())
    assert found.global_batch_size == 64 and found.sequence_length == 33
    assert found.manual_dir == "M" and found.xla is False and found.freeze is False
    assert found.profile_steps() == (5, 9)


def test_values_keep_their_underscores() -> None:
    assert parse_config(["--dataset", "my_set/a_b"]).dataset == "my_set/a_b"
    assert parse_config(["--dataset=my_set"]).dataset == "my_set"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--strategy", "horovod"], "choose from"),
        (["--optimizer=lion"], "adam"),
        (["--nothing", "1"], "unrecognized arguments: --nothing"),
        (["--epochs", "0"], "--epochs expected a positive number, received 0"),
        (["--epochs", "9" * 20], "--epochs expected whole numbers below 2,147,483,648, received 9"),
        (["--hidden", "64", "9" * 20], "--hidden expected whole numbers below 2,147,483,648"),
        (["--seed", "9" * 20], "--seed expected whole numbers below 9,223,372,036,854,775,808"),
        (["--profile", "9,5"], "--profile expected FROM < TO"),
        (["--profile", "x"], "--profile expected FROM,TO"),
        (["--vocab-size", "2"], "--vocab-size expected at least 3"),
        (["--early-stopping", "-1"], "--early-stopping expected 0 or more"),
        (["--dropout", "1.5"], "--dropout expected"),
        (["--ema", "1"], "--ema expected a momentum in (0, 1), received 1"),
        (["--label-smoothing", "1"], "--label-smoothing expected a share in [0, 1)"),
        (["--accumulate-steps", "0"], "--accumulate-steps expected a positive number"),
        (["--no-group-folds"], "--no-group-folds expected with --folds, received"),
        (["--warmup-epochs", "-1"], "--warmup-epochs expected 0 or more"),
    ],
)
def test_wrong_values_say_what_is_right(arguments: list[str], expected: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_config(arguments)
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err


def test_help_groups_and_explains_every_flag(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parse_config(["--help"])
    text = capsys.readouterr().out
    for group in ("data:", "model:", "training:", "hardware:", "output:"):
        assert group in text
    for field in setting_fields():
        assert f"--{field.name.replace('_', '-')}" in text
        assert field.metadata["help"]


def test_help_names_every_model() -> None:
    (field,) = (f for f in setting_fields() if f.name == "model")
    ours = field.metadata["help"].partition("(")[2].partition(")")[0]
    listed = dict(part.split(": ") for part in ours.split("; "))
    found = {kind: set(names.split(", ")) for kind, names in listed.items()}
    expected: dict[str, set[str]] = {"tables": set(), "pictures": set(), "texts": set()}
    kinds = {"tabular": "tables", "image": "pictures", "text": "texts"}
    for name, entry in models.MODELS.items():
        expected[kinds[entry.modality]].add(name)
    assert found == expected


def test_same_settings_name_the_same_folder() -> None:
    folder = make_settings(model="mlp").folder
    assert folder == make_settings(model="mlp", data_dir="x").folder
    assert folder == make_settings(model="mlp", evaluate_test=True).folder
    assert folder != make_settings(model="mlp", seed=1).folder
    assert make_settings(model="mlp", run_dir="x").folder == "x"
    hardware = dataclasses.replace(make_settings(model="mlp"), xla=True, shuffle_block=64)
    assert folder == hardware.folder, "the same command finds it on other hardware"
