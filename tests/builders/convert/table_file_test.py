"""The same table from every way of writing it, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from builders.convert.table_file import read_table
from tests.support.adult_table import HEADER, make_rows, write_table


@pytest.mark.parametrize(
    ("name", "separator"),
    [("a.csv", ","), ("b.csv", ";"), ("c.csv", "|"), ("d.tsv", "\t"), ("e.txt", "\t")],
)
def test_separators_are_found(tmp_path: Path, name: str, separator: str) -> None:
    rows = make_rows(30)
    found = read_table(write_table(tmp_path / name, rows, separator=separator))
    assert list(found.columns) == HEADER
    assert [list(row) for row in zip(*found.columns.values(), strict=True)] == rows
    assert found.place(0) == f"{tmp_path / name}, line 2"


def test_a_decimal_comma_parts_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffname;price;class\nx;1,5;a\ny;2,5;b\n", encoding="utf-8")
    assert read_table(path).columns == {
        "name": ["x", "y"],
        "price": ["1,5", "2,5"],
        "class": ["a", "b"],
    }


def test_a_separator_that_is_not_certain_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b|c\n1;2|3\n")
    with pytest.raises(
        ValueError, match="parted by any of ';', '|'. Say by which: --separator ';'"
    ):
        read_table(path)
    assert read_table(path, "|").columns == {"a;b": ["1;2"], "c": ["3"]}


def test_json_lines_and_parquet_hold_what_the_csv_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    objects = [{"n": 1, "t": 'a "b",\nc', "f": 0.5}, {"n": None, "f": 1e-7, "t": "é"}]
    path.write_text("\n\n".join(json.dumps(one) for one in objects), encoding="utf-8")
    found = read_table(path)
    assert found.columns == {"n": ["1", ""], "t": ['a "b",\nc', "é"], "f": ["0.5", "1e-07"]}
    assert found.lines == [1, 3]
    pd.DataFrame(objects).to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").columns == found.columns


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "line 1: expected a header"),
        ("a.csv", "a,b\n", "expected rows, received none"),
        ("a.csv", "39,Private,13\n50,Self,13\n", "line 1: expected a header, a name for each"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "line 3: expected 2 fields as in the header, received 3"),
        ("a.csv", "a,b,a\n1,2,3\n", "line 1: expected different names, received 'a'"),
        ("a.csv", 'a,b\n1,"2\n', "line 2: expected a row of a CSV file"),
        ("a.csv", "a,b\n1,\x80\n", "expected text in UTF-8"),
        ("a.csv", "\x1f\x8b\x08\0\xff", "line 1: .* received a packed file. Unpack it; save"),
        ("a.csv", "PK\x03\x04\x14\0\x80", "line 1: .* received a packed file. Unpack it; save"),
        ("a.csv.gz", "\x1f\x8b", "received .gz. Save a spreadsheet as CSV; unpack a packed file"),
        ("a.csv", "My report\nx,y\n1,2\n", "line 2: .* received 2. Where line 1 is a title, take"),
        ("a.xlsx", "PK", "expected one of .csv, .*received .xlsx. Save a spreadsheet as CSV"),
        ("a.jsonl", '{"a": 1}\n[2]\n', "line 2: expected a JSON object"),
        ("a.jsonl", '{"a": [1]}\n', "line 1, 'a': expected a text or a number"),
        ("a.jsonl", '{"a": "\\ud800"}\n', "line 1, 'a': expected Unicode text"),
        ("a.parquet", "PAR1", "expected a Parquet file"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text, encoding="latin1")
    with pytest.raises(ValueError, match=f"convert: .*{name}.*{said}"):
        read_table(tmp_path / name)


def test_objects_that_a_table_cannot_hold_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"x": 1, "m": {"a": 1}, "class": "a"}\n')
    with pytest.raises(ValueError, match="line 1, 'm': .* leave the column out: --drop m"):
        read_table(path)
    assert read_table(path, drop=("m",)).columns == {"x": ["1"], "m": [""], "class": ["a"]}
    for text, said in (
        ('{"x": 1, " x": 2}', "the name 'x' more than once"),
        ('{"\\ud800": 1}', "expected a JSON object in each line"),
        ('[{"x": 1}]', "A list of objects becomes lines by: jq"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_table(path)
    for frame, said in (
        (pd.DataFrame({"x": [1], "x ": [2]}), r"different names, received \['x'\]"),
        (pd.DataFrame({"x": [[1, 2]]}), "line 1, 'x': expected a text or a number"),
    ):
        frame.to_parquet(tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=said):
            read_table(tmp_path / "a.parquet")


def test_nameless_columns_of_a_spreadsheet_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,class,,\n1,a,,\n2,b,,\n")
    assert read_table(path).columns == {"x": ["1", "2"], "class": ["a", "b"]}
    path.write_text("My report,,\nx,k,class\n1,2,a\n")
    with pytest.raises(ValueError, match="line 1: .* none for the columns 2, 3. .* a title"):
        read_table(path)
