"""One song per example: joins artists, tokenizes, drops repeats and splits."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builders.song_lyrics import tables
from builders.song_lyrics.vocabulary import Vocabulary
from builders.writing import SourcedKey
from records.decoding import cleaning

SPLITS = ("train", "validation", "test")
_TENTHS = ("train",) * 8 + ("validation", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Song:
    """One example."""

    id: str  # the song's link; without one, its artist's link and content
    text: str  # the lyric as it came
    artist: tables.Artist  # the artist of the first row of this song
    content: bytes  # hash of its words, 16 bytes
    ids: dict[str, np.ndarray]  # {feature: provisional token ids, int32 [T]}
    row: int  # number of its row in the lyrics file, from 1; a lyric takes many lines


@dataclasses.dataclass(frozen=True)
class SongTable:
    """All songs of the lyrics file `path` in its order, vocabularies and counts of rows."""

    songs: list[Song]
    vocabularies: dict[str, Vocabulary]
    drops: tables.Drops
    path: Path


def read(
    source: Path,
    language: str,
    written_as: Sequence[str],
    progress: Callable[[Iterator[Any]], Iterator[Any]],
    num_processes: int | None = None,
    workers: Any = None,
) -> SongTable:
    """Reads the two files of `source` and returns every usable song once.

    Two rows are one song if they have the same song link, or the same words in the same order,
    whatever case, punctuation and line breaks (`cleaning.basic_tokens`), under the same artist or
    another. The first usable row stays, with its artist; the genres of the others are added to it.

    Args:
      source: directory of `artists-data.csv` and `lyrics-data.csv`.
      language: spaCy language code.
      written_as: the ways the files write that language, in lower case.
      progress: wraps an iterator to show how far it is.
      num_processes: worker processes for cleaning; default one per core.
      workers: a `BeamRun`, whose workers clean in place of such processes, or None.

    Raises:
      ValueError: a file is not as expected, or under half of the rows in the language are usable.
    """
    drops = tables.Drops()
    artists = tables.read_artists(source / tables.ARTISTS_FILE, drops)
    lyrics = source / tables.LYRICS_FILE
    rows = tables.read_songs(lyrics, artists, written_as, drops)
    vocabularies = {"token_ids": Vocabulary(), "token_ids_basic": Vocabulary()}
    # Read a little ahead, so that the cores that clean do not wait for the file.
    rows, ahead = itertools.tee(rows)
    texts = (text for *_, text in ahead)
    tokens = progress(cleaning.both_tokens(texts, num_processes, language, workers and workers.map))
    songs = _unique_songs(rows, tokens, artists, vocabularies, drops)
    tables.check_enough(len(songs), drops, lyrics)
    return SongTable(songs, vocabularies, drops, lyrics)


def _unique_songs(
    rows: Iterable[tuple[int, str, str, str]],
    tokens: Iterator[tuple[list[str], list[str]]],
    artists: dict[str, tables.Artist],
    vocabularies: dict[str, Vocabulary],
    drops: tables.Drops,
) -> list[Song]:
    songs: list[Song] = []
    by_link: dict[str, int] = {}
    by_content: dict[bytes, int] = {}
    for (row, artist_link, link, text), (clean, basic) in zip(rows, tokens, strict=True):
        if not clean:
            drops.reasons[tables.NO_WORDS] += 1
            continue
        # By the basic words: cleaning drops stop words, and two songs may differ in these alone.
        content = hashlib.blake2b(" ".join(basic).encode(), digest_size=16).digest()
        # The link first: it names the song, also where its words were typed differently.
        first = by_link.get(link) if link in by_link else by_content.get(content)
        number = len(songs) if first is None else first
        by_content.setdefault(content, number)
        if link:
            by_link.setdefault(link, number)
        if first is not None:
            drops.reasons[tables.REPEATED] += 1
            songs[first] = _with_genres(songs[first], artists[artist_link])
            continue
        ids = {
            name: vocabulary.encode(words)
            for (name, vocabulary), words in zip(vocabularies.items(), (clean, basic), strict=True)
        }
        identity = link or f"{artist_link}#{content.hex()}"
        songs.append(Song(identity, text, artists[artist_link], content, ids, row))
    return songs


def _with_genres(song: Song, other: tables.Artist) -> Song:
    genres = tuple(dict.fromkeys(song.artist.genres + other.genres))
    if genres == song.artist.genres:
        return song
    return dataclasses.replace(song, artist=dataclasses.replace(song.artist, genres=genres))


def make_example(
    song: Song, path: Path, final_ids: dict[str, np.ndarray], genre_names: list[str]
) -> tuple[str, dict[str, Any]]:
    """(key, example) of a song of the file `path`; `final_ids`: {feature: by provisional id}."""
    genres = [genre in song.artist.genres for genre in genre_names]
    return SourcedKey(song.id, f"{path}, row {song.row}"), {
        "text": song.text,
        **{name: final_ids[name][ids] for name, ids in song.ids.items()},
        "label": song.artist.label,
        "genres": np.asarray(genres, np.uint8),
        "artist": song.artist.name,
        "id": song.id,
    }


def split_of(song: Song, split_by: str) -> str:
    """Returns the split of a song by the hash of its words (`song`) or artist's name (`artist`).

    The files' order and their other rows have no part in it, so a song that a later download still
    holds stays in its split.
    """
    content = song.content
    if split_by == "artist":
        content = " ".join(song.artist.name.casefold().split()).encode()
    value = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
    return _TENTHS[value % 10]
