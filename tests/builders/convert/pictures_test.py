"""Pictures as they are found: what is stored decodes in training, and what cannot is named."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import records
from builders.convert.__main__ import main
from builders.convert.kinds import read_source
from builders.convert.source import Conversion, Options
from records.decoding.pixels import MAX_PIXELS
from tests.support.adult_table import write_table

Draw = Callable[[str], Image.Image]


def _picture(seed: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3))
    return Image.fromarray(noise.astype(np.uint8))


def _write_mixed(folder: Path, count: int = 12) -> None:
    """Two classes of every kind of file, under the names that people give."""
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("a b.png", "RGB", {}),
        ("ü.JPG", "RGB", {"format": "JPEG"}),
        ("grey.jpeg", "L", {}),
        ("cmyk.jpg", "CMYK", {}),
        ("web.webp", "RGB", {}),
        ("alpha.png", "RGBA", {}),
        ("bits.bmp", "RGB", {}),
        ("palette.gif", "P", {}),
        ("wrong ending.png", "RGB", {"format": "JPEG"}),
        ("old.tif", "L", {}),
    ]
    for label in ("cat, big", "Hündin"):
        (folder / label / "inner").mkdir(parents=True)
        (folder / label / ".DS_Store").write_text("no picture")
        for n in range(count):
            name, mode, options = kinds[n % len(kinds)]
            picture = _picture(n + 100 * len(label)).convert(mode)
            picture.save(folder / label / ("inner" if n % 2 else "") / f"{n} {name}", **options)


def _read(path: Path, **options: Any) -> Conversion:
    return read_source(path, Options(**options))


def _stored(found: Conversion, name: str) -> bytes:
    (number,) = [n for n, example in enumerate(found.examples) if example.name == name]
    return found.make(number)["image"].read()


def test_a_folder_of_mixed_pictures_opens_as_a_set(tmp_path: Path) -> None:
    _write_mixed(tmp_path / "my photos")
    data = tmp_path / "data"
    assert main([str(tmp_path / "my photos"), "--data_dir", str(data), "--test_share", "0.4"]) == 0
    opened = records.open_data("my_photos", data_dir=str(data))
    assert opened.schema.class_names == ("Hündin", "cat, big")
    assert sum(opened.schema.split_counts.values()) == 24
    names = set()
    for record in tfds.as_numpy(tfds.load("my_photos", data_dir=data, split="train+test")):
        name = record["filename"].decode()
        assert record["image"].shape == (20, 30, 3)
        assert opened.schema.class_names[record["label"]] == name.split("/")[0]
        assert record["is_grey"] == ("grey" in name or "old" in name)
        names.add(name)
    assert len(names) == 24 and "cat, big/inner/1 ü.JPG" in names


def test_a_picture_that_its_decoder_warns_of_is_named(
    tmp_path: Path, capfd: Any, recwarn: Any
) -> None:
    """libjpeg itself names no file; Pillow's words on odd EXIF data are nobody's."""
    for number in range(8):
        place = tmp_path / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        _picture(number).convert("RGB").save(place / f"{number}.jpg")
    whole = (tmp_path / "a" / "2.jpg").read_bytes()
    (tmp_path / "a" / "2.jpg").write_bytes(whole[:-200] + whole[-2:])
    exif = b"\xff\xe1\x00\x10Exif\0\0MM\0*" + b"\xff" * 4
    odd = (tmp_path / "b" / "3.jpg").read_bytes()
    (tmp_path / "b" / "3.jpg").write_bytes(odd[:2] + exif + odd[2:])
    found = _read(tmp_path)
    assert "1 are read, and their decoder warns: 'a/2.jpg'" in found.findings
    assert "EXIF" not in capfd.readouterr().err + "".join(str(w.message) for w in recwarn)


def test_a_huge_file_is_left_unread(tmp_path: Path) -> None:
    _write_mixed(tmp_path)
    with open(next(p for p in tmp_path.rglob("*") if p.is_file()), "wb") as sparse:
        sparse.truncate(2**30 + 1)
    with pytest.raises(ValueError) as error:
        _read(tmp_path)
    said = "a file of 1,073,741,825 bytes, at most 1,073,741,824 are read\n"
    assert f"1 of 24 files are no pictures that can be read:\n  {sparse.name}: {said}" in str(
        error.value
    )


def test_files_that_training_decodes_keep_their_bytes_and_others_their_pixels(
    tmp_path: Path,
) -> None:
    _write_mixed(tmp_path, 10)
    found = _read(tmp_path)
    for name in ("0 a b.png", "inner/1 ü.JPG", "inner/3 cmyk.jpg", "8 wrong ending.png"):
        assert _stored(found, f"Hündin/{name}") == (tmp_path / "Hündin" / name).read_bytes()
    for name in ("4 web.webp", "6 bits.bmp", "inner/7 palette.gif", "inner/9 old.tif"):
        with Image.open(io.BytesIO(_stored(found, f"Hündin/{name}"))) as stored:
            assert stored.format == "PNG"
            with Image.open(tmp_path / "Hündin" / name) as source:
                np.testing.assert_array_equal(stored.convert("RGB"), source.convert("RGB"))


def test_large_pictures_are_scaled_down_or_refused_never_left_to_training(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        _picture(1, (40, 30)).save(tmp_path / label / "small.png")
    side = int(MAX_PIXELS**0.5) + 1
    Image.new("L", (side, side), 7).save(tmp_path / "a" / "large.png")
    for skip in ("error", "skip"):
        with pytest.raises(
            ValueError, match=r"1 pictures are larger.*\n.*a/large.png: 4,097 x 4,097"
        ) as error:
            _read(tmp_path, on_corrupt=skip)
        assert "--max_side 1024" in str(error.value)
    found = _read(tmp_path, max_side=32)
    with Image.open(io.BytesIO(_stored(found, "a/large.png"))) as picture:
        assert picture.size == (32, 32) and picture.getextrema() == (7, 7)
    with Image.open(io.BytesIO(_stored(found, "b/small.png"))) as picture:
        assert picture.size == (32, 24)


def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
        Image.fromarray(values).save(tmp_path / label / "x.tif")
    with Image.open(io.BytesIO(_stored(_read(tmp_path), "a/x.tif"))) as picture:
        np.testing.assert_array_equal(picture, values >> 8)


def test_damaged_files_are_all_named_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    _write_mixed(source, 10)
    whole = (source / "Hündin/inner/1 ü.JPG").read_bytes()
    (source / "Hündin/cut.jpg").write_bytes(whole[:-20])
    (source / "Hündin/empty.png").touch()
    (source / "cat, big/notes.txt").write_text("no picture")
    assert main([str(source), "--data_dir", str(data)]) == 1
    said = capsys.readouterr().err
    assert "error: convert: 3 of 23 files are no pictures" in said
    for name in (
        "Hündin/cut.jpg: its end is missing",
        "Hündin/empty.png: ",
        "cat, big/notes.txt: ",
    ):
        assert f"{source}/{name}" in said
    assert not data.exists()
    found = _read(source, on_corrupt="skip")
    assert found.dropped == {"damaged": 3} and len(found.examples) == 20


def test_folders_of_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    for split in ("Training", "val", "Testing"):
        _write_mixed(tmp_path / split, 2)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "Testing" / "list.txt").write_text("about")
    found = _read(tmp_path)
    assert found.split_counts() == {"train": 4, "validation": 4, "test": 4}
    assert found.dropped == {"in no class folder": 2}
    (tmp_path / "more").mkdir()
    with pytest.raises(
        ValueError, match="splits or of classes, received both: .*'val'.* and 'more'"
    ):
        _read(tmp_path)


def test_a_new_file_moves_no_other_and_copies_stay_together(tmp_path: Path) -> None:
    _write_mixed(tmp_path)
    before = {example.name: example.split for example in _read(tmp_path, test_share=0.5).examples}
    assert set(before.values()) == {"train", "test"}
    for n in range(5):
        (tmp_path / "Hündin" / f"copy {n}.png").write_bytes(
            (tmp_path / "Hündin" / "0 a b.png").read_bytes()
        )
    _picture(77).save(tmp_path / "Hündin" / "00 new.png")
    after = {example.name: example.split for example in _read(tmp_path, test_share=0.5).examples}
    assert {name: after[name] for name in before} == before
    assert {after[f"Hündin/copy {n}.png"] for n in range(5)} == {before["Hündin/0 a b.png"]}


def test_a_table_names_pictures_and_their_groups(tmp_path: Path) -> None:
    _write_mixed(tmp_path / "files")
    names = [p.relative_to(tmp_path).as_posix() for p in sorted((tmp_path / "files").rglob("*.*"))]
    rows = [
        [name, str(n % 2), f"p{n % 6}"] for n, name in enumerate(names) if "DS_Store" not in name
    ]
    path = write_table(tmp_path / "list.csv", rows, ["file", "is_sick", "patient"])
    found = _read(path, group="patient", label=("is_sick",), test_share=0.4)
    assert found.kind == "pictures" and found.class_names == ["0", "1"]
    assert [example.name for example in found.examples] == [row[0] for row in rows]
    split = {example.group: example.split for example in found.examples}
    assert all(split[example.group] == example.split for example in found.examples)
    write_table(path, [*rows, ["files/gone.png", "1", "p1"]], ["file", "is_sick", "patient"])
    with pytest.raises(
        ValueError, match="line 26, column 'file': .* 'files/gone.png', which is none"
    ):
        _read(path, path_column="file", label=("is_sick",))


def test_what_systems_leave_in_folders_is_no_example(tmp_path: Path) -> None:
    _write_mixed(tmp_path / "train", 2)
    (tmp_path / "train" / "Hündin").rename(tmp_path / "train" / " Hündin ")
    for name in ("train/cat, big/Thumbs.db", "train/ Hündin /desktop.ini", "__MACOSX/._a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "train" / "bird").mkdir()
    found = _read(tmp_path)
    assert len(found.examples) == 4 and found.dropped == {"class folders without files": 1}
    # TFDS would read " Hündin " back without its white space.
    assert found.class_names == ["Hündin", "cat, big"]


def test_links_that_never_end_and_pipes_are_named(tmp_path: Path) -> None:
    _write_mixed(tmp_path, 2)
    up = tmp_path / "Hündin" / "up"
    up.symlink_to("..")
    with pytest.raises(ValueError, match="Hündin/up: .* a link to a folder around it"):
        _read(tmp_path, on_corrupt="skip")
    up.unlink()
    os.mkfifo(tmp_path / "Hündin" / "pipe.png")
    with pytest.raises(ValueError, match="pipe.png: expected a file, received a pipe or a device"):
        _read(tmp_path)


def test_copies_in_another_class_or_split_are_told(tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write_mixed(tmp_path / split, 2)
    for split in ("train", "test"):
        _picture(99).save(tmp_path / split / "cat, big" / "same.png")
    _picture(99).save(tmp_path / "train" / "Hündin" / "same.png")
    said = [line for line in _read(tmp_path).findings if "another" in line]
    assert any("pictures also stand in another class" in line for line in said)
    assert any("pictures also stand in another split" in line for line in said)


def test_a_table_names_each_file_once_and_none_is_taken_for_a_value(tmp_path: Path) -> None:
    _write_mixed(tmp_path, 2)
    name = next((tmp_path / "Hündin").glob("*.png")).relative_to(tmp_path).as_posix()
    path = write_table(tmp_path / "a.csv", [[name, "0"], ["", "1"], [name, "1"]], ["file", "label"])
    with pytest.raises(ValueError, match="line 3, column 'file': expected a file .* received ''"):
        _read(path)
    write_table(path, [[name, "0"], [name, "1"]], ["file", "label"])
    with pytest.raises(ValueError, match="line 3, .* each file once, .* which line 2 names"):
        _read(path)
