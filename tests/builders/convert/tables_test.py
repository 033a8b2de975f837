"""Tables: what is learned from the training rows, which row goes where, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

from builders.convert.__main__ import main
from builders.convert.kinds import read_source
from builders.convert.source import Conversion, Options
from records.decoding.table_columns import TableColumns
from records.sets.schema import read_schema
from tests.support.adult_table import HEADER, make_rows, write_table


@pytest.fixture(scope="module")
def adult(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `adult.csv`, and the set `adult` made of it in `data`."""
    folder = tmp_path_factory.mktemp("adult")
    rows = [row[:4] + ["id-" + str(n), row[4]] for n, row in enumerate(make_rows())]
    write_table(folder / "adult.csv", rows, [*HEADER[:4], "name", "income"])
    assert main([str(folder / "adult.csv"), "--data-dir", str(folder / "data")]) == 0
    return folder


def _columns(found: Conversion) -> dict[str, Any]:
    """The fitted columns by name."""
    return {one.name: one for one in TableColumns.from_json(found.metadata["conversion"]).columns}


def _splits(found: Conversion) -> dict[str, str]:
    return {example.name: example.split for example in found.examples}


def _read(path: Path, **options: Any) -> Conversion:
    return read_source(path, Options(**options))


def test_medians_and_vocabularies_are_those_of_the_training_rows(adult: Path) -> None:
    """Against pandas, on the rows that the set says are in train."""
    stored = tfds.load("adult", data_dir=adult / "data", split="train")
    ids = [record["id"].decode() for record in tfds.as_numpy(stored)]
    table = pd.read_csv(adult / "adult.csv", na_values="?", skipinitialspace=True)
    train = table.iloc[sorted(int(name.removeprefix("row-")) - 1 for name in ids)]
    assert 200 < len(train) < 280
    schema = read_schema(str(adult / "data" / "adult" / "1.0.0"))
    columns = {c["name"]: c for c in schema.metadata["conversion"]["columns"]}
    assert list(columns) == HEADER[:4], "a column of names is left out"
    for name in ("age", "hours per week"):
        assert columns[name]["median"] == train[name].median()
        assert columns[name]["flagged"] == train[name].isna().any()
    for name in ("workclass", "education"):
        counts = train[name].value_counts()
        assert columns[name]["values"] == sorted(counts[counts >= 5].index)
    assert columns["workclass"]["other"] and columns["workclass"]["missing"]
    assert not columns["education"]["other"] and not columns["education"]["missing"]
    assert schema.class_names == ("<=50K", ">50K")
    assert "workclass=Fed, local" in schema.feature_names


def test_vectors_are_those_that_pandas_gives(adult: Path) -> None:
    table = pd.read_csv(adult / "adult.csv", na_values="?", skipinitialspace=True)
    schema = read_schema(str(adult / "data" / "adult" / "1.0.0"))
    median = schema.metadata["conversion"]["columns"][0]["median"]
    names = schema.feature_names
    for record in tfds.as_numpy(tfds.load("adult", data_dir=adult / "data", split="test")):
        row = table.iloc[int(record["id"].decode().removeprefix("row-")) - 1]
        found = dict(zip(names, record["features"].tolist(), strict=True))
        assert found["age"] == (median if pd.isna(row["age"]) else row["age"])
        assert found["age is missing"] == pd.isna(row["age"])
        assert found["workclass is missing"] == pd.isna(row["workclass"])
        assert found["workclass: other"] == (row["workclass"] == "Without-pay")
        assert found[f"education={row['education']}"] == 1
        assert sum(v for k, v in found.items() if k.startswith("education=")) == 1


def test_what_only_test_holds_teaches_nothing(tmp_path: Path) -> None:
    """With --split: values and numbers of the other splits are not learned from."""
    rows = [[*row, "Train"] for row in make_rows(60)]
    rows += [["900", "Pirate", "HS", "1", ">50K", "testing"]] * 40 + [
        ["1", "X", "HS", "1", "no", "val"]
    ]
    path = write_table(tmp_path / "a.csv", rows, [*HEADER, "part"])
    found = _read(path, split="part", label=("income",))
    assert found.split_counts() == {"train": 60, "validation": 1, "test": 40}
    ages = [float(row[0]) for row in rows[:60] if row[0] != "?"]
    assert _columns(found)["age"].median == np.median(ages)
    assert "Pirate" not in _columns(found)["workclass"].values
    vector = dict(zip(found.metadata["feature_names"], found.make(60)["features"], strict=True))
    assert vector["age"] == 900 and vector["workclass: other"] == 1
    rows[3][-1] = "later"
    with pytest.raises(
        ValueError, match=r"line 5, column 'part': expected one of train, .*'later'"
    ):
        _read(write_table(tmp_path / "b.csv", rows, [*HEADER, "part"]), split="part")


