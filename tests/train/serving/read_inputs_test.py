"""Tables to predict, as people have them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from train.folders.model_input import ModelInput
from train.serving.read_inputs import read_raw

WANTED = ModelInput("a/1.0.0", "tabular", ("no", "yes"), ("age", "blood pressure", "pulse"))


@pytest.mark.parametrize(
    "text",
    [
        "age,blood pressure,pulse\n1,2,3\n4,5,6\n",
        "age, blood pressure , pulse\n1, 2, 3\n4,5,6\n",
        "pulse;name;age;blood pressure\n3;x,y;1;2\n6;;4;5\n",
        "sep=;\r\nage;blood pressure;pulse\r\n1;2;3\r\n4;5;6\r\n",
        "\ufeffsep=,\nage,blood pressure,pulse\n1,2,3\n4,5,6\n",
        "age\tblood pressure\tpulse\n1\t2\t3\n\n4\t5\t6\n",
        '"age","blood pressure","pulse","a;b;c"\n1,2,3,x\n4,5,6,y\n',
    ],
)
def test_separators_and_spaces_of_a_header(text: str, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(text, newline="")
    found = list(read_raw(source, WANTED, None))
    assert [name for name, _ in found] == ["1", "2"]
    rows = np.array([row for _, row in found], np.float32)
    assert np.array_equal(rows, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age,pulse,age,x\n", "missing: 'blood pressure'; more than once: 'age'; other names: 'x'"),
        ("a;b;c\n", "missing: 'age', 'blood pressure', 'pulse'; other names: 'a;b;c'"),
        ("sep=;\nage;blood pressure;pulse\n1;2;3\n1;2;1,5\n", "line 4, column 'pulse': expected"),
        (",".join(map(str, range(99))) + "\n", "'7' and 91 more"),
    ],
)
def test_what_differs_is_named(text: str, expected: str, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(text)
    with pytest.raises(ValueError, match=expected):
        list(read_raw(source, WANTED, None))


def test_lines_of_c_libraries_are_kept() -> None:
    source = (
        "import os; from records.system.quiet import native_lines\n"
        "with native_lines() as said: os.write(2, b'Corrupt JPEG data\\nmore\\n')\n"
        "print(said)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['Corrupt JPEG data', 'more']\n", "")


def test_a_column_is_named_for_a_csv_of_texts_alone(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("a,b\n1,2\n")
    expected = "--column b expected with a CSV of texts, received .*tabular.*Leave the flag out"
    with pytest.raises(ValueError, match=expected):
        read_raw(source, WANTED, "b")
