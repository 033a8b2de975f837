"""Builds song_lyrics with TFDS and checks what can be read back."""

import csv
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from builders.song_lyrics import song_lyrics_dataset_builder as module
from builders.song_lyrics import songs, synthetic
from records.decoding import cleaning

_REPOSITORY = Path(__file__).resolve().parents[2]
_SHARED = Path(os.environ.get("SHARED_DATA") or _REPOSITORY.parent / "shared" / "data")


class KaggleTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks, on the generated files in dummy_data."""

    DATASET_CLASS = module.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["kaggle"]
    SPLITS = {"train": 23, "validation": 2, "test": 4}


class ByArtistTest(tfds.testing.DatasetBuilderTestCase):
    """The same for the split by artist."""

    DATASET_CLASS = module.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["by_artist"]
    SPLITS = {"train": 24, "validation": 1, "test": 4}


def _build(data_dir: Path, source: Path | None, config: Any = "kaggle") -> Any:
    builder = module.Builder(data_dir=data_dir, config=config)
    request = tfds.download.DownloadConfig(manual_dir=source)
    builder.download_and_prepare(download_config=request)
    return builder


def _read(source: Path) -> songs.SongTable:
    return songs.read(source, "en", ("en", "english"), lambda items: items)


def _rows(builder: Any, split: str) -> list[dict[str, Any]]:
    return list(tfds.as_numpy(builder.as_dataset(split=split)))


@pytest.fixture(scope="module", name="small_set")
def _small_set(tmp_path_factory: pytest.TempPathFactory) -> Any:
    source = tmp_path_factory.mktemp("small")
    synthetic.write_tables(source, songs=300, artists=60)
    return _build(source / "data", source, "by_artist")


def test_reads_back_by_name_and_by_directory(tmp_path: Path) -> None:
    synthetic_set = _build(tmp_path, None, "synthetic")
    names = sorted(["Rock", "Pop", "Hip Hop", "Funk Carioca", "Samba", "Sertanejo"])
    opened = [
        tfds.builder_from_directory(synthetic_set.data_dir),
        tfds.builder("song_lyrics/synthetic", data_dir=tmp_path),
    ]
    for builder in opened:
        assert builder.info.features["label"].names == names
        metadata = builder.info.metadata
        assert metadata["genre_names"] == names
        assert metadata["generated"] is True
        assert (metadata["input_feature"], metadata["group_feature"]) == ("token_ids", "artist")
        assert list(metadata["class_counts"]) == names
        total = sum(split.num_examples for split in builder.info.splits.values())
        assert sum(metadata["class_counts"].values()) == total
        assert 2800 < total < 3400
    assert set(opened[0].info.metadata["dropped"]) == {
        "other language",
        "empty lyric",
        "artist without rows",
        "lyric empty after cleaning",
        "song repeated",
    }
    row = _rows(opened[0], "validation")[0]
    assert row["token_ids"].dtype == row["token_ids_basic"].dtype == np.int32
    assert (row["genres"].dtype, row["genres"].shape) == (np.uint8, (6,))
    assert row["genres"][row["label"]] == 1


def test_vocabulary_ranks_against_a_count_of_the_text(small_set: Any) -> None:
    tokenizers = {"token_ids": cleaning.clean_text, "token_ids_basic": cleaning.basic_tokens}
    rows = {split: _rows(small_set, split) for split in small_set.info.splits}
    for feature, tokenize in tokenizers.items():
        path = Path(small_set.data_dir) / f"{feature}.vocabulary.txt"
        vocabulary = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        train: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for split, examples in rows.items():
            for row in examples:
                tokens = tokenize(row["text"].decode())
                assert [vocabulary[i] for i in row[feature]] == tokens
                total.update(tokens)
                train.update(tokens if split == "train" else [])
        ranked = sorted(total, key=lambda token: (-train[token], -total[token], token))
        assert vocabulary == ["[PAD]", "[UNK]", *ranked]


def test_genre_is_learnable_but_not_trivially(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    synthetic.write_tables(tmp_path)
    table = _read(tmp_path)

    def words_and_labels(split: str) -> tuple[list[str], list[str]]:
        chosen = [song for song in table.songs if songs.split_of(song, "song") == split]
        texts = [" ".join(map(str, song.ids["token_ids"])) for song in chosen]
        return texts, [song.artist.label for song in chosen]

    vectorizer = TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True)
    texts, labels = words_and_labels("train")
    model = LinearSVC().fit(vectorizer.fit_transform(texts), labels)
    texts, labels = words_and_labels("test")
    assert 0.75 <= model.score(vectorizer.transform(texts), labels) <= 0.85


def test_by_artist_keeps_artists_apart(small_set: Any) -> None:
    artists = [{r["artist"] for r in _rows(small_set, split)} for split in songs.SPLITS]
    assert all(artists)
    assert sum(map(len, artists)) == len(set.union(*artists))


def test_language_is_a_config_field(tmp_path: Path) -> None:
    synthetic.write_tables(tmp_path, songs=300, artists=60)
    config = module.LyricsConfig(name="portuguese", language="pt")
    builder = _build(tmp_path / "data", tmp_path, config)
    words = " ".join(r["text"].decode() for r in _rows(builder, "train")).split()
    assert "coração" in words and "the" not in words


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    synthetic.write_tables(tmp_path, songs=50, artists=10)
    path = tmp_path / "lyrics-data.csv"
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *([r[0], r[1], r[2], "", r[4]] for r in rows)])
    with pytest.raises(ValueError, match=r"builders/song_lyrics: .*received 0.*empty lyric \d+"):
        _build(tmp_path / "data", tmp_path)
    left = [p for p in (tmp_path / "data").rglob("*") if p.is_file() and "metadata" not in p.name]
    assert left == []


def test_unknown_split_by_is_refused() -> None:
    with pytest.raises(ValueError, match="split_by expected one of song, artist, received 'album'"):
        module.LyricsConfig(name="x", split_by="album")


@pytest.mark.real_data
@pytest.mark.skipif(not (_SHARED / "song_lyrics").is_dir(), reason="no shared data")
def test_every_shared_song_is_kept() -> None:
    table = _read(_SHARED / "song_lyrics")
    assert len(table.songs) == 28_372
    assert not +table.drops.reasons
    assert len({song.id for song in table.songs}) == 28_372
    splits = Counter(songs.split_of(song, "song") for song in table.songs)
    for split, share in zip(songs.SPLITS, (0.8, 0.1, 0.1)):
        assert splits[split] == pytest.approx(share * 28_372, rel=0.02)


def test_documents_name_every_feature() -> None:
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    features = re.findall(r"^\| `(\w+)` \|.*\|$", text, re.MULTILINE)
    assert {*module.Builder(config="kaggle").info.features} <= set(features)
