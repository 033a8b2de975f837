"""Builds the brain tumor MRI set from dummy, generated, damaged and real pictures."""

import io
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from builders.brain_tumor_mri import (
    brain_tumor_mri_dataset_builder,
    pictures,
    splits,
    synthetic,
)
from records.sets import fingerprint

DUMMY = Path(__file__).parent / "dummy_data"


class BrainTumorMriTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = brain_tumor_mri_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["kaggle"]
    SPLITS = {"train": 44, "validation": 4, "test": 12}


class DeduplicatedTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = brain_tumor_mri_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["deduplicated"]
    SPLITS = {"train": 42, "validation": 4, "test": 11, "test_new": 10}
    OVERLAPPING_SPLITS = ["test_new"]


def _build(data_dir: Path, manual_dir: Path | None, config: str = "kaggle") -> Any:
    builder = brain_tumor_mri_dataset_builder.Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
    )
    return builder


def _rows(builder: Any, split: str) -> list[dict[str, Any]]:
    undecoded = {"image": tfds.decode.SkipDecoding()}
    return list(tfds.as_numpy(builder.as_dataset(split=split, decoders=undecoded)))


def test_stored_rows_equal_the_files(tmp_path: Path) -> None:
    builder = _build(tmp_path, DUMMY)
    seen = set()
    for row in (row for split in builder.info.splits for row in _rows(builder, split)):
        path = DUMMY / row["filename"].decode()
        seen.add(path)
        assert row["image"] == path.read_bytes()
        with Image.open(path) as image:
            assert (row["width"], row["height"]) == image.size
        assert row["is_grey"]
        assert pictures.LABEL_NAMES[row["label"]] == path.parent.name
    assert seen == set(DUMMY.rglob("*.jpg"))


def test_deduplicated_keeps_one_of_each_and_says_what_it_dropped(tmp_path: Path) -> None:
    builder = _build(tmp_path, DUMMY, "deduplicated")
    rows = {split: _rows(builder, split) for split in ("train", "validation", "test")}
    hashes = [row["pixel_hash"] for split in rows.values() for row in split]
    assert len(hashes) == len(set(hashes)) == len({_pixels(p) for p in DUMMY.rglob("*.jpg")})
    assert sum(builder.info.metadata["class_counts"].values()) == len(hashes)
    assert builder.info.metadata["dropped"] == {
        "training_copy_of_training": 1,
        "training_copy_of_testing": 1,
        "testing_copy_of_testing": 1,
    }
    names = {row["filename"].decode() for row in rows["test"]}
    assert "Testing/no_tumor/image(1).jpg" in names  # the Testing file stays, its copy leaves
    groups = {split: {row["group"] for row in rows[split]} for split in ("train", "validation")}
    assert not groups["train"] & groups["validation"]


def test_new_pictures_are_those_whose_pixels_are_in_no_training_picture(tmp_path: Path) -> None:
    """Against the decoded pixels themselves."""
    builder = _build(tmp_path, DUMMY, "deduplicated")
    known = {_pixels(p) for p in (DUMMY / "Training").rglob("*.jpg")}
    test = {row["filename"]: row for row in _rows(builder, "test")}
    expected = {name for name in test if _pixels(DUMMY / name.decode()) not in known}
    assert 0 < len(expected) < len(test), "Testing holds copies"
    new = _rows(builder, splits.NEW)
    assert {row["filename"] for row in new} == expected and len(new) == len(expected)
    assert all(row == test[row["filename"]] for row in new)
    assert builder.info.metadata["part_of"] == {"test_new": "test"}
    for config in ("kaggle", "synthetic"):
        other = brain_tumor_mri_dataset_builder.Builder(data_dir=tmp_path, config=config)
        assert "part_of" not in other.info.metadata


def _pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return str(image.size).encode() + image.tobytes()


def test_groups_are_the_same_in_both_configs(tmp_path: Path) -> None:
    groups: dict[str, dict[bytes, int]] = {}
    for config in ("kaggle", "deduplicated"):
        builder = _build(tmp_path, DUMMY, config)
        rows = [row for split in builder.info.splits for row in _rows(builder, split)]
        groups[config] = {row["filename"]: row["group"] for row in rows}
    assert groups["deduplicated"].items() <= groups["kaggle"].items()


