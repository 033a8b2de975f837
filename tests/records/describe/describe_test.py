"""Checks `records.describe` against NumPy, scikit-learn and sets whose contents are known."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.feature_selection import f_classif

from records.describe.__main__ import describe, main
from records.describe.pictures import header_size
from records.describe.read import (
    hash_sequences,
    hash_strings,
    quantile_header,
    quantile_line,
)
from records.describe.tables import correlation_matrix, correlation_ratio
from tests.support.tiny_sets import TinyBuilder, build_tiny


def test_numbers_of_any_size_stay_apart() -> None:
    line = quantile_line("train", np.array([12_345_678_901] * 9), "bytes")
    assert line.split() == ["train", *["12,345,678,901"] * 8, "12,345,678,901.0", "bytes"]
    small, header = quantile_line("test", np.array([5.0, 7.0]), "words"), quantile_header()
    assert small.index("6.0") + 3 == len(header), "a column's numbers end where its name does"


def describe_tiny(
    tmp_path: Path,
    features: dict[str, Any],
    examples: dict[str, list[dict[str, Any]]],
    **metadata: Any,
) -> str:
    """Builds a tiny set and returns its description."""
    directory = build_tiny(tmp_path / "data", features, examples, **metadata)
    text, folder = describe(directory, output=str(tmp_path / "figures"))
    assert (folder / "description.txt").read_text(encoding="utf-8") == text
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert image.format == "PNG"
    assert not list(folder.glob(".*")), "temporary files are left"
    return text


def line_of(text: str, start: str) -> str:
    """The first line that begins with `start`, spaces aside, in single spaces."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    found = [line for line in lines if line.startswith(start)]
    assert found, f"no line begins with {start!r} in\n{text}"
    return found[0]


def label(*names: str) -> tfds.features.ClassLabel:
    return tfds.features.ClassLabel(names=names or ["no", "yes"])


def test_correlations_are_those_of_numpy_and_of_the_f_statistic() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    rows = rng.normal(size=(500, 6)) + labels[:, None] * np.arange(6) * 0.2
    rows[:, 0] = 0.1  # constant, and not exact in binary
    rows[:, 3] += rows[:, 2]
    matrix = correlation_matrix(rows)
    np.testing.assert_allclose(matrix[1:, 1:], np.corrcoef(rows[:, 1:].T), atol=1e-12)
    assert not matrix[0].any()
    eta = correlation_ratio(rows[:, 1:], labels)
    f, _ = f_classif(rows[:, 1:], labels)  # F = (eta^2 / (k-1)) / ((1 - eta^2) / (n-k))
    np.testing.assert_allclose(eta**2, f * 3 / (f * 3 + 496), rtol=1e-10)


def test_equal_sequences_and_only_they_have_equal_hashes() -> None:
    sequences = [[1, 2], [2, 1], [], [0], [0, 0], [1, 2], [1], [2], [3], [], [2, 1, 0]]
    flat = np.array([n for sequence in sequences for n in sequence], np.int64)
    hashes = hash_sequences(flat, np.array([len(s) for s in sequences]))
    _, by_hash = np.unique(hashes, return_inverse=True)
    distinct = sorted(set(map(tuple, sequences)))
    by_value = np.array([distinct.index(tuple(s)) for s in sequences])
    np.testing.assert_array_equal(
        by_hash[:, None] == by_hash[None], by_value[:, None] == by_value[None]
    )
    rng = np.random.default_rng(1)
    many = rng.integers(0, 3, (20_000, 12))  # 531,441 possible rows: many repeat
    hashes = hash_sequences(many.ravel(), np.full(len(many), 12))
    assert len(np.unique(hashes)) == len(np.unique(many, axis=0))
    assert len(set(hash_strings(tf.constant([b"a", b"b", b"a", b""])))) == 3