def test_a_new_row_moves_no_other(tmp_path: Path) -> None:
    """Also one that turns a guess: the column of names becomes one of categories."""
    rows = [[*row[:4], f"n{n}", row[4]] for n, row in enumerate(make_rows(80))]
    header = [*HEADER[:4], "name", "income"]
    before = list(_splits(_read(write_table(tmp_path / "a.csv", rows, header))).values())
    new = [["30", "Private", "HS", "40", "same", "<=50K"]] * 200
    found = _read(write_table(tmp_path / "b.csv", [*new, *rows], header))
    assert "most values are different" not in " ".join(found.findings)
    splits = list(_splits(found).values())
    assert splits[200:] == before and {"train", "test"} == set(before)
    assert len(set(splits[:200])) == 1, "equal rows are in one split"


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [[*row, f"p{n % 30}"] for n, row in enumerate(make_rows(240))]
    path = write_table(tmp_path / "a.csv", rows, [*HEADER, "patient"])
    found = _read(path, group="patient", label=("income",), test_share=0.3)
    split = {example.group: example.split for example in found.examples}
    assert len(split) == 30 and all(split[e.group] == e.split for e in found.examples)
    assert 0 < found.split_counts()["test"] < 140
    assert "patient" not in _columns(found)
    # Rows without a group are groups of their own, not one.
    rows = [[*row[:-1], "p" if n % 5 else ""] for n, row in enumerate(rows)]
    found = _read(write_table(path, rows, [*HEADER, "patient"]), group="patient", label=("income",))
    in_p = {example.split for example in found.examples if example.group}
    assert len(in_p) == 1 and found.split_counts().keys() == {"train", "test"}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            ["2021-03-04", "2020-12-31 10:15"],
            r"dates, such as '2021-03-04'. Leave it out \(--drop 'x y'\)",
        ),
        (["3 Mar 2021", "Mar 4, 2021"], "dates"),
        (["1,234", "2,500.5"], "numbers in a form of their own, such as '1,234'"),
        (["12 %", "3%"], "numbers in a form of their own"),
    ],
)
def test_dates_and_formatted_numbers_are_refused_with_a_hint(
    tmp_path: Path, cells: list[str], said: str
) -> None:
    rows = [[cells[n % 2], *row] for n, row in enumerate(make_rows(40))]
    path = write_table(tmp_path / "a.csv", rows, ["x y", *HEADER])
    with pytest.raises(ValueError, match=f"convert: .*a.csv, line 2, column 'x y': .*{said}"):
        _read(path)
    assert "x y" not in _columns(_read(path, drop=("x y",)))
    assert "x y" in _columns(_read(path, categorical=("x y",)))


def test_a_slip_among_numbers_is_named(tmp_path: Path) -> None:
    rows = make_rows(60)
    rows[7][0] = "-"
    path = write_table(tmp_path / "a.csv", rows)
    with pytest.raises(ValueError, match="line 9, column 'age': expected a number.* received '-'"):
        _read(path)
    assert _columns(_read(path, missing=("-",)))["age"].flagged
    with pytest.raises(ValueError, match="line 9, column 'age': expected a finite number"):
        _read(path, numeric=("age",))


def test_every_guess_can_be_overruled(tmp_path: Path) -> None:
    rows = [[str(n % 3), *row] for n, row in enumerate(make_rows(90))]
    path = write_table(tmp_path / "a.csv", rows, ["zip", *HEADER])
    assert _columns(_read(path))["zip"].median == 1
    found = _read(path, categorical=("zip",), drop=("age",), label=("education",))
    assert _columns(found)["zip"].values == ("0", "1", "2")
    assert {"age", "education"}.isdisjoint(_columns(found)) and "income" in _columns(found)
    assert found.class_names == ["BA", "HS", "MA", "PhD é"]
    with pytest.raises(ValueError, match="--drop expected one of its columns 'zip', .* 'agee'"):
        _read(path, drop=("agee",))


def test_a_name_tells_the_class_before_the_last_column_does(tmp_path: Path) -> None:
    rows = [[str(n % 2), *row] for n, row in enumerate(make_rows(60))]
    found = _read(write_table(tmp_path / "a.csv", rows, ["Survived", *HEADER]))
    assert found.class_names == ["0", "1"] and "income" in _columns(found)
    assert found.findings[1] == "label: Survived (guessed from its name; another: --label COLUMN)"


def test_rows_without_a_class_are_counted(tmp_path: Path) -> None:
    rows = make_rows(60)
    rows[1][-1], rows[2][-1] = "", "?"
    found = _read(write_table(tmp_path / "a.csv", rows))
    assert found.dropped == {"no class in 'income'": 2} and len(found.examples) == 58
    assert "row-000002" not in _splits(found)


