"""Texts: a column of a table or JSON lines, or a folder of files for each class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds

from builders.convert.__main__ import main
from builders.convert.kinds import read_source
from builders.convert.source import Conversion, Options
from records.sets.schema import TEXT, read_schema
from tests.support.adult_table import write_table

_WORDS = ["no good, sorry", "Très bien!\nMerci", 'so "so"', "the best of all these", "rubbish"]


def _write_reviews(path: Path, count: int = 60) -> list[dict[str, Any]]:
    rows = [
        {
            "stars": 1 + n % 3,
            "review": f"number {n} is {_WORDS[n % 5]} {n * n}",
            "when": "2020-01-01",
        }
        for n in range(count)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return rows


def _read(path: Path, **options: Any) -> Conversion:
    return read_source(path, Options(**options))


def test_json_lines_become_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dates beside a text are no input, and refuse nothing."""
    rows = _write_reviews(tmp_path / "reviews.jsonl")
    flags = ["--data-dir", str(tmp_path / "data"), "--label", "stars", "--text", "review"]
    assert main([str(tmp_path / "reviews.jsonl"), *flags]) == 0
    assert "60 texts in column 'review', JSON lines" in capsys.readouterr().out
    schema = read_schema(str(tmp_path / "data/reviews/1.0.0"))
    assert schema.modality == TEXT and schema.class_names == ("1", "2", "3")
    loaded = tfds.load("reviews", data_dir=tmp_path / "data", split="train+test")
    found = {one["id"].decode(): one for one in tfds.as_numpy(loaded)}
    for n, row in enumerate(rows, 1):
        record = found[f"row-{n:06d}"]
        assert record["text"].decode() == row["review"] and record["label"] == row["stars"] - 1


def test_a_file_of_texts_and_classes_is_known_by_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f'"{_WORDS[n % 5]} and {n} more of it",{"yes" if n % 3 else "no"}' for n in range(50)]
    path.write_text("\n".join(["said,agrees", *(line.replace('so "so"', "so") for line in lines)]))
    found = _read(path)
    assert found.kind == "texts" and found.metadata["conversion"]["column"] == "said"
    assert found.class_names == ["no", "yes"]
    path.write_text(path.read_text() + "\n,yes\n")
    assert _read(path).dropped == {"no text in 'said'": 1}
    assert _read(path, kind="table", categorical=("said",)).kind == "table"


def test_the_class_is_the_only_column_of_few_values(tmp_path: Path) -> None:
    rows = [[f"text {n} of a few words", "yes" if n % 3 else "no", f"{n}.5"] for n in range(50)]
    path = write_table(tmp_path / "a.csv", rows, ["said", "agrees", "when"])
    (said,) = [line for line in _read(path).findings if line.startswith("label")]
    assert said == "label: agrees (guessed: the only one of few values; another: --label COLUMN)"


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for n in range(30):
        folder = tmp_path / ("good, really" if n % 2 else "bad")
        folder.mkdir(exist_ok=True)
        (folder / f"{n} é.txt").write_bytes(f"\ufeffline {n}\r\nline {_WORDS[n % 5]}".encode())
    (tmp_path / "bad" / "empty.txt").write_text(" \n")
    found = _read(tmp_path)
    assert found.kind == "texts" and found.dropped == {"empty": 1}
    assert found.class_names == ["bad", "good, really"]
    texts = {example.name: found.make(n)["text"] for n, example in enumerate(found.examples)}
    assert texts["bad/2 é.txt"] == 'line 2\nline so "so"'
    before = {example.name: example.split for example in found.examples}
    assert set(before.values()) == {"train", "test"}
    (tmp_path / "bad" / "00.txt").write_text("a new one")
    after = {example.name: example.split for example in _read(tmp_path).examples}
    assert {name: after[name] for name in before} == before
    (tmp_path / "bad" / "latin.txt").write_bytes("für".encode("latin1"))
    with pytest.raises(ValueError, match="bad/latin.txt: expected text in UTF-8"):
        _read(tmp_path)
    (tmp_path / "good, really" / "copy.txt").write_text("a new one")
    found = _read(tmp_path, on_corrupt="skip")
    assert found.dropped == {"empty": 1, "no text in UTF-8": 1}
    (said,) = found.findings[1:]
    assert said.startswith("warning: 1 texts also stand in another class, such as 'bad/00.txt', ")
    (tmp_path / "bad" / "latin.txt").rename(tmp_path / "bad" / "latin.doc")
    with pytest.raises(ValueError, match=r"expected files \*.txt, received 'bad/latin.doc'"):
        _read(tmp_path)
