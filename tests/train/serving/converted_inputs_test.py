"""A run on a converted set takes the files that were converted, as they came."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from builders.convert.__main__ import main as convert
from records.decoding import decode_ops
from records.decoding.decode import decode_pictures
from records.decoding.input_config import InputConfig
from records.opened import open_set
from records.roles import open_data
from tests.support.adult_table import HEADER, make_rows, write_table
from train import export
from train.folders.finished_run import open_run
from train.folders.model_input import ModelInput
from train.predict import main as predict
from train.run import main as train
from train.serving.read_inputs import Unusable, make_preparation, read_raw


@pytest.fixture(scope="module")
def adult(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: `adult.csv`, the set made of it in `data`, and a run on that in `run`."""
    folder = tmp_path_factory.mktemp("adult")
    write_table(folder / "adult.csv", make_rows(820), separator=";")
    # Few enough to be written in this process: TensorFlow has run in it, and it is not forked.
    data = ["--data_dir", str(folder / "data"), "--test_share=0.4"]
    assert convert([str(folder / "adult.csv"), *data]) == 0
    flags = ["--dataset=adult", f"--data-dir={folder / 'data'}", f"--run-dir={folder / 'run'}"]
    flags += ["--model=mlp", "--epochs=12", "--no-xla", "--strategy=one_device", "--evaluate-test"]
    assert train(flags) == 0
    return folder


def _input(data_dir: Path, name: str) -> ModelInput:
    return ModelInput.of(open_data(name, data_dir=str(data_dir)))


def _stored(data_dir: Path, name: str, split: str = "train+test") -> dict[str, dict]:
    """The records of a set by the number of their row."""
    records = tfds.as_numpy(tfds.load(name, data_dir=data_dir, split=split))
    return {str(int(one["id"].decode().removeprefix("row-"))): one for one in records}


def test_rows_become_the_vectors_that_were_stored(adult: Path) -> None:
    stored = _stored(adult / "data", "adult")
    found = dict(read_raw(adult / "adult.csv", open_run(adult / "run").input, None))
    assert found.keys() == stored.keys()
    for number, record in stored.items():
        np.testing.assert_array_equal(found[number], record["features"])


def test_values_that_train_has_not_seen_are_other_and_other_columns_do_not_count(
    adult: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = open_run(adult / "run").input
    path = write_table(tmp_path / "new.csv", [["x", "Pirate", "50", "MA", "n/a"]], [
        "note", "workclass", "age", "education", "hours per week"
    ])  # fmt: skip
    ((_, row),) = read_raw(path, wanted, None)
    assert isinstance(row, np.ndarray)
    vector = dict(zip(wanted.feature_names, row, strict=True))
    on = {name for name, value in vector.items() if value == 1}
    assert on == {"workclass: other", "education=MA", "hours per week is missing"}
    assert vector["age"] == 50
    said = capsys.readouterr().out
    assert "column 'workclass': 1 of 1 rows hold a value that too few training rows held" in said
    assert "such as 'Pirate'" in said and "education" not in said
    frame = pd.DataFrame({"age": [50], "hours per week": [None], "education": ["MA"]})
    frame.assign(workclass="Pirate").to_parquet(tmp_path / "new.parquet")
    ((_, same),) = read_raw(tmp_path / "new.parquet", wanted, None)
    np.testing.assert_array_equal(same, row)
    write_table(path, [["old", "Private", "MA", "1", ""]])
    with pytest.raises(ValueError, match="predict: .*line 2, column 'age': .*'old'"):
        list(read_raw(path, wanted, None))
    write_table(path, [["1", "2"]], HEADER[:2])
    with pytest.raises(ValueError, match="missing: 'education', 'hours per week'"):
        list(read_raw(path, wanted, None))


def test_predictions_of_the_raw_file_are_as_good_as_scikit_learns(adult: Path) -> None:
    """Also as good as the run's own on test, and exported they are the same."""
    run, table = adult / "run", pd.read_csv(adult / "adult.csv", sep=";", na_values=[" ?", "?"])
    assert predict([str(run), str(adult / "adult.csv"), f"--output={adult / 'out.csv'}"]) == 0
    with open(adult / "out.csv", newline="") as file:
        predicted = {row["input"]: row["predicted"] for row in csv.DictReader(file)}
    test = [int(number) - 1 for number in _stored(adult / "data", "adult", "test")]
    ours = np.mean([predicted[str(n + 1)] == table["income"][n] for n in test])
    stored = json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
    assert ours == pytest.approx(stored)
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), HEADER[::3]),
            (OneHotEncoder(handle_unknown="ignore"), HEADER[1:3]),
        ),
        LogisticRegression(),
    )
    train_rows = table.drop(index=test)
    model.fit(train_rows, train_rows["income"])
    theirs = model.score(table.loc[test], table.loc[test, "income"])
    print(f"test accuracy: ours {ours:.3f}, logistic regression {theirs:.3f}")
    assert ours > theirs - 0.04
    export.export(open_run(run), adult / "saved")
    checked = export.check(open_run(run), adult / "saved", adult / "adult.csv", None)
    assert checked["items"] == 820 and checked["same_label"] == 1