def test_numbers_that_float32_would_round_keep_their_digits(tmp_path: Path) -> None:
    rows = [[str(1_700_000_001 + n % 7), *row] for n, row in enumerate(make_rows(60))]
    path = write_table(tmp_path / "time.csv", rows, ["stamp", *HEADER])
    assert main([str(path), "--data_dir", str(tmp_path / "data")]) == 0
    records = tfds.as_numpy(tfds.load("time", data_dir=tmp_path / "data", split="train+test"))
    found = {float(record["features"][0]) for record in records}
    assert found == {1_700_000_001.0 + n for n in range(7)}
    assert _read(write_table(tmp_path / "b.csv", make_rows(60))).make(0)["features"].dtype == "f4"


def test_a_measured_target_is_no_class(tmp_path: Path) -> None:
    rows = [[*row, str(n * 1.5)] for n, row in enumerate(make_rows(60))]
    path = write_table(tmp_path / "a.csv", rows, [*HEADER, "price"])
    with pytest.raises(ValueError, match="Name it with --label, one of 'age', "):
        _read(path)
    with pytest.raises(ValueError, match="column 'price': expected classes, received 60 different"):
        _read(path, label=("price",), task="single_label")


def test_the_same_rows_make_the_same_set_wherever_they_lie(adult: Path, tmp_path: Path) -> None:
    (tmp_path / "adult.csv").write_bytes((adult / "adult.csv").read_bytes())
    assert main([str(tmp_path / "adult.csv"), "--data_dir", str(tmp_path / "data")]) == 0
    content = [
        json.loads((base / "data/adult/1.0.0/fingerprint.json").read_text())["content"]
        for base in (adult, tmp_path)
    ]
    assert content[0] == content[1]


def _rows(values: list[Any]) -> list[list[str]]:
    return [[str(n % 7), str(values[n % len(values)]), "ab"[n % 2]] for n in range(60)]


def _findings(tmp_path: Path, values: list[Any], **options: Any) -> str:
    path = write_table(tmp_path / "a.csv", _rows(values), ["x", "v", "class"])
    return "\n".join(_read(path, **options).findings)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        # 2 ** 60 + n is 2 ** 60 in float64.
        ([2**60 + n for n in range(60)], "v *left out: whole numbers too long to tell apart"),
        ([f"0{1000 + n * 7}" for n in range(60)], "v *number.*leading zeros.*--categorical v"),
        ([f"err{n}" if n % 5 == 0 else n / 3 for n in range(60)], "80% are numbers, .*'err0'"),
        ([f"only {n}" for n in range(20)], "v *left out: no value is in 5 training rows"),
    ],
)
def test_what_teaches_nothing_is_left_out_and_said(
    tmp_path: Path, values: list[Any], said: str
) -> None:
    assert re.search(said, _findings(tmp_path, values))


def test_whole_numbers_that_float64_tells_apart_stay(tmp_path: Path) -> None:
    assert "v  number" in _findings(tmp_path, [10**15 + n for n in range(60)])


def test_numbers_with_the_sign_of_a_typesetter_are_no_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="numbers in a form of their own, such as '\u22120'"):
        _findings(tmp_path, [f"\u2212{n}" for n in range(60)])


def test_a_column_of_splits_is_no_input_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'v': .* names of splits. Take them .--split v."):
        _findings(tmp_path, ["train", "train", "Test"])
    assert "v  category of 2" in _findings(tmp_path, ["train", "Test"], categorical=("v",))
    assert "category" not in _findings(tmp_path, ["train", "Test"], split="v")
    assert "category of 2" in _findings(tmp_path, ["dev", "test"])


def test_a_missing_class_is_none_however_it_is_spelled(tmp_path: Path) -> None:
    classes = ["a", "b", "nan", "NULL", "NA", "None"]
    rows = [[str(n), classes[n % 6]] for n in range(60)]
    found = _read(write_table(tmp_path / "a.csv", rows, ["x", "class"]))
    assert found.class_names == ["None", "a", "b"]
    assert found.dropped == {"no class in 'class'": 30}


def test_a_column_has_one_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="received 'class' in --label and --group"):
        _findings(tmp_path, [1, 2], label=("class",), group="class")
    with pytest.raises(ValueError, match="received 'v' in --numeric and --categorical"):
        _findings(tmp_path, [1, 2], numeric=("v",), categorical=("v",))


def test_groups_that_straddle_and_classes_written_twice_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        [str(n), f"p{n % 10}", "train" if n % 3 else "test", ("Yes", "yes", "0", "0.0")[n % 4]]
        for n in range(60)
    ]
    path = write_table(tmp_path / "a.csv", rows, ["x", "g", "s", "class"])
    assert main([str(path), "--split", "s", "--group", "g", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "warning: 10 of 10 groups are in several splits" in said
    assert "taken for different classes: 'Yes', 'yes', '0', '0.0'" in said
