"""Cuts that are kept: the ones that are made, by seed and fold, and made again where damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from records.decoding.input_config import InputConfig
from records.loading import cut_file
from records.opened import OpenedSet, open_set
from records.ordering import splits
from records.roles import Data, Fold
from records.sets.find import find_directory


@pytest.fixture
def opened(synthetic_data_dir: Path, tmp_path: Path) -> OpenedSet:
    """A copy of a set without a split validation."""
    source = find_directory("fetal_health/synthetic", str(synthetic_data_dir))
    return open_set(str(shutil.copytree(source, tmp_path / "1.0.0")))


def _parts(data: Data) -> list[list[int]]:
    return [data.subset(role)[1][:].tolist() for role in ("train", "validation")]


def test_a_kept_cut_is_the_one_that_is_made(
    opened: OpenedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = [(0, None), (1, None), (0, Fold(0, 4)), (0, Fold(3, 4)), (0, Fold(3, 4, grouped=False))]

    def cut() -> list[list[list[int]]]:
        return [_parts(Data(opened, InputConfig(), seed, fold)) for seed, fold in cuts]

    made = cut()
    folder = Path(opened.schema.directory) / "decoded"
    assert not folder.exists(), "small splits leave no file"
    monkeypatch.setattr(cut_file, "KEPT_RECORDS", 1)
    assert cut() == made and len(list(folder.glob("train-cut-*.npz"))) == len(cuts)
    with monkeypatch.context() as context:
        context.delattr(splits, "cut_validation")
        context.delattr(splits, "assign_folds")
        assert cut() == made, "read, not made"
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    assert cut() == made


def test_a_cut_of_another_set_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "decoded" / "train-cut-0.npz"
    ten = np.arange(9), np.array([9])
    assert cut_file.keep_cut(path, 10, lambda: ten)[0].tolist() == ten[0].tolist()
    eleven = np.arange(10), np.array([10])
    found = cut_file.keep_cut(path, 11, lambda: eleven)
    assert [part.tolist() for part in found] == [list(range(10)), [10]]
    # Mapped: the arrays are of the file that was put in place.
    assert not found[0].flags.owndata and not found[0].flags.writeable


def test_a_folder_that_cannot_be_written_costs_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "decoded").write_text("a file")
    cut = np.arange(9), np.array([9])
    assert cut_file.keep_cut(tmp_path / "decoded" / "a.npz", 10, lambda: cut) is cut