def test_synthetic_has_the_quirks_of_the_real_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(synthetic.TRAINING_COUNTS) + sum(synthetic.TESTING_COUNTS) == 640
    monkeypatch.setattr(synthetic, "TRAINING_COUNTS", (37, 37, 18, 37))
    monkeypatch.setattr(synthetic, "TESTING_COUNTS", (9, 10, 7, 7))
    monkeypatch.setattr(synthetic, "TESTING_COPIES", (1, 4, 5, 2))
    builder = _build(tmp_path, None, "synthetic")
    metadata = builder.info.metadata
    assert metadata["generated"] is True
    assert len(set(metadata["class_counts"].values())) > 1
    assert sum(metadata["class_counts"].values()) == 162
    rows = {split: _rows(builder, split) for split in builder.info.splits}
    hashes = {split: {row["pixel_hash"] for row in rows[split]} for split in rows}
    assert hashes["test"] & (hashes["train"] | hashes["validation"])
    every = [row for split in rows.values() for row in split]
    assert all(row["is_grey"] for row in every)
    assert any(row["height"] != row["width"] for row in every)
    assert any(b" (" in row["filename"] for row in every)
    with Image.open(io.BytesIO(every[0]["image"])) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")


def test_two_builds_are_byte_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [
        fingerprint.check_shards(_build(tmp_path / name, DUMMY).data_dir).content for name in "ab"
    ]
    assert contents[0] == contents[1]
    # The order of a record's features differs between processes unless it is made stable.
    records = tf.data.TFRecordDataset(sorted(map(str, (tmp_path / "a").rglob("*.tfrecord-*"))))
    for record in records.as_numpy_iterator():
        example = tf.train.Example.FromString(record)
        assert example.SerializeToString(deterministic=True) == record
    for name in ("TRAINING_COUNTS", "TESTING_COUNTS"):
        monkeypatch.setattr(synthetic, name, (9, 8, 9, 8))
    monkeypatch.setattr(synthetic, "TESTING_COPIES", (1, 1, 1, 1))
    written = []
    for name in ("c", "d"):
        synthetic.write_pictures(tmp_path / name)
        files = sorted((tmp_path / name).rglob("*.jpg"))
        written.append({p.relative_to(tmp_path / name): p.read_bytes() for p in files})
    assert written[0] == written[1] and len(written[0]) == 68


def _picture(name: str, label: int, group: int) -> pictures.Picture:
    return pictures.Picture(name, label, 1, 1, True, name, group, int(Path(name).name))


def test_validation_counts_are_exact_and_groups_whole() -> None:
    rng = np.random.default_rng(0)
    given = [
        _picture(f"Training/{i}", int(label), int(group))
        for i, (label, group) in enumerate(
            zip(rng.choice(4, 400, p=[0.4, 0.3, 0.1, 0.2]), rng.integers(0, 200, 400))
        )
    ]
    chosen = splits.split_as_given(given)
    totals = Counter(p.label for p in given)
    received = Counter(p.label for p in chosen["validation"])
    assert received == {label: int(0.1 * total) for label, total in totals.items()}
    straddling = {p.group for p in chosen["train"]} & {p.group for p in chosen["validation"]}
    assert len(straddling) <= 2


def test_one_giant_group_is_split_only_where_counts_must_be_exact() -> None:
    given = [_picture(f"Training/{i}", 0, 7) for i in range(50)]
    assert len(splits.split_as_given(given)["validation"]) == 5
    assert splits.split_deduplicated(given)[0]["validation"] == []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DUMMY, tmp_path / "source"))


