"""What a table's label columns are taken for, and the sets that come of it."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.convert.__main__ import main
from builders.convert.kinds import read_source
from builders.convert.source import Conversion, Options
from records.decoding.table_columns import LabelColumns
from records.roles import open_data
from train.folders.model_input import ModelInput
from train.serving.labelled import read_labelled

NUMBERS = 40


def _write(path: Path, **columns: Any) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def _table(path: Path, **more: Any) -> Path:
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=NUMBERS), "b": rng.integers(0, 9, NUMBERS)}
    return _write(path / "t.csv", **columns, **more)


def _read(path: Path, *label: str, **options: Any) -> Conversion:
    return read_source(path, Options(label=label, **options))


PRICES = [round(n * 1.7, 2) for n in range(NUMBERS)]
TAGS = [";".join(t for n, t in enumerate(("x", "y", "z")) if i >> n & 1) for i in range(NUMBERS)]
FLAGS = [i % 2 for i in range(NUMBERS)]


@pytest.mark.parametrize(("rows_of_each", "task"), [(3, "regression"), (6, "single_label")])
def test_whole_numbers_are_classes_where_each_has_some_rows(
    rows_of_each: int, task: str, tmp_path: Path
) -> None:
    path = _write(
        tmp_path / "t.csv", a=range(30 * rows_of_each), target=[*range(30)] * rows_of_each
    )
    assert _read(path, "target").labels.task == task


@pytest.mark.parametrize(
    ("more", "label", "options", "task", "names"),
    [
        ({"price": PRICES}, ["price"], {}, "regression", ["price"]),
        ({"target": PRICES}, [], {}, "regression", ["target"]),
        ({"price": PRICES, "n": PRICES}, ["price", "n"], {}, "regression", ["price", "n"]),
        ({"year": range(NUMBERS)}, ["year"], {}, "regression", ["year"]),
        ({"tags": TAGS}, ["tags"], {}, "multi_label", ["x", "y", "z"]),
        ({"p": FLAGS, "q": FLAGS}, ["p", "q"], {}, "multi_label", ["p", "q"]),
        ({"p": FLAGS}, ["p"], {"task": "regression"}, "regression", ["p"]),
        ({"p": FLAGS}, ["p"], {}, "single_label", ["0", "1"]),
        ({"grade": [i % 3 / 2 for i in range(NUMBERS)]}, ["grade"], {}, "single_label", None),
    ],
)
def test_the_target_is_guessed_and_overruled(
    more: Any, label: list[str], options: Any, task: str, names: Any, tmp_path: Path
) -> None:
    found = _read(_table(tmp_path, **more), *label, **options)
    assert found.labels.task == task
    assert names is None or found.class_names == names
    # What is predicted is no input.
    assert "a" in found.metadata["feature_names"]
    assert not set(more) & set(found.metadata["feature_names"])


def test_numbers_become_a_set_that_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices: list[Any] = [*PRICES[:-1], "?"]
    path = _table(tmp_path, price=prices, weight=PRICES)
    flags = [str(path), "--name=t", f"--data_dir={tmp_path}", "--label", "price", "weight"]
    assert main(flags) == 0
    printed = capsys.readouterr()
    said = printed.out
    # The findings, and no bar of TFDS's or its word on downloads among them.
    assert said.splitlines()[-2].startswith("left out") and "Generating" not in printed.err
    assert (
        "number price: 0 to 64.6" in said and "left out: 1 (no number in 'price, weight')" in said
    )
    data = open_data("t", tmp_path)
    assert (data.schema.task, data.schema.class_names) == ("regression", ("price", "weight"))
    found = np.concatenate([data.examples(role).subset_labels for role in data.roles()])
    np.testing.assert_array_equal(np.sort(found, 0), np.stack([PRICES[:-1]] * 2, 1))


def test_lists_of_classes_become_a_set_that_trains(tmp_path: Path) -> None:
    path = _table(tmp_path, tags=TAGS)
    assert main([str(path), "--name=t", f"--data_dir={tmp_path}", "--label", "tags"]) == 0
    data = open_data("t", tmp_path)
    assert (data.schema.task, data.schema.class_names) == ("multi_label", ("x", "y", "z"))
    assert data.schema.metadata["class_counts"] == {t: sum(t in c for c in TAGS) for t in "xyz"}
    found = np.concatenate([data.examples(role).subset_labels for role in data.roles()])
    expected = sorted([float(t in c.split(";")) for t in "xyz"] for c in TAGS)
    assert sorted(found.tolist()) == expected


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = _table(tmp_path, price=[*PRICES[:-1], "cheap"])
    with pytest.raises(
        ValueError, match="line 41, column 'price': expected a finite number.*cheap"
    ):
        _read(path, "price", task="regression")


def test_a_run_knows_where_its_own_table_says_what_is_predicted(tmp_path: Path) -> None:
    """Files that are measured later need no --label."""
    more: dict[str, Any] = {"price": PRICES, "tags": TAGS, "p": FLAGS, "q": FLAGS}
    path = _table(tmp_path, **more)
    kinds = {
        "regression": (["price"], (float(PRICES[3]),)),
        "multi_label": (["tags"], ("x", "y")),
        "flags": (["p", "q"], ("p", "q")),
        "single_label": (["p"], "1"),
    }
    for name, (label, third) in kinds.items():
        drop = [column for column in more if column not in label]
        flags = [f"--name={name}", f"--data_dir={tmp_path}", "--missing", "-"]
        assert main([str(path), *flags, "--label", *label, "--drop", *drop]) == 0
        wanted = ModelInput.of(open_data(name, tmp_path), thresholds=(0.5,) * 9)
        columns = wanted.label_columns
        assert columns is not None and columns.columns == tuple(label) and columns.missing == ("-",)
        assert LabelColumns.from_json(dataclasses.asdict(columns)) == columns
        found = read_labelled(path, wanted, None, None)
        assert found.targets["4"] == third and len(found.targets) == NUMBERS
        assert found.about["label"] == ", ".join(label)
    with pytest.raises(ValueError, match="'z' of the numbers"):
        read_labelled(path, ModelInput.of(open_data("regression", tmp_path)), None, ["z"])
