"""Which feature is a model's input, and that metadata name what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from records.opened import open_set
from records.ordering.splits import cut_validation
from records.sets import schema, target
from records.verify.__main__ import main as verify
from tests.support.tiny_sets import build_tiny

features = tfds.features


@pytest.mark.parametrize(
    ("shape", "encoding"), [((3,), "zlib"), ((None,), "zlib"), ((None,), "bytes")]
)
def test_encoded_tensors_are_refused(shape: tuple[int | None, ...], encoding: str) -> None:
    feature = features.Tensor(shape=shape, dtype=np.int64, encoding=encoding)
    with pytest.raises(ValueError, match="stored as numbers, received one stored as bytes"):
        schema._check_encoding(feature, "rows", "own")


def test_pictures_of_floats_are_refused() -> None:
    picture = features.Image(shape=(8, 8, 1), dtype=np.float32)
    with pytest.raises(ValueError, match="expected a picture of uint8, received float32"):
        schema._check_encoding(picture, "picture", "own")


def test_only_a_feature_that_can_be_named_is_advised() -> None:
    """Of pictures of float32 nothing can be read; a scalar is no input."""
    spec: dict[str, Any] = {
        "x": features.Image(shape=(8, 8, 1), dtype=np.float32),
        "y": features.Tensor(shape=(2,), dtype=np.float32),
        "a text": features.Text(),
    }
    said = (
        r"received \['a text', 'x', 'y'\] of .*Name it with --feature 'a text' or --feature y, or"
    )
    with pytest.raises(ValueError, match=said):
        schema._choose_input(spec, None, "own")
    none: dict[str, Any] = {"age": features.Scalar(np.float32), "id": features.Text()}
    with pytest.raises(ValueError, match="received none of .*Store one in the builder, and build"):
        schema._choose_input(none, None, "own")


@pytest.mark.parametrize("content", ["a\nb\n", "a\nb\nc\nd\n", "a\nb\nb\n", " \n"])
def test_another_number_of_class_names_is_an_error_at_opening(content: str, tmp_path: Path) -> None:
    spec = {"x": features.Tensor(shape=(1,), dtype=np.float32)}
    spec["label"] = features.ClassLabel(names=["a", "b", "c"])
    rows = [{"x": [0.0], "label": i} for i in range(3)]
    directory = build_tiny(tmp_path, spec, {"train": rows})
    assert schema.read_schema(directory).class_names == ("a", "b", "c")
    (Path(directory) / "label.labels.txt").write_text(content)
    with pytest.raises(ValueError, match="expected (3 class names|the names of the classes)"):
        schema.read_schema(directory)


def test_classes_that_lost_their_names_are_told(tmp_path: Path, capsys: Any) -> None:
    """TFDS numbers them; a set without a fingerprint has nothing else that tells."""
    spec = {"x": features.Tensor(shape=(1,), dtype=np.float32)}
    spec["label"] = features.ClassLabel(names=["a", "b", "c"])
    rows = [{"x": [0.0], "label": i} for i in range(3)]
    directory = build_tiny(tmp_path, spec, {"train": rows})
    assert schema.read_schema(directory).names_note == ""
    names = Path(directory) / "label.labels.txt"
    names.unlink()
    found = schema.read_schema(directory)
    assert found.class_names == ("0", "1", "2")
    assert found.names_note.startswith(f"{names} is not there: classes are called by their numbers")
    capsys.readouterr()
    assert verify([directory]) == 0
    assert f"  note: {found.names_note}\n" in capsys.readouterr().out


@pytest.mark.parametrize("names", [["a\nb", "c"], ["", "yes"]])
def test_names_that_a_file_of_names_cannot_hold(names: list[str], tmp_path: Path) -> None:
    """TFDS reads back 3 classes of the first, and 1 of the second."""
    spec = features.FeaturesDict({"label": features.ClassLabel(names=names)})
    spec.save_config(tmp_path)
    found = features.FeaturesDict.from_config(tmp_path)["label"]
    with pytest.raises(ValueError, match="expected 2 class names, received"):
        target._class_names(found, "label", "own")


@pytest.mark.parametrize(
    ("feature", "modality"),
    [
        (features.Tensor(shape=(3,), dtype=np.float32), schema.TABULAR),
        (features.Tensor(shape=(3,), dtype=np.float64, encoding="bytes"), schema.TABULAR),
        (features.Tensor(shape=(None,), dtype=np.int32), schema.TOKENS),
        (features.Sequence(np.int64), schema.TOKENS),
        (features.Text(), schema.TEXT),
        (features.Image(shape=(None, None, 3)), schema.IMAGE),
        (features.Scalar(np.int64), None),
        (features.ClassLabel(num_classes=2), None),
    ],
)
def test_modality_comes_from_the_feature(feature: Any, modality: str | None) -> None:
    assert schema._modality(feature) == modality
    if modality is not None:
        schema._check_encoding(feature, "input", "own")


LABEL = features.ClassLabel(names=["a", "b"])
VECTOR = features.Tensor(shape=(2,), dtype=np.float32)
KINDS = {
    "image": features.Image(shape=(None, None, 3)),
    "values": VECTOR,
    "offsets": features.Sequence(np.int64),
    "tags": features.Sequence(features.ClassLabel(num_classes=4)),
    "text": features.Text(),
}


@pytest.mark.parametrize("other", sorted(KINDS.keys() - {"text"}))
def test_two_possible_inputs_are_listed_and_none_is_guessed(other: str) -> None:
    """Also of different kinds: a text and its tags, a picture and its caption."""
    found = {"text": KINDS["text"], other: KINDS[other], "label": LABEL}
    with pytest.raises(ValueError) as error:
        schema._choose_input(found, None, "own")
    assert f"received {sorted(('text', other))} of" in str(error.value)
    assert "--feature" in str(error.value) and "input_feature" in str(error.value)
    for wanted in ("text", other):
        assert schema._choose_input(found, wanted, "own") == wanted


def test_ids_groups_and_classes_are_no_inputs() -> None:
    found = {"values": VECTOR, "patient": features.Text(), "id": features.Text(), "label": LABEL}
    others = ("id", "filename", "patient", "label")
    assert schema._choose_input(found, None, "own", others) == "values"
    # A set that is grouped by its only input.
    assert schema._choose_input({"text": features.Text()}, None, "own", ("text",)) == "text"


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty rows of a table, of twelve patients of five rows each."""
    rows = [
        {"values": [i, -i], "patient": f"p{i // 5}", "age": 1.5, "label": i // 5 % 2}
        for i in range(60)
    ]
    spec = {"values": VECTOR, "patient": features.Text(), "age": features.Scalar(np.float32)}
    spec["label"] = features.ClassLabel(names=["a", "b"])
    folder = tmp_path_factory.mktemp("patients")
    splits = {"train": rows, "test": rows[:2]}
    return Path(build_tiny(folder, spec, splits, group_feature="patient"))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"group_feature": "patient_id"}, r"'group_feature' expected one of .*'patient', 'values'\]"),
    ({"group_features": "patient"}, "'group_features' expected as 'group_feature'"),
    ({"group_feature": ["patient"]}, r"received \['patient'\]"),
    ({"group_feature": "age"}, "'age' expected an integer or a text, received Scalar.*float32"),
    ({"group_feature": "values"}, "'values' expected an integer or a text, received Tensor"),
    ({"id_feature": "row"}, "'id_feature' expected one of .* received 'row'"),
    ({"input_feature": "value"}, "'input_feature' expected one of .* received 'value'"),
    ({"label_feature": "class"}, "'label_feature' expected one of .* received 'class'"),
    ({"feature_names": ["a"]}, r"'feature_names' expected 2 texts, .* received 1: \['a'\]"),
    ({"feature_names": ["a", "a"]}, r"expected different names, received \['a'\] more than once"),
    ({"feature_names": "ab"}, "expected 2 texts, one for each column, received ab"),
    ({"part_of": {"test": "tests"}}, r"'part_of' expected .* of \['test', 'train'\]"),
    ({"part_of": ["test"]}, "'part_of' expected"),
    ({"class_counts": {"c": 1}}, r"'class_counts' expected .* of \['a', 'b'\], received \{'c': 1"),
    ({"dropped": 3}, "'dropped' expected numbers by reason, received 3"),
    ({"language": 5}, "'language' expected a text, received 5"),
    ({"generated": "no"}, "'generated' expected true or false, received 'no'"),
]