def test_pictures_are_scaled_as_the_stored_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(8):
        folder = tmp_path / "photos" / "ab"[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (90, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.{['png', 'jpg', 'webp', 'bmp'][n // 2]}")
    flags = ["--data_dir", str(tmp_path / "data"), "--max_side", "40"]
    assert convert([str(tmp_path / "photos"), *flags]) == 0
    found = dict(read_raw(tmp_path / "photos", _input(tmp_path / "data", "photos"), None))
    builder = tfds.builder("photos", data_dir=tmp_path / "data")
    decoders = {"image": tfds.decode.SkipDecoding()}
    for split in builder.info.splits:
        for record in tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders)):
            assert found.pop(record["filename"].decode()) == record["image"]
    assert found == {}


def test_every_orientation_is_upright_in_training_prediction_and_export(tmp_path: Path) -> None:
    """One picture, turned in its pixels and back by its tag: the same wherever it is read."""
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 44, 3), np.uint8))
    # What undoes the turn that a viewer makes by each tag, as Pillow names them.
    undo = [None, 0, 3, 1, 5, 2, 6, 4]
    for n in range(16):
        folder = tmp_path / "photos" / "ab"[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        exif, how = Image.Exif(), undo[n // 2]
        exif[0x0112] = n // 2 + 1
        turned = upright if how is None else upright.transpose(Image.Transpose(how))
        turned.save(folder / f"{n}.{['png', 'webp'][n % 2]}", exif=exif, lossless=True)
    flags = ["--data_dir", str(tmp_path / "data"), "--test_share", "0.4"]
    assert convert([str(tmp_path / "photos"), *flags]) == 0
    data = open_data("photos", str(tmp_path / "data"), InputConfig(image_size=24))
    expected = decode_pictures([(tmp_path / "photos" / "a" / "0.png").read_bytes()], 24, 3)[0]
    for role in ("train", "test"):
        trained = data.examples(role).inputs
        assert trained is not None and (trained == expected).all()
    wanted = ModelInput.of(data)
    prepare = make_preparation(wanted)
    items = dict(read_raw(tmp_path / "photos", wanted, None))
    assert len(items) == 16
    for raw in items.values():
        np.testing.assert_array_equal(prepare(raw), expected)
    exported = tf.function(lambda files: decode_ops.decode_pictures(files, 24, 3))
    found, usable = exported(tf.constant(list(items.values())))
    assert usable.numpy().all() and (found.numpy() == expected).all()


def test_texts_are_read_from_the_column_that_was_converted(tmp_path: Path) -> None:
    rows = [{"said": f"text {n} of a few words", "label": n % 2} for n in range(40)]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert convert([str(path), "--data_dir", str(tmp_path / "data")]) == 0
    wanted = _input(tmp_path / "data", "texts")
    found = dict(read_raw(path, wanted, None))
    assert found == {str(n): row["said"] for n, row in enumerate(rows, 1)}
    pd.DataFrame(rows).to_csv(tmp_path / "texts.csv", index=False)
    assert dict(read_raw(tmp_path / "texts.csv", wanted, None)) == found
    with pytest.raises(ValueError, match="texts.jsonl: expected objects with 'text'"):
        list(read_raw(path, wanted, "text"))


def test_a_folder_of_texts_is_predicted_file_by_file(tmp_path: Path) -> None:
    for n in range(6):
        folder = tmp_path / "texts" / "ab"[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.txt").write_bytes(f"\ufeffsome words\r\nof {n}".encode())
    (folder / "more.doc").touch()
    (folder / "latin.txt").write_bytes(b"f\xfcr")
    data_dir = tmp_path / "data"
    wanted = ModelInput("a/1.0.0", "text", ("a", "b"), sequence_length=9)
    found = dict(read_raw(tmp_path / "texts", wanted, None))
    for name in ("b/more.doc", "b/latin.txt"):
        assert isinstance(found.pop(name), Unusable)
        (tmp_path / "texts" / name).unlink()
    assert convert([str(tmp_path / "texts"), "--data_dir", str(data_dir)]) == 0
    records = tfds.as_numpy(tfds.load("texts", data_dir=data_dir, split="train+test"))
    assert found == {one["id"].decode(): one["text"].decode() for one in records}


def test_a_conversion_that_no_build_writes_is_refused(adult: Path, tmp_path: Path) -> None:
    shutil.copytree(adult / "data" / "adult" / "1.0.0", tmp_path / "1.0.0")
    (tmp_path / "1.0.0" / "fingerprint.json").unlink()
    file = tmp_path / "1.0.0" / "metadata.json"
    metadata = json.loads(file.read_text())
    column = metadata["conversion"]["columns"][0]
    for wrong in ({"median": "x"}, {"median": float("inf")}, {"kind": "date"}, {"more": 1}):
        changed = [column | wrong, *metadata["conversion"]["columns"][1:]]
        conversion = metadata["conversion"] | {"columns": changed}
        file.write_text(json.dumps(metadata | {"conversion": conversion}))
        data = open_set(str(tmp_path / "1.0.0"))
        with pytest.raises(ValueError, match="metadata key 'conversion' expected as builders.conv"):
            ModelInput.of(open_data(data.schema.directory))
