"""Peer: a plain TFDS builder of each set, as TFDS's guide writes one.

https://www.tensorflow.org/datasets/add_dataset: files in, examples out, one after the other, in one
process. It checks no file, finds no copies, draws no validation split, cleans no text, keeps no
index and no fingerprint.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

_VERSION = tfds.core.Version("1.0.0")


class PlainFetalHealth(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Rows of `fetal_health.csv`: features float32 [21] and label."""

    VERSION = _VERSION
    source = Path()

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "features": tfds.features.Tensor(shape=(21,), dtype=np.float32),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {"train": self._generate_examples(self.source / "fetal_health.csv")}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file)):
                # The file has the classes as 1.0, 2.0 and 3.0.
                label = int(float(row.pop("fetal_health"))) - 1
                features = np.array(list(row.values()), np.float32)
                yield number, {"features": features, "label": label}


class PlainBrainTumorMri(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Files below `Training` and `Testing`: the JPEG's bytes and its folder's name."""

    VERSION = _VERSION
    source = Path()

    def _info(self) -> tfds.core.DatasetInfo:
        names = sorted(folder.name for folder in (self.source / "Training").iterdir())
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=names),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        folders = {"train": "Training", "test": "Testing"}
        return {split: self._generate_examples(self.source / f) for split, f in folders.items()}

    def _generate_examples(self, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in sorted(folder.glob("*/*.jpg")):
            key = f"{file.parent.name}/{file.name}"
            yield key, {"image": file, "label": file.parent.name}


class PlainSongLyrics(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """English rows of `lyrics-data.csv` whose artist has a genre: the text as it came, and that."""

    VERSION = _VERSION
    source = Path()

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        # An artist may be listed twice, which would double the songs in the merge.
        artists = pd.read_csv(self.source / "artists-data.csv").drop_duplicates("Link")
        lyrics = pd.read_csv(self.source / "lyrics-data.csv")
        rows = lyrics[lyrics["Idiom"] == "ENGLISH"].merge(artists, left_on="ALink", right_on="Link")
        rows = rows.dropna(subset=["Lyric", "Genre"])
        for number, (text, genre) in enumerate(zip(rows["Lyric"], rows["Genre"])):
            yield number, {"text": text, "label": genre}


_BUILDERS: dict[str, Any] = {
    "fetal_health": PlainFetalHealth,
    "brain_tumor_mri": PlainBrainTumorMri,
    "song_lyrics": PlainSongLyrics,
}


def build(name: str, source: Path, data_dir: str) -> None:
    """Builds a set from the files in `source` into `data_dir`/plain_NAME."""
    builder = _BUILDERS[name]
    # Before it is made: its constructor asks for `_info`, which lists the folders.
    builder.source = source
    builder(data_dir=data_dir).download_and_prepare()