@pytest.mark.parametrize(("metadata", "expected"), WRONG)
def test_metadata_that_name_nothing_are_refused(
    patients: Path, metadata: dict[str, Any], expected: str
) -> None:
    file = patients / "metadata.json"
    right = file.read_text()
    known = {"group_feature": "patient", "input_feature": "values", "feature_names": ["a", "b"]}
    try:
        file.write_text(json.dumps(known | metadata))
        with pytest.raises(ValueError, match=expected) as error:
            schema.read_schema(str(patients))
        assert str(error.value).startswith("data set: tiny/1.0.0: ")
    finally:
        file.write_text(right)


def test_no_patient_is_on_both_sides_of_the_cut(patients: Path) -> None:
    found = schema.read_schema(str(patients))
    assert (found.input_name, found.group_name, found.feature_names) == ("values", "patient", ())
    index = open_set(str(patients)).read_index("train")
    training, validation = cut_validation(index.label, index.group, 0)
    assert len(validation) and len(training) + len(validation) == 60
    patient = np.arange(60) // 5  # by the way the rows are written, not by the index
    assert not set(patient[training]) & set(patient[validation])


@pytest.mark.parametrize("text", ["null", "[1]", "3", "{", ""])
def test_metadata_that_are_no_object_are_named(patients: Path, text: str) -> None:
    file = patients / "metadata.json"
    right = file.read_text()
    try:
        file.write_text(text)
        with pytest.raises(ValueError, match="expected a JSON object, received") as error:
            schema.read_schema(str(patients))
        assert str(error.value).startswith(f"data set: {file}: ")
    finally:
        file.write_text(right)


