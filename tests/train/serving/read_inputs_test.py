"""Tables and texts to predict, as people have them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from train.folders.model_input import ModelInput
from train.serving.read_inputs import read_raw

WANTED = ModelInput("a/1.0.0", "tabular", ("no", "yes"), ("age", "blood pressure", "pulse"))
TEXTS = ModelInput("a/1.0.0", "text", ("no", "yes"), sequence_length=9)


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
        (
            "sep=;\nage;blood pressure;pulse\n1;2;3\n1;2;1,5\n",
            r"line 4, column 'pulse': expected .* received '1,5' \(write decimals with a point",
        ),
        (",".join(map(str, range(99))) + "\n", "'7' and 91 more"),
    ],
)
def test_what_differs_is_named(text: str, expected: str, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(text)
    with pytest.raises(ValueError, match=expected):
        list(read_raw(source, WANTED, None))


@pytest.mark.parametrize(
    ("name", "column", "content"),
    [
        ("a.csv", None, b'text\nred\n\n"sea, "\n'),  # one column: an empty line is an empty text
        ("a.csv", None, b'text,n\n\nred,1\n,2\n\n"sea, ",3\n'),
        ("a.tsv", None, b"n\ttext\n1\tred\n2\t\n3\tsea, \n"),
        ("a.TSV", "text", b'text\nred\n\n"sea, "\n'),
        ("a.txt", "cafe\u0301", "n;café\n1;red\n2;\n3;sea, \n".encode()),
        ("a.txt", "text", b'\xef\xbb\xbftext\rred\r\r"sea, "\r'),
    ],
)
def test_rows_are_numbered_as_in_the_file(
    name: str, column: str | None, content: bytes, tmp_path: Path
) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    assert list(read_raw(source, TEXTS, column)) == [("1", "red"), ("2", ""), ("3", "sea, ")]


def test_a_carriage_return_parts_no_text(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes(b"red\rsea\r\nblue\n")
    assert list(read_raw(source, TEXTS, None)) == [("1", "red\rsea\r\n"), ("2", "blue\n")]
    source.write_bytes(b"red\rsea\r")  # as old Macs ended lines
    assert [text for _, text in read_raw(source, TEXTS, None)] == ["red\r", "sea\r"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'text,n\na,1\n\n"b\nc"x,2\n', "lines 4 to 5: expected a row .* received ',' expected"),
        (b'text,n\n"a",1\n"b,2\nc,3\nd,4\n', "lines 3 to 5: .*unexpected end of data"),
        (b"text,n\na,1\nb\rc,2\n", "line 3: .*a carriage return within a field that is not quoted"),
        (b"\x1f\x8b\x08\x00\xff", "line 1: .* received a packed file. Unpack it"),
        (b"text,n\n" + b"a,1\n" * 5000 + b"\xff,2\n", "line 5002: expected text in UTF-8"),
    ],
)
def test_a_broken_row_is_named_by_its_line(content: bytes, expected: str, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        list(read_raw(source, TEXTS, None))


def test_a_pipe_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"age;pulse;blood pressure\n1;3;2\n")
    os.close(writing)
    ((name, row),) = read_raw(Path(f"/dev/fd/{reading}"), WANTED, None)
    os.close(reading)
    assert name == "1" and np.array_equal(row, [1, 2, 3])  # type: ignore[arg-type]


def test_a_column_is_used_or_refused(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("age,blood pressure,pulse\n1,2,3\n")
    with pytest.raises(ValueError, match="--column note is for texts; .* Leave --column out"):
        read_raw(source, WANTED, "note")
    with pytest.raises(ValueError, match=r"the column 'note' once \(--column names another\)"):
        list(read_raw(source, TEXTS, "note"))


def test_lines_of_c_libraries_are_kept() -> None:
    source = (
        "import os; from records.system.quiet import native_lines\n"
        "with native_lines() as said: os.write(2, b'Corrupt JPEG data\\nmore\\n')\n"
        "print(said)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['Corrupt JPEG data', 'more']\n", "")