def _png(path: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text", ["expected a JPEG picture", "no picture", "hello"]),
        ("empty", ["expected a JPEG picture", "received 0 bytes"]),
        ("truncated", ["expected a complete JPEG picture", "truncated"]),
        ("png", ["expected a JPEG picture", "received PNG"]),
    ],
)
def test_bad_picture_is_refused_and_nothing_written(
    name: str, words: list[str], source: Path, tmp_path: Path
) -> None:
    path = source / "Training" / "glioma_tumor" / "gg (3).jpg"
    good = path.read_bytes()
    bad = {"text": b"hello", "empty": b"", "truncated": good[: len(good) * 2 // 3]}
    path.write_bytes(bad[name] if name in bad else _png(path))
    with pytest.raises(ValueError, match="builders/brain_tumor_mri: ") as error:
        _build(tmp_path / "data", source)
    assert all(word in str(error.value) for word in [str(path), *words])
    left = [p for p in (tmp_path / "data").rglob("*") if p.is_file() and p.parent.name[0] != "."]
    assert not left


def test_unexpected_folders_and_files_are_refused(source: Path) -> None:
    (source / "Testing" / "glioma_tumor" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes.txt: expected a .jpg file"):
        pictures.list_files(source)
    (source / "Testing" / "glioma_tumor" / "notes.txt").rename(source / ".DS_Store")
    shutil.move(source / "Testing" / "no_tumor", source / "Testing" / "healthy")
    with pytest.raises(ValueError, match=r"expected the folders .*, received glioma.*healthy"):
        pictures.list_files(source)
    shutil.rmtree(source / "Testing")
    (source / "Testing").mkdir()
    with pytest.raises(ValueError, match="received an empty folder"):
        pictures.list_files(source)


def test_a_name_that_is_no_utf8_is_refused(source: Path) -> None:
    folder = source / "Testing" / "glioma_tumor"
    next(folder.iterdir()).rename(folder / os.fsdecode(b"caf\xe9.jpg"))
    with pytest.raises(ValueError, match=r"file names in UTF-8, received b'.*caf\\xe9.jpg'"):
        pictures.list_files(source)


def test_a_folder_above_may_have_any_name(source: Path, tmp_path: Path) -> None:
    expected = pictures.list_files(source)
    named = tmp_path / os.fsdecode(b"caf\xe9")
    named.symlink_to(source, target_is_directory=True)
    assert pictures.list_files(named) == expected


def test_what_stands_in_the_place_of_a_picture_is_named(source: Path) -> None:
    folder = source / "Testing" / "glioma_tumor"
    (folder / "a.jpg").symlink_to("/nowhere/a.jpg")
    expected = r"a.jpg: expected a .jpg file, received a link to nothing \(/nowhere/a.jpg\)"
    with pytest.raises(ValueError, match=expected):
        pictures.list_files(source)
    (folder / "a.jpg").unlink()
    os.mkfifo(folder / "a.jpg")
    with pytest.raises(ValueError, match="received a pipe or a device named"):
        pictures.list_files(source)
    shutil.rmtree(folder)
    folder.touch()
    with pytest.raises(ValueError, match="glioma_tumor: expected a folder, received a file"):
        pictures.list_files(source)


def test_a_turned_picture_keeps_its_bytes_and_is_described_upright(
    source: Path, tmp_path: Path
) -> None:
    path = sorted((source / "Testing" / "glioma_tumor").iterdir())[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as picture:
        width, height = picture.size
        picture.crop((0, 0, width, height - 8)).save(path, quality=95, exif=exif)
    builder = _build(tmp_path / "data", source)
    name = path.relative_to(source).as_posix()
    (row,) = [r for r in _rows(builder, "test") if r["filename"].decode() == name]
    assert row["image"] == path.read_bytes()
    assert (row["height"], row["width"]) == (width, height - 8)


@pytest.mark.slow
@pytest.mark.real_data
def test_real_pictures(shared_data: Path, tmp_path: Path) -> None:
    found = pictures.read_pictures(shared_data / "brain_tumor_mri")
    training = {p.pixel_hash for p in found if not p.is_testing}
    testing = {p.pixel_hash for p in found if p.is_testing}
    assert (len(found), len(training | testing)) == (3264, 2870)
    assert (len(training), len(testing), len(training & testing)) == (2769, 314, 213)
    assert all(p.is_grey for p in found)
    distinct = {p.pixel_hash: p.group for p in found}
    assert max(Counter(distinct.values()).values()) <= 12  # no chain joins many heads
    kaggle = splits.split_as_given(found)
    sizes = {name: len(split) for name, split in kaggle.items()}
    assert sizes == {"train": 2585, "validation": 285, "test": 394}
    assert not {p.group for p in kaggle["train"]} & {p.group for p in kaggle["validation"]}
    deduplicated, dropped = splits.split_deduplicated(found)
    assert len(deduplicated["test"]) == 314
    new = Counter(pictures.LABEL_NAMES[p.label] for p in deduplicated[splits.NEW])
    assert new == {"glioma_tumor": 68, "pituitary_tumor": 24, "meningioma_tumor": 9}
    assert len(deduplicated["train"]) + len(deduplicated["validation"]) == 2556
    assert sum(dropped.values()) == 3264 - 2870