def test_a_table_with_copies_conflicts_gaps_and_groups(tmp_path: Path) -> None:
    def row(a: float, b: float, kind: str, group: str) -> dict[str, Any]:
        return {"values": [a, b], "label": kind, "who": group}

    train = [row(1, 10, "no", "x"), row(1, 10, "yes", "x"), row(3, 30, "no", "y")]
    train += [row(5, 50, "no", "z"), row(float("nan"), 0, "no", "z")]
    test = [row(3, 30, "no", "y"), row(-0.0, 7, "yes", "v"), row(0.0, 7, "yes", "w")]
    features = {
        "values": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        "label": label(),
        "who": tfds.features.Text(),
    }
    text = describe_tiny(
        tmp_path,
        features,
        {"train": train, "test": test},
        feature_names=["left", "right"],
        group_feature="who",
        dropped={"empty": 4},
        class_counts={"no": 6, "yes": 2},
        generated=True,
    )
    assert line_of(text, "no ") == "no 4 80.0 % 1 33.3 % 5 62.5 %"
    assert line_of(text, "dropped") == "dropped when it was built: 4 (empty)"
    assert "GENERATED data" in text
    assert "the builder counted otherwise: {'no': 6, 'yes': 2}" in text
    # Of the rows of train that are finite: 1, 1, 3, 5.
    assert line_of(text, "left").split()[:6] == ["left", "1", "2.5", "5", "1.658", "3"]
    assert "train: not finite (a model cannot be trained on these): left 1" in text
    assert line_of(text, "+1.000") == "+1.000 left, right"
    assert line_of(text, "Copies by rows").startswith("Copies by rows: 5 of 8 are distinct")
    assert (
        line_of(text, "train: 1 repeat") == "train: 1 repeat another one; 1 (20.0 %) also in test"
    )
    assert line_of(text, "test: 1 repeat") == "test: 1 repeat another one; 1 (33.3 %) also in train"
    assert "1 of those that stand several times have different classes" in text
    assert line_of(text, "Groups by who: 5, of which 3 hold several examples, at most 2")
    assert line_of(text, "1 groups are both in train and test (1 examples of test)")


def test_texts_by_word(tmp_path: Path) -> None:
    praise = ["Good, good BOOK!", "a good day", "Good, good BOOK!"]
    blame = ["bad day", ""]
    examples = [{"text": t, "label": "yes"} for t in praise]
    examples += [{"text": t, "label": "no"} for t in blame]
    features = {"text": tfds.features.Text(), "label": label()}
    text = describe_tiny(tmp_path, features, {"train": examples})
    lengths = [3, 3, 3, 2, 0]
    cells = line_of(text, "train 0").split()
    assert cells[1:9] == [
        f"{v:.0f}" for v in np.percentile(lengths, (0, 5, 25, 50, 75, 95, 99, 100))
    ]
    assert cells[9] == "2.2"
    assert "empty: 1" in text
    assert line_of(text, "11 words, 5 distinct, 2 once")
    assert line_of(text, "yes: ").startswith("yes: good, book, ")
    assert line_of(text, "Copies by texts").startswith("Copies by texts: 4 of 5 are distinct")


def test_ids_by_vocabulary_and_genres(tmp_path: Path) -> None:
    features = {
        "ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "label": label(),
        "genres": tfds.features.Tensor(shape=(None,), dtype=np.uint8),
    }
    examples = [
        {"ids": [2, 3, 2, 1], "label": "no", "genres": [1, 0]},
        {"ids": [3, 4], "label": "yes", "genres": [1, 1]},
        {"ids": [], "label": "yes", "genres": [0, 1]},
    ]
    notes = {"genre_names": ["folk", "ska"]}
    text = describe_tiny(tmp_path, features, {"train": examples}, **notes)
    assert "the set stores no vocabulary" in text
    assert line_of(text, "no: ") == "no: #2, #3"
    assert line_of(text, "folk") == "folk 2 66.7 %"
    assert "by their number: 1: 2, 2: 1" in text
    directory = tmp_path / "data" / "tiny" / "1.0.0"
    (directory / "ids.vocabulary.txt").write_text("[PAD]\n[UNK]\nsea\nsun\nsky\n")
    text, _ = describe(str(directory), output=str(tmp_path / "again"))
    assert line_of(text, "no: ") == "no: sea, sun"
    assert line_of(text, "yes: ") == "yes: sun, sky"


