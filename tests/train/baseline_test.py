"""The scikit-learn baselines beat the largest class on the synthetic sets."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy.special import softmax

from builders.brain_tumor_mri import brain_tumor_mri_dataset_builder
from records import InputConfig, open_data
from tests.support.tiny_models import take_tiny_backbone
from train.baseline import main, make_baselines
from train.run import main as train


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_baselines_learn_something(
    name: str, synthetic_data_dir: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_tiny_backbone(monkeypatch)
    dataset = f"{name}/synthetic"
    size = ["--image-size=32"] if name == "brain_tumor_mri" else []
    assert main(["--dataset", dataset, "--data-dir", str(synthetic_data_dir), *size]) == 0
    printed = capsys.readouterr().out
    labels = open_data(dataset, str(synthetic_data_dir)).examples("test").subset_labels
    largest = np.bincount(labels).max() / len(labels)
    found = [float(x) for x in re.findall(r"test +accuracy ([0-9.]+)", printed)]
    assert found and min(found) > largest + 0.03


def test_new_pictures_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pixels' model on the new ones, fitted by hand."""
    take_tiny_backbone(monkeypatch)
    source = Path(brain_tumor_mri_dataset_builder.__file__).with_name("dummy_data")
    builder = brain_tumor_mri_dataset_builder.Builder(data_dir=tmp_path, config="deduplicated")
    request = tfds.download.DownloadConfig(manual_dir=source)
    builder.download_and_prepare(download_config=request)
    name, data_dir, output = "brain_tumor_mri/deduplicated", str(tmp_path), tmp_path / "x"
    arguments = [f"--dataset={name}", f"--data-dir={data_dir}", "--image-size=32"]
    assert main([*arguments, f"--output={output}"]) == 0
    systems = json.loads(output.read_text())["systems"]
    assert len(systems) == 2 and all("test_new" in roles for roles in systems.values())
    data = open_data(name, data_dir, InputConfig(image_size=32))
    train, test = data.examples("train"), data.examples("test")
    new = data.examples("test_new")
    pixels = "logistic regression, pixels"
    model = make_baselines("image", 0)[pixels]
    model.fit(np.asarray(train.inputs)[train.numbers], train.subset_labels)
    expected = (model.predict(np.asarray(new.inputs)) == new.split_labels).mean()
    assert 0 < new.num_examples < test.num_examples
    assert systems[pixels]["test_new"]["accuracy"] == pytest.approx(expected)


def test_the_mean_with_a_run_is_that_of_both_probabilities(
    synthetic_data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir, run, output = str(synthetic_data_dir), str(tmp_path / "run"), tmp_path / "x.json"
    given = ["--dataset=song_lyrics/synthetic", f"--data-dir={data_dir}"]
    flags = ["--model=gru", "--epochs=2", "--units=4", "--embedding-dim=16", f"--run-dir={run}"]
    assert train([*given, *flags, "--strategy=one_device", "--seed=3"]) == 0
    assert main([*given, "--mean-with", run, f"--output={output}"]) == 0
    written = json.loads(output.read_text())
    command = f"python -m train.baseline --dataset song_lyrics/synthetic --mean-with {run}"
    assert written["command"] == command
    systems = written["systems"]
    tfidf = "TF-IDF, logistic regression"
    assert list(systems) == [tfidf, f"mean of gru, seed 3, and {tfidf}"]

    data = open_data("song_lyrics/synthetic", data_dir)
    fit, model = data.examples("train"), make_baselines("text", 0)[tfidf]
    model.fit(np.asarray(fit.inputs)[fit.numbers], fit.subset_labels)
    network = keras.models.load_model(tmp_path / "run" / "model.keras")
    for role in ("train", "validation", "test"):
        part = data.examples(role)
        rows = np.asarray(part.inputs)[part.numbers]
        logits = network.predict(rows, verbose=0).astype(np.float64)
        said = softmax(logits, axis=1) + model.predict_proba(rows)
        expected = (said.argmax(1) == part.subset_labels).mean()
        assert systems[f"mean of gru, seed 3, and {tfidf}"][role]["accuracy"] == expected
    capsys.readouterr()
    assert main([*given, "--mean-with", run, run]) == 1
    assert "received two alike: gru, seed 3, gru, seed 3" in capsys.readouterr().err
    assert main([*given, "--mean-with", run, "--classes", *reversed(data.schema.class_names)]) == 1
    assert "same --classes" in capsys.readouterr().err
    other = ["--dataset=fetal_health/synthetic", f"--data-dir={data_dir}", "--mean-with", run]
    assert main(other) == 1
    assert "a run on song_lyrics/synthetic" in capsys.readouterr().err