@pytest.mark.parametrize("length", [10**12, -1, 10**40])
def test_numbers_of_records_that_no_shard_holds_are_refused(patients: Path, length: int) -> None:
    file = patients / "dataset_info.json"
    right = file.read_text()
    info = json.loads(right)
    info["splits"][0]["shardLengths"] = [str(length)]
    try:
        file.write_text(json.dumps(info))
        with pytest.raises(ValueError, match="^data set: ") as error:
            schema.read_schema(str(patients))
        said = "expected 0 to 16,777,216 records, received 1,000,000,000,000"
        assert (said in str(error.value)) == (length == 10**12)
    finally:
        file.write_text(right)


def test_a_number_of_classes_that_fills_memory_is_refused(patients: Path) -> None:
    file, names = patients / "features.json", patients / "label.labels.txt"
    right, labels = file.read_text(), names.read_text()
    try:
        names.unlink()
        for count in (10**12, 0):
            file.write_text(right.replace('"numClasses": "2"', f'"numClasses": "{count}"'))
            assert str(count) in file.read_text()
            with pytest.raises(ValueError, match="label feature 'label' expected 1 to 1,048,576"):
                schema.read_schema(str(patients))
    finally:
        file.write_text(right)
        names.write_text(labels)


def test_files_of_another_format_are_not_called_damaged(patients: Path) -> None:
    file = patients / "dataset_info.json"
    right = file.read_text()
    try:
        for other in ("array_record", "parquet"):
            file.write_text(right.replace('"tfrecord"', f'"{other}"'))
            with pytest.raises(ValueError, match=f"received {other}, which is not supported"):
                schema.read_schema(str(patients))
    finally:
        file.write_text(right)