def encode(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_pictures_of_any_size_without_stored_facts(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    colour = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    grey = np.broadcast_to(colour[..., :1], colour.shape)
    files = [encode(colour, "JPEG"), encode(grey, "PNG"), encode(colour[:10], "PNG"), b"no picture"]
    files.append(files[1])
    assert [header_size(data) for data in files[:4]] == [(30, 20), (30, 20), (30, 10), (0, 0)]
    examples = [{"image": io.BytesIO(data), "label": i % 2} for i, data in enumerate(files)]
    features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": label()}
    text = describe_tiny(tmp_path, features, {"train": examples})
    assert line_of(text, "30 x 20") == "30 x 20 3 60.0 %"
    assert "1 files are no pictures that can be read, the first is record 3" in text
    assert line_of(text, "train 2 of") == "train 2 of 4 looked at, 50.0 %"
    assert f"{min(map(len, files))}" in line_of(text, "train 10 ")
    assert line_of(text, "Copies by file bytes").startswith("Copies by file bytes: 4 of 5")


def test_a_picture_whose_decoder_warns_is_named(tmp_path: Path, capfd: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    files = [encode(noise, "JPEG") for _ in range(3)]
    files[1] = files[1][:-200] + files[1][-2:]  # libjpeg fills the end with grey, and warns
    rows = [{"image": io.BytesIO(one), "label": 0} for one in files]
    spec = {"image": tfds.features.Image(shape=(None, None, 3)), "label": label("a")}
    directory = build_tiny(tmp_path, spec, {"train": rows}, input_feature="image")
    capfd.readouterr()
    assert main([str(directory), f"--output={tmp_path / 'out'}"]) == 0
    said = [x for x in capfd.readouterr().err.splitlines() if "Corrupt" in x]
    begin = f"note: {directory}/tiny-train.tfrecord-00000-of-00001, record 1 at byte "
    assert said and len(set(said)) == 1 and said[0].startswith(begin), said
    assert said[0].endswith(": Corrupt JPEG data: premature end of data segment")


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_the_synthetic_sets(name: str, synthetic_data_dir: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "figures")
    text, folder = describe(f"{name}/synthetic", str(synthetic_data_dir), output)
    assert "GENERATED data" in text
    assert "counted otherwise" not in text
    info = tfds.builder(f"{name}/synthetic", data_dir=synthetic_data_dir).info
    total = sum(split.num_examples for split in info.splits.values())
    assert f"{total:,} 100.0 %" in line_of(text, "together")
    assert len(list(folder.glob("*.png"))) >= 3
    if name == "brain_tumor_mri":
        distinct = set()
        for split in info.splits:
            rows = tfds.load(f"{name}/synthetic", split=split, data_dir=synthetic_data_dir)
            distinct |= {row["pixel_hash"] for row in rows.as_numpy_iterator()}
        assert f"Copies by decoded pixels: {len(distinct):,} of {total:,}" in text


def test_errors_are_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nothing", "--data-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: data set: no prepared set 'nothing'")
    assert error.count("\n") == 1
    features = {"values": tfds.features.Tensor(shape=(2,), dtype=np.float32), "label": label()}
    examples = {"train": [{"values": [i, 1], "label": "no"} for i in range(9)]}
    builder = TinyBuilder(features, examples, tmp_path)
    builder.download_and_prepare()
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert main([builder.data_dir, "--output", str(taken)]) == 1
    assert "error: describe: --output expected a folder" in capsys.readouterr().err
    shard = next(Path(builder.data_dir).glob("*tfrecord*"))
    data = bytearray(shard.read_bytes())
    data[-6] ^= 1
    shard.write_bytes(data)
    assert main([builder.data_dir, "--output", str(tmp_path / "figures")]) == 1
    assert "record 8 at byte" in capsys.readouterr().err
    assert not list((tmp_path / "figures").iterdir())
