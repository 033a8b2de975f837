"""What was named in place of a prepared set is said, and what to type."""

import json
from pathlib import Path

import pytest

from records.sets.find import find_directory
from records.verify.__main__ import find_sets


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data folder with `a/1.0.0` and `b/small/2.0.0`, beside a run folder."""
    for name in ("data/a/1.0.0", "data/b/small/2.0.0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dataset_info.json").touch()
    (tmp_path / "run").mkdir()
    stored = {"data_fingerprint": "", "data_directory": str(tmp_path / "data" / "a" / "1.0.0")}
    (tmp_path / "run" / "config.json").write_text(json.dumps(stored))
    return tmp_path


@pytest.mark.parametrize(
    ("dataset", "data_dir", "said"),
    [
        ("{}/data/a", None, "which is a folder of prepared sets: name {}/data/a/1.0.0$"),
        ("{}/data", None, "name {}/data/a/1.0.0 or {}/data/b/small/2.0.0$"),
        ("{}/run", None, "which is a run folder: name its data, {}/data/a/1.0.0$"),
        ("{}/data/a/1.0.0/dataset_info.json", None, "is a file. Make a set of it: python"),
        ("a", "{}/data/a/1.0.0/dataset_info.json", "--data-dir expected .*which is a file$"),
        ("a", "{}/data/a", "--data-dir expected .*prepared sets: name {}/data/a/1.0.0$"),
        ("a", "{}/data/a/1.0.0", "--data-dir expected .*name {}/data/a/1.0.0$"),
        ("a/9.0.0", "{}/data", "prepared there: a. Prepare it with: tfds build a --data_dir {}"),
        ("c", "{}/data", "no prepared set 'c' in {}/data; prepared there: a, b/small. Prepare"),
        ("../data/a", "{}/data", "or the path of a prepared set, received '../data/a'$"),
        ("", "{}/data", "or the path of a prepared set, received ''$"),
    ],
)
def test_a_place_that_is_no_set(dataset: str, data_dir: str | None, said: str, place: Path) -> None:
    fill = [None if x is None else x.replace("{}", str(place)) for x in (dataset, data_dir, said)]
    assert fill[0] is not None
    with pytest.raises((ValueError, FileNotFoundError), match=fill[2]):
        find_directory(fill[0], fill[1])


def test_the_name_that_is_said_is_found(place: Path) -> None:
    assert find_directory(f"{place}/data/a/1.0.0") == f"{place}/data/a/1.0.0"
    assert find_directory("b", f"{place}/data") == f"{place}/data/b/small/2.0.0"


def test_what_cannot_be_verified(place: Path) -> None:
    said = {
        "run": f"received a run folder: name its data, {place}/data/a/1.0.0$",
        "run/config.json": "received a file$",
        "nowhere": "received no such folder. Prepare one with: tfds build",
    }
    for name, expected in said.items():
        with pytest.raises(FileNotFoundError, match=expected):
            find_sets(str(place / name))
