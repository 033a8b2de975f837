"""`train.evaluate` on labelled files and on other sets: figures of what `train.predict` says."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from builders.convert.__main__ import main as convert
from records.roles import open_data
from train.evaluate import main as evaluate
from train.folders.finished_run import open_run
from train.folders.model_input import ModelInput
from train.measures.worst_errors import WorstErrors
from train.predict import main as predict
from train.predict import predict_items, predict_labelled, usable_items
from train.serving.labelled import make_reader, number_classes, read_labelled
from train.serving.read_inputs import Unusable, read_raw


def _evaluate(run: Path, *arguments: Any, code: int = 0) -> dict[str, Any]:
    assert evaluate([str(run), *map(str, arguments), "--resamples=20"]) == code
    (written,) = run.glob("measured-*/evaluation.json") if code == 0 else (None,)
    return json.loads(written.read_text()) if written else {}


@pytest.fixture(scope="module")
def photos(synthetic_data_dir: Path, tmp_path_factory: Any) -> Path:
    """Pictures of the generated split test, in folders that are called otherwise, and more."""
    folder = tmp_path_factory.mktemp("labelled") / "photos"
    data = open_data("brain_tumor_mri/synthetic", synthetic_data_dir)
    builder = tfds.builder("brain_tumor_mri/synthetic", data_dir=synthetic_data_dir)
    decoders = {"image": tfds.decode.SkipDecoding()}
    for record in tfds.as_numpy(builder.as_dataset(split="test", decoders=decoders)):
        name = data.schema.class_names[record["label"]].removesuffix("_tumor")
        (folder / name).mkdir(parents=True, exist_ok=True)
        file = record["filename"].decode().replace("/", "-")
        (folder / name / file).write_bytes(record["image"])
    (folder / "glioma" / "notes.txt").write_text("no picture")
    (folder / "readme.jpg").write_bytes(next(folder.glob("glioma/*.jpg")).read_bytes())
    return folder


def test_pictures_in_class_folders(
    finished_runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: Any
) -> None:
    run = open_run(finished_runs["brain_tumor_mri"])
    names = run.input.class_names
    pairs = [f"{n.removesuffix('_tumor')}={n}" for n in names if n.endswith("_tumor")]
    found = _evaluate(run.path, photos, "--map", *pairs, "--errors=3")
    # To the bit those of train.predict on the same files.
    items = read_raw(photos, run.input, None)
    said = dict(predict_items(run, ((n, v) for n, _, v in usable_items(items, run.input, []))))
    said.pop("readme.jpg")
    short = [name.removesuffix("_tumor") for name in names]
    labels = np.array([short.index(name.split("/")[0]) for name in said])
    labelled = read_labelled(photos, run.input, None, None)
    read = make_reader(run.input, labelled.targets.values(), pairs, "photos")
    got = predict_labelled(run, labelled, read, WorstErrors(names, 1))
    np.testing.assert_array_equal(got[0], labels)
    np.testing.assert_array_equal(got[1], np.stack(list(said.values())))
    assert got[3] == {"in no class folder": 1, "cannot be read": 1}
    # And scikit-learn's figures of them.
    assert found["metrics"]["loss"] == pytest.approx(log_loss(labels, got[1], labels=range(4)))
    predicted = got[1].argmax(1)
    assert found["metrics"]["accuracy"] == accuracy_score(labels, predicted)
    assert found["confusion_matrix"] == confusion_matrix(labels, predicted).tolist()
    about = found["measured_on"]
    assert about["source"] == str(photos) and about["map"] == pairs
    assert about["left_out"] == got[3]
    folder = run.path / "measured-photos"
    with open(folder / "worst_errors.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and (folder / "worst_errors.png").exists()
    wrong = {n: p.max() for (n, p), t in zip(said.items(), labels, strict=True) if p.argmax() != t}
    assert {row["id"] for row in rows} == set(sorted(wrong, key=lambda n: -wrong[n])[:3])
    # Another prepared set of the same files: the same examples, in another order.
    assert convert([str(photos), "--data_dir", str(tmp_path), "--on_corrupt=skip"]) == 0
    (folder / "evaluation.json").unlink()
    other = _evaluate(run.path, "--on", "photos", "--data-dir", tmp_path, "--map", *pairs)
    assert other["metrics"]["loss"] == pytest.approx(found["metrics"]["loss"], rel=1e-6)
    assert other["confusion_matrix"] == found["confusion_matrix"]
    assert sorted(other["measured_on"]["splits"]) == ["test", "train"]
    assert other["measured_on"]["set"].startswith("photos/")
    capsys.readouterr()
    _evaluate(run.path, photos, code=1)
    error = capsys.readouterr().err
    assert "'glioma', 'meningioma', 'no', 'pituitary'. Say which they are: --map glioma=" in error
    _evaluate(run.path, photos, "--map", "gliom=glioma_tumor", code=1)
    assert "--map expected FOUND=CLASS" in capsys.readouterr().err


def test_predict_tells_the_accuracy_of_class_folders(
    finished_runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: Any
) -> None:
    run = finished_runs["brain_tumor_mri"]
    output = f"--output={tmp_path / 'out.csv'}"
    some = tmp_path / "some"
    for name in ("glioma_tumor", "no"):
        (some / name).mkdir(parents=True)
        (some / name / "a.jpg").symlink_to(next((photos / "no").glob("*.jpg")))
    assert predict([str(run), str(some), output]) == 0
    printed = capsys.readouterr().out
    assert "no class of the run: the folders 'no'" in printed and "accuracy" not in printed
    (command,) = re.findall(r"python -m train.evaluate (.*)", printed)
    assert evaluate([*shlex.split(command), "--resamples=5"]) == 0
    for old in ("glioma", "meningioma", "pituitary", "no"):
        (tmp_path / "photos" / f"{old}_tumor").mkdir(parents=True)
        for picture in (photos / old).glob("*.jpg"):
            (tmp_path / "photos" / f"{old}_tumor" / picture.name).symlink_to(picture)
    assert predict([str(run), str(tmp_path / "photos"), output]) == 0
    with open(tmp_path / "out.csv") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["input"].startswith(row["predicted"] + "/") for row in rows)
    expected = f"accuracy {right / len(rows):.4f}: {right} of {len(rows)} are of the class"
    assert expected in capsys.readouterr().out


def test_a_table_that_names_pictures(photos: Path, tmp_path: Path) -> None:
    wanted = ModelInput("s/1.0.0", "image", ("a", "b"), image_size=8, channels=3)
    files = sorted(photos.glob("no/*.jpg"))[:2]
    rows = [{"at": str(file), "label": name} for file, name in zip(files, "ab", strict=True)]
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"at": "none.jpg", "label": ""}])))
    found = read_labelled(path, wanted, "at", None)
    items = dict(found.items)
    assert [items["1"], items["2"]] == [file.read_bytes() for file in files]
    assert isinstance(items["3"], Unusable)
    assert [found.target_of(name) for name in items] == ["a", "b", None]
    with pytest.raises(ValueError, match="which column names the pictures' files"):
        read_labelled(path, wanted, None, None)
    for place in (files[0], tmp_path / "list.jsonl" / "x", tmp_path):
        with pytest.raises((ValueError, OSError)):
            read_labelled(place, wanted, None, None)


def test_what_is_no_text_in_a_folder_of_texts_is_left_out(tmp_path: Path) -> None:
    wanted = ModelInput(
        "s/1.0.0",
        "text",
        ("a", "b"),
        sequence_length=4,
        text_rule="words",
        vocabulary=("", "", "x"),
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("x y")
    (tmp_path / "a" / "2.pdf").write_text("x")
    unusable: list[tuple[str, str]] = []
    found = list(usable_items(read_labelled(tmp_path, wanted, None, None).items, wanted, unusable))
    assert [(name, value.tolist()) for name, _, value in found] == [("a/1.txt", [2, 1])]
    assert unusable == [("a/2.pdf", "not a .txt file")]


def test_names_of_classes_are_numbered() -> None:
    names = ("cat", "a=b")
    found = number_classes(["cat", "dog", "", "x=y"], names, ["dog=a=b", "x=y="], "f")
    assert found == {"cat": 0, "dog": 1, "x=y": None}
    assert number_classes(["cat"], names, ["cat=a=b"], "f") == {"cat": 1}
    with pytest.raises(ValueError, match=r"received others, too: 'dog', 'x=y'. Say which they"):
        number_classes(["cat", "dog", "x=y"], names, [], "f")


def test_rows_with_a_column_of_classes(
    finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    run = finished_runs["fetal_health"]
    test = open_data("fetal_health/synthetic", synthetic_data_dir).examples("test")
    names = test.schema.class_names
    rows = [list(row) for row in np.asarray(test.inputs)[test.numbers]]
    shown = [names[label].upper() for label in test.subset_labels]
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow([*test.schema.feature_names, "truth"])
        writer.writerows([*row, name] for row, name in zip(rows, shown, strict=True))
        writer.writerows([[*rows[0], ""], [*rows[1], "odd"]])
    pairs = [f"{name.upper()}={name}" for name in names]
    found = _evaluate(run, path, "--label=truth", "--map", *pairs, "odd=")
    stored = json.loads((run / "metrics.json").read_text())["test"]
    assert found["confusion_matrix"] == stored["confusion_matrix"]
    assert found["metrics"]["loss"] == pytest.approx(stored["loss"], rel=1e-4)
    assert found["measured_on"]["left_out"] == {"no truth": 1, "--map odd=": 1}
    _evaluate(run, path, code=1)
    assert "'label' of the classes (--label names another)" in capsys.readouterr().err
    _evaluate(run, "--on", "fetal_health/synthetic", "--data-dir", synthetic_data_dir, code=1)
    assert "which is that set. Leave --on out" in capsys.readouterr().err


def test_texts_of_another_set_get_the_words_of_the_run(
    finished_runs: dict[str, Path], synthetic_data_dir: Path
) -> None:
    """Stored ids become words by their own vocabulary, and ids by the run's: as in training."""
    from records.opened import open_set
    from train.serving.labelled import read_set
    from train.serving.read_inputs import make_preparation

    run = open_run(finished_runs["song_lyrics"])
    config = open_data("song_lyrics/synthetic", synthetic_data_dir).config
    config = type(config)(sequence_length=12, vocab_size=300)
    data = open_data("song_lyrics/synthetic", synthetic_data_dir, config)
    opened = open_set("song_lyrics/synthetic", str(synthetic_data_dir))
    labelled = read_set(opened, ["test"], run.input)
    prepare, test = make_preparation(run.input), data.examples("test")
    found = dict(labelled.items)
    assert len(found) == test.num_examples
    for number, label in zip(test.numbers, test.subset_labels, strict=True):
        ids = prepare(found[f"test {number}"])
        assert isinstance(ids, np.ndarray)
        row = np.asarray(test.inputs)[number]
        np.testing.assert_array_equal(ids, row[: len(ids)])
        assert not row[len(ids) :].any()
        assert labelled.target_of(f"test {number}") == data.schema.class_names[label]
    assert labelled.group_name == "artist" and len(set((labelled.groups or {}).values())) > 2
