"""The scikit-learn baselines beat the largest class on the synthetic sets."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from records import open_data
from train.baseline import main


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_baselines_learn_something(name: str, synthetic_data_dir: Path, capsys: Any) -> None:
    dataset = f"{name}/synthetic"
    assert main(["--dataset", dataset, "--data-dir", str(synthetic_data_dir)]) == 0
    printed = capsys.readouterr().out
    labels = open_data(dataset, str(synthetic_data_dir)).examples("test").subset_labels
    largest = np.bincount(labels).max() / len(labels)
    found = [float(x) for x in re.findall(r"test +accuracy ([0-9.]+)", printed)]
    assert found and min(found) > largest + 0.03
