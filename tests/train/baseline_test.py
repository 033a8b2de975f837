"""The scikit-learn baselines beat the largest class on the synthetic sets."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from records import InputConfig, open_data
from train.baseline import main, make_baselines
from train.measures.copies import find_new


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_baselines_learn_something(name: str, synthetic_data_dir: Path, capsys: Any) -> None:
    dataset = f"{name}/synthetic"
    assert main(["--dataset", dataset, "--data-dir", str(synthetic_data_dir)]) == 0
    printed = capsys.readouterr().out
    labels = open_data(dataset, str(synthetic_data_dir)).examples("test").subset_labels
    largest = np.bincount(labels).max() / len(labels)
    found = [float(x) for x in re.findall(r"test +accuracy ([0-9.]+)", printed)]
    assert found and min(found) > largest + 0.03


def test_new_pictures_apart(synthetic_data_dir: Path, tmp_path: Path) -> None:
    """The pixels' model on the new ones, fitted by hand."""
    name, data_dir, output = "brain_tumor_mri/synthetic", str(synthetic_data_dir), tmp_path / "x"
    arguments = [f"--dataset={name}", f"--data-dir={data_dir}", "--image-size=32"]
    assert main([*arguments, f"--new-to={name}", f"--output={output}"]) == 0
    systems = json.loads(output.read_text())["systems"]
    assert len(systems) == 2 and all("test-new" in roles for roles in systems.values())
    data = open_data(name, data_dir, InputConfig(image_size=32))
    train, test = data.examples("train"), data.examples("test")
    new = test.numbers[find_new(test, name, data_dir)]
    pixels = "logistic regression, pixels"
    model = make_baselines("image", 0)[pixels]
    model.fit(np.asarray(train.inputs)[train.numbers], train.subset_labels)
    expected = (model.predict(np.asarray(test.inputs)[new]) == test.labels[new]).mean()
    assert 0 < len(new) < test.num_examples
    assert systems[pixels]["test-new"]["accuracy"] == pytest.approx(expected)
