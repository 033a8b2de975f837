"""Settings from a file, flags over them, and which were given."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.settings import make_settings
from train import cross_validate, sweep
from train.run import main, parse_config
from train.settings.config import TrainConfig
from train.settings.resolve import _check_ignored, check_kind, resolve

YAML = """
# as a person writes it
dataset: fetal_health/synthetic
hidden: [64, 32]
learning-rate: 1e-3
clip_norm: 1
memory_budget: 2e9
xla: false
early_stopping: null
run_dir: ~/runs
"""


def _write(folder: Path, text: str, name: str = "settings.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_flags_overrule_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    found = parse_config(["--config", _write(tmp_path, YAML), "--hidden", "8", "--xla", "--seed=3"])
    assert found == TrainConfig(
        dataset="fetal_health/synthetic",
        hidden=(8,),
        learning_rate=0.001,
        clip_norm=1,
        memory_budget=2e9,
        xla=True,
        seed=3,
        run_dir=str(Path("~/runs").expanduser()),
    )
    assert "early_stopping" not in found.given and {"xla", "seed", "clip_norm"} < found.given
    as_json = json.dumps({"hidden": [64, 32], "augment": False, "model": "dcn"})
    found = parse_config(["--config", _write(tmp_path, as_json, "a.json"), "--augment"])
    assert (found.hidden, found.augment, found.model) == ((64, 32), True, "dcn")


def test_everything_wrong_in_a_file_is_listed_at_once(tmp_path: Path, capsys: Any) -> None:
    text = (
        "learning_rat: 0.1\nqqq: 1\nepochs: 2.5\nhidden: 64\nxla: 'yes'\nseed: null\n"
        "optimizer: lion\ndropout: 2\nmodel: 3\n"
    )
    file = _write(tmp_path, text)
    with pytest.raises(SystemExit) as end:
        parse_config(["--config", file])
    assert end.value.code == 2
    said = capsys.readouterr().err
    for fault in (
        f"settings: --config {file}: ",
        "learning_rat expected a setting, such as learning_rate, received an unknown name; ",
        "qqq expected a setting, received an unknown name; ",
        "epochs expected a whole number or null, received 2.5; ",
        "hidden expected a list, each a whole number or null, received 64; ",
        "xla expected true or false or null, received 'yes'; ",
        "seed expected a whole number, received None; ",
        "optimizer expected one of adam, adamw, sgd, rmsprop, nadam, received 'lion'; ",
        "dropout expected a rate in [0, 1), received 2; ",
        "model expected text or null, received 3. All settings: python -m train.run --help",
    ):
        assert fault in said, fault


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yaml", "- 1\n", "expected names of settings with their values, received [1]"),
        ("a.yml", "epochs: [", "a.yml expected YAML, received while parsing"),
        ("a.yml", "epochs: 1\nepochs: 2\n", "expected YAML, received epochs more than once"),
        ("a.json", "{", "a.json expected JSON, received Expecting"),
        (
            "a.json",
            '{"data_fingerprint": "", "resolved": {}, "model": "Sequential@1f"}',
            "a.json: model: --model 'Sequential@1f' expected",
        ),
        ("a.txt", "", "expected a file named *.json, *.yaml, *.yml, received"),
    ],
)
def test_what_is_no_file_of_settings(
    name: str, text: str, expected: str, tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        parse_config(["--config", _write(tmp_path, text, name)])
    said = capsys.readouterr().err
    # Not a page of usage before the error.
    assert expected in said and len(said.splitlines()) == 2
    for place in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(SystemExit):
            parse_config(["--config", str(place)])
    assert f"name {tmp_path / 'config.json'}" in (said := capsys.readouterr().err)
    assert "missing.yaml" in said


def test_a_file_runs_nothing(tmp_path: Path, capsys: Any) -> None:
    made = tmp_path / "made"
    with pytest.raises(SystemExit):
        text = f"epochs: !!python/object/apply:os.mkdir ['{made}']"
        parse_config(["--config", _write(tmp_path, text)])
    assert "could not determine a constructor" in capsys.readouterr().err
    assert not made.exists()


def test_a_run_from_another_runs_settings_ends_with_the_same_bits(
    finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path
) -> None:
    first, second = finished_runs["fetal_health"], tmp_path / "second"
    config = ["--config", str(first / "config.json")]
    flags = [*config, "--strategy", "one_device", "--run-dir", str(second)]
    assert main(flags) == 0
    assert (second / "config.json").read_bytes() == (first / "config.json").read_bytes()
    (one,), (other,) = (sorted(run.glob("checkpoints/*.npz"))[-1:] for run in (first, second))
    with np.load(one) as left, np.load(other) as right:
        names = [name for name in left.files if left[name].dtype.kind == "f"]
        assert len(names) > 8
        for name in names:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    # Its place is known; of another set it is not.
    found = parse_config([*config, "--epochs", "4"])
    assert (found.epochs, found.model) == (4, "mlp_small")
    assert found.data_dir == str(synthetic_data_dir)
    assert parse_config([*config, "--dataset", "a"]).data_dir is None
    stored = json.loads((first / "config.json").read_text())
    stored["data_directory"] = "s3://bucket/sets/fetal_health/synthetic/1.0.0"
    away = _write(tmp_path, json.dumps(stored), "away.json")
    assert parse_config(["--config", away]).data_dir == "s3://bucket/sets"
    # What a table does not have, and each run has for itself, is not asked for.
    assert not {"image_size", "weights", "monitor", "seed", "fold"} & found.given
    plan = cross_validate.parse_arguments([*config, "--epochs", "5"])
    assert (plan.config.folds, plan.config.epochs, plan.config.model) == (5, 5, "mlp_small")
    assert {"model", "epochs"} < set(sweep.parse_config(config).named)


def test_a_flag_at_its_default_is_seen_as_given() -> None:
    schema: Any = SimpleNamespace(
        modality="tabular", name="t", input_name="features", split_counts={"train": 900}
    )
    cluster: Any = SimpleNamespace(num_replicas=1, is_chief=True, accelerator=False)
    for flag in ("--sequence-length 200", "--weights imagenet", "--augment"):
        with pytest.raises(ValueError, match=rf"{flag.split()[0]} expected with"):
            resolve(parse_config(flag.split()), schema, cluster)
    asked = parse_config(["--fine-tune-epochs", "5"])
    with pytest.raises(ValueError, match="--fine-tune-epochs expected with --unfreeze-from"):
        _check_ignored(make_settings("image", given=asked.given))
    with pytest.raises(SystemExit):
        parse_config(["--fold", "0"])
    check_kind({}, schema)
    assert not parse_config([]).given
