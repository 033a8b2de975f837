"""TFDS builder of the set song_lyrics: lyrics with the genre of their artist."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from builders.base import SYNTHETIC, RecordsBuilder
from builders.song_lyrics import songs, synthetic, tables
from builders.song_lyrics.vocabulary import write_vocabulary
from builders.writing import NumberedExamples
from records.decoding import cleaning

_KAGGLE = "neisse/scrapped-lyrics-from-6-genres"
_SPLIT_BY = ("song", "artist")


@dataclasses.dataclass(kw_only=True)
class LyricsConfig(tfds.core.BuilderConfig):
    """A configuration of the set."""

    language: str = "en"  # spaCy code of the language to keep, which is also cleaned by its rules
    split_by: str = "song"  # what is kept whole in one split: `song` or `artist`

    def __post_init__(self) -> None:
        if self.split_by not in _SPLIT_BY:
            raise ValueError(
                f"{tables.PLACE}: split_by expected one of {', '.join(_SPLIT_BY)}, "
                f"received {self.split_by!r}"
            )


class Builder(RecordsBuilder):
    """Builds song_lyrics from `artists-data.csv` and `lyrics-data.csv`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    NUM_SHARDS = 8
    BUILDER_CONFIGS = [
        LyricsConfig(name="kaggle", description="English songs of the Kaggle set, split by song."),
        LyricsConfig(
            name="by_artist",
            description="As kaggle, but all songs of an artist are in one split.",
            split_by="artist",
        ),
        LyricsConfig(name=SYNTHETIC, description="About 3,000 generated songs; split by song."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download https://www.kaggle.com/datasets/{_KAGGLE}, unpack it and name the directory "
        f"that holds {tables.ARTISTS_FILE} and {tables.LYRICS_FILE} with --manual_dir."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        ids = tfds.features.Tensor(shape=(None,), dtype=np.int32)
        return self.make_info(
            {
                "text": tfds.features.Text(),
                # Both cleanings are stored: which one to train on is chosen without a new build.
                "token_ids": ids,
                "token_ids_basic": ids,
                # The names are those of the files; `_split_generators` sets them.
                "label": tfds.features.ClassLabel(),
                # One number per genre of the files, 0 or 1: how many there are is known once they
                # are read.
                "genres": tfds.features.Tensor(shape=(None,), dtype=np.uint8),
                "artist": tfds.features.Text(),
                "id": tfds.features.Text(),
            },
            input_feature="token_ids",
            id_feature="id",
            group_feature="artist",
            homepage=f"https://www.kaggle.com/datasets/{_KAGGLE}",
            metadata={
                "language": self.builder_config.language,
                "split_by": self.builder_config.split_by,
            },
        )

    def write_synthetic_source(self, directory: Path) -> None:
        """Writes the two generated CSV files."""
        synthetic.write_tables(directory)

    def _split_generators(self, dl_manager: Any) -> dict[str, NumberedExamples]:
        language = self.builder_config.language
        # Files write a language as a code or by its name.
        written_as = (language, cleaning.check_language(language))
        files = (tables.ARTISTS_FILE, tables.LYRICS_FILE)
        source = self.find_source(dl_manager, files, _KAGGLE)
        table = songs.read(source, language, written_as, self._progress, workers=self.workers)
        counts = Counter(song.artist.label for song in table.songs)
        names = sorted(counts)
        genre_names = sorted({genre for song in table.songs for genre in song.artist.genres})
        self.info.features["label"].names = names
        self.info.metadata["genre_names"] = genre_names
        self._say_counts(table)
        self.set_counts(
            {name: counts[name] for name in names},
            {reason: n for reason, n in sorted(table.drops.reasons.items()) if n},
        )
        splits = [songs.split_of(song, self.builder_config.split_by) for song in table.songs]
        # After the split: ids are ranked by their counts in train.
        final_ids = self._rank(table, splits)
        make = functools.partial(
            songs.make_example, path=table.path, final_ids=final_ids, genre_names=genre_names
        )
        return {
            split: self._generate_examples(
                table.songs, make, [i for i, its_split in enumerate(splits) if its_split == split]
            )
            for split in songs.SPLITS
            if split in splits
        }

    def _progress(self, iterator: Iterator[Any]) -> Iterator[Any]:
        return tfds.core.utils.tqdm(
            iterator,
            unit=" songs",
            desc="Cleaning lyrics...",
            leave=False,
            mininterval=1,
        )

    def _say_counts(self, table: songs.SongTable) -> None:
        self.report(
            f"kept {len(table.songs)} of {table.drops.language_rows} rows in "
            f"{self.builder_config.language}, of {sum(table.drops.languages.values())} in all"
        )
        for note in table.drops.notes:
            self.report(note)

    def _rank(self, table: songs.SongTable, splits: list[str]) -> dict[str, np.ndarray]:
        """Writes the vocabularies; returns {feature: final id by provisional id}."""
        in_train = [split == "train" for split in splits]
        final_ids = {}
        for feature, vocabulary in table.vocabularies.items():
            texts = [song.ids[feature] for song in table.songs]
            tokens, final_ids[feature] = vocabulary.rank(texts, in_train)
            write_vocabulary(Path(self.data_dir), feature, tokens)
        return final_ids

    def _generate_examples(
        self, found: list[songs.Song], make: Any, numbers: list[int]
    ) -> NumberedExamples:
        """Songs by number: they are encoded on all cores."""
        return NumberedExamples(numbers, make, found.__getitem__)
