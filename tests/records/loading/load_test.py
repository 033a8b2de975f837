"""What decoders of pictures, libraries in C, say of one is told with its place and file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from records.decoding.input_config import InputConfig
from records.loading import load
from records.roles import open_data
from records.system.quiet import written_bytes
from tests.support.tiny_sets import build_tiny


def _picture(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def test_the_picture_that_a_decoder_warns_of_is_named_once(
    tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    whole = _picture(0)
    guessed = whole[:-200] + whole[-2:]  # libjpeg fills the end with grey, and warns
    files = [guessed if number in (1, 3, 4) else _picture(number) for number in range(5)]
    spec = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "filename": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names="ab"),
    }
    rows = [
        {"image": io.BytesIO(one), "filename": f"{i}.jpg", "label": i % 2}
        for i, one in enumerate(files)
    ]
    directory = build_tiny(tmp_path, spec, {"train": rows}, input_feature="image")
    monkeypatch.setattr(load, "_MOST_TOLD", 2)
    loader = open_data(directory, config=InputConfig(image_size=8)).examples("train").loader
    before = written_bytes()
    capfd.readouterr()
    first = loader.load(np.arange(5))
    assert written_bytes() > before, "the kernel counts what this thread writes"
    said = capfd.readouterr().err.splitlines()
    assert said[:3] == ["Corrupt JPEG data: premature end of data segment"] * 3
    begin = f"note: {directory}/tiny-train.tfrecord-00000-of-00001, record "
    assert all(line.startswith(begin) for line in said[3:])
    told = [line.removeprefix(begin).partition(" at byte ") for line in said[3:]]
    assert [number for number, _, _ in told] == ["1", "3"]
    middle = (
        "the picture of feature 'image' of '1.jpg' is read, and its decoder says: "
        "Corrupt JPEG data: premature end of data segment"
    )
    assert told[0][2].endswith(middle)
    assert told[1][2].endswith(f". python -m records.verify {directory} names all of them")
    assert (loader.load(np.arange(5)) == first).all()
    assert "note:" not in capfd.readouterr().err, "it was told before"


def test_texts_in_a_cache_are_read_once_to_count_and_to_decode(
    tmp_path: Path, monkeypatch: Any
) -> None:
    spec = {
        "ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "label": tfds.features.ClassLabel(names="ab"),
    }
    texts = [[5, 5, 3], [], [3, 5, 7, 7], [5], [9, 9, 9, 9, 3]] * 220  # more than a unit of them
    rows = [{"ids": np.array(t, np.int32), "label": i % 2} for i, t in enumerate(texts)]
    splits = {"train": rows, "validation": rows[:5]}
    directory = build_tiny(tmp_path, spec, splits, input_feature="ids")
    read: list[int] = []
    read_records = load.Loader.read

    def counting(self: load.Loader, numbers: Any, *options: bool) -> np.ndarray:
        read.extend(numbers)
        return read_records(self, numbers, *options)

    monkeypatch.setattr(load.Loader, "read", counting)
    config = InputConfig(sequence_length=4, vocab_size=5)
    examples = open_data(directory, config=config).examples("train")
    assert examples.inputs is not None and sorted(read) == list(range(len(texts)))
    np.testing.assert_array_equal(examples.inputs, examples.loader.load(np.arange(len(texts))))
    # Ranks: 5 and 9, as often, by number; then 3; 7 is out of vocabulary.
    found = sorted(set(map(tuple, examples.inputs.tolist())))
    assert found == [(0, 0, 0, 0), (2, 0, 0, 0), (2, 2, 4, 0), (3, 3, 3, 3), (4, 2, 1, 1)]
