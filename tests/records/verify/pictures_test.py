"""Whole pictures that are not supported are no damage; copies are found whatever the format."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from records.decoding.input_config import InputConfig
from records.opened import open_set
from records.roles import open_data
from records.verify.__main__ import main
from records.verify.check import verify_set
from tests.support.tiny_sets import build_tiny


def _encode(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def _noise(seed: int, channels: int = 3) -> np.ndarray:
    shape = (40, 30, 3) if channels == 3 else (40, 30)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_what_is_read_as_something_else_is_named(tmp_path: Path, capsys: Any) -> None:
    """A flag of grey on colours, a text that is no UTF-8; and what libjpeg says, with its file."""
    grey = np.dstack([_noise(1, 1)] * 3)
    whole = _encode(_noise(3), "JPEG")
    guessed = whole[:-200] + whole[-2:]  # libjpeg fills the end with grey, and warns
    files = [_encode(grey, "JPEG"), _encode(_noise(2), "JPEG"), guessed, _encode(grey, "PNG")]
    spec = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "is_grey": np.bool_,
        "filename": tfds.features.Text(),
        "note": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names="ab"),
    }
    rows = [
        {"image": io.BytesIO(one), "is_grey": i != 2, "filename": f"{i}.jpg", "label": i % 2}
        for i, one in enumerate(files)
    ]
    notes = [b"caf\xe9" if i == 3 else b"caf\xc3\xa9" for i in range(4)]
    rows = [row | {"note": note} for row, note in zip(rows, notes, strict=True)]
    directory = build_tiny(tmp_path, spec, {"train": rows}, input_feature="image")
    capsys.readouterr()
    assert main([directory]) == 1
    printed = capsys.readouterr().out.splitlines()[1:]
    printed = [line.partition("tiny/1.0.0: ")[2] or line for line in printed]
    otherwise = "1 of 4 train records are whole, and read as something else than they are: "
    assert printed == [
        otherwise + "is_grey is set, and its picture has colours, which training drops: "
        "number 1 (filename '1.jpg')",
        otherwise + "its text 'note' is not UTF-8: number 3 (filename '3.jpg')",
        "1 of 4 train records are sound, and worth a look: its picture is read, and the "
        "decoder says: Corrupt JPEG data: premature end of data segment: "
        "number 2 (filename '2.jpg')",
        "  0 damaged records, 2 other problems",
    ]


def _build(folder: Path, **splits: list[bytes]) -> str:
    spec = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names="ab"),
    }
    rows = {
        split: [{"image": io.BytesIO(one), "label": i % 2} for i, one in enumerate(files)]
        for split, files in splits.items()
    }
    return build_tiny(folder, spec, rows)


def test_copies_are_found_among_png_and_jpeg(tmp_path: Path, capsys: Any) -> None:
    """A palette, an alpha channel and a grey plane in three channels are the same pixels."""
    grey = _noise(1, 1)
    jpeg = _encode(_noise(2), "JPEG")
    same = np.asarray(Image.open(io.BytesIO(jpeg)))
    opaque = np.dstack([_noise(3), np.full((40, 30), 255, np.uint8)])
    few = _noise(4) // 128 * 255  # eight colours: as a palette without loss
    palette = io.BytesIO()
    Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=8).save(palette, "PNG")
    train = [_encode(grey, "PNG"), jpeg, _encode(_noise(3), "PNG"), _encode(few, "PNG")]
    test = [
        _encode(np.dstack([grey] * 3), "PNG"),
        _encode(same, "PNG"),
        _encode(opaque, "PNG"),
        palette.getvalue(),
        _encode(_noise(5), "PNG"),
    ]
    directory = _build(tmp_path, train=train, test=test)
    assert main([directory, "--leakage"]) == 0
    printed = capsys.readouterr().out
    assert "  4 of 5 test records have exact copies in train" in printed
    for number in range(4):
        assert re.search(rf"test\S+ record {number} = \S+train\S+ record {number}\n", printed)
    assert "  0 of 5 test records have near copies in train" in printed


@pytest.fixture(scope="module")
def unsupported(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sound pictures, then a WebP and one of 20,000 x 1,000 pixels."""
    sound = [_encode(_noise(i), "PNG") for i in range(10)]
    large = _encode(np.zeros((1000, 20_000), np.uint8), "PNG")
    files = [*sound, _encode(_noise(20), "WEBP"), large]
    return _build(tmp_path_factory.mktemp("unsupported"), train=files)


def test_pictures_that_are_not_supported_are_no_damage(unsupported: str, tmp_path: Path) -> None:
    report = verify_set(unsupported)
    assert not report.damage
    webp, large = report.problems
    assert "1 of 12 train records are not damaged, and cannot be trained on: its picture" in webp
    assert "expected JPEG or PNG, received WebP. Store it as JPEG or PNG: number 10" in webp
    assert "--max-pixels 20000000" in large and large.endswith(": number 11")
    (problem,) = verify_set(unsupported, max_pixels=20_000_000).problems
    assert "1 of 12 train records" in problem
    # Nothing whole is thrown away: a copy would hold all of them.
    assert main([unsupported, "--repair", str(tmp_path)]) == 1
    (copy,) = tmp_path.rglob("*-of-*")
    assert copy.read_bytes() == next(Path(unsupported).glob("*-of-*")).read_bytes()


def test_training_says_what_to_do_with_them(unsupported: str) -> None:
    index = open_set(unsupported).read_index("train")

    def load(number: int, **config: Any) -> np.ndarray:
        data = open_data(unsupported, config=InputConfig(image_size=8, cache="none", **config))
        return data.examples("train").loader.load(np.array([number]))

    for number, said in (
        (10, "expected JPEG or PNG, received WebP. Store it as JPEG or PNG"),
        (
            11,
            "20,000 x 1,000 pixels, of 16,777,216 at most. Raise the limit with --max-pixels 2000",
        ),
    ):
        with pytest.raises(ValueError) as error:
            load(number)
        text = str(error.value)
        assert f"record {number} at byte {index.offset[number]}: the picture of feature" in text
        assert said in text and "damaged" not in text and "build the set again" not in text.lower()
    np.testing.assert_array_equal(load(11, max_pixels=20_000_000), np.zeros((1, 8, 8, 3)))
