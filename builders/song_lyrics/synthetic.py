"""Generates the two CSV files: invented English lines, in the layout and with the quirks of Kaggle.

Each line fills a pattern with ordinary words. A slot takes a word of the song's genre now and then,
and one song in six borrows the words of another genre, so that the genre can be learned from the
words, but not perfectly (TF-IDF and a linear model: about 0.8).
"""

import csv
import random
import re
from collections.abc import Sequence
from pathlib import Path

from builders.song_lyrics import tables
from builders.song_lyrics.synthetic_words import COMMON, GENRES, PATTERNS, PORTUGUESE, SPANISH

_SEED = 20_240_501
_ARTISTS = 420
_SONGS = 3_900
_GENRE_WEIGHTS = (30, 26, 20, 9, 8, 7)
# Chosen so that TF-IDF and a linear model reach about 0.8; see the tests.
_GENRE_WORD_SHARE = 0.12
_BORROWED_SHARE = 0.15


class _Dice:
    """Draws from `random()` alone, the one method whose sequence Python keeps over versions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def chance(self, share: float) -> bool:
        return self._random() < share

    def between(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low + 1))

    def pick(self, values: Sequence[str]) -> str:
        return values[int(self._random() * len(values))]

    def weighted(self, values: Sequence[str], weights: Sequence[int]) -> str:
        point = self._random() * sum(weights)
        for value, weight in zip(values, weights, strict=True):
            point -= weight
            if point < 0:
                return value
        return values[-1]


def write_tables(directory: Path, songs: int = _SONGS, artists: int = _ARTISTS) -> None:
    """Writes `artists-data.csv` and `lyrics-data.csv`, always the same ones.

    Args:
      songs: rows of the lyrics file, apart from repeated songs; some four in five are usable.
      artists: artist links; some stand in two rows with different genres.
    """
    dice = _Dice(_SEED)
    primary = _artist_genres(dice, artists)
    _write(
        directory / tables.ARTISTS_FILE,
        ("Artist", "Songs", "Popularity", "Link", "Genre"),
        _artist_rows(dice, primary),
    )
    _write(
        directory / tables.LYRICS_FILE,
        ("ALink", "SName", "SLink", "Lyric", "Idiom"),
        _lyric_rows(dice, primary, songs),
    )


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _artist_genres(dice: _Dice, artists: int) -> dict[str, str]:
    """Returns {name: primary genre}."""
    names = list(GENRES)
    genres: dict[str, str] = {}
    while len(genres) < artists:
        words = [dice.pick(COMMON["adjective"]), dice.pick(COMMON["noun"])]
        name = f"The {' '.join(words).title()}s {len(genres) + 1}"
        genres[name] = dice.weighted(names, _GENRE_WEIGHTS)
    return genres


def _link(name: str) -> str:
    return "/" + name.lower().replace(" ", "-") + "/"


def _artist_rows(dice: _Dice, primary: dict[str, str]) -> list[list[str]]:
    rows, later = [], []
    for name, genre in primary.items():
        row = [name, str(dice.between(5, 200)), f"{dice.between(0, 90) / 10}", _link(name)]
        rows.append([*row, genre])
        other = dice.pick(list(GENRES))
        # The same link again, further down, with another genre.
        if dice.chance(0.2) and other != genre:
            later.append([*row, other])
    return rows + later


def _lyric_rows(dice: _Dice, primary: dict[str, str], songs: int) -> list[list[str]]:
    names = list(primary)
    rows = []
    for number in range(songs):
        name = dice.pick(names)
        title = f"{dice.pick(COMMON['adjective'])} {dice.pick(COMMON['noun'])} {number}"
        link = f"{_link(name)}{title.replace(' ', '-')}.html"
        idiom = dice.weighted(("ENGLISH", "PORTUGUESE", "SPANISH", ""), (84, 11, 4, 1))
        text = _lyric(dice, primary[name], idiom)
        # The reader must leave out songs whose artist has no row.
        artist_link = _link(name) if not dice.chance(0.02) else f"/gone-{number}/"
        rows.append([artist_link, title.title(), link, text, idiom])
        if dice.chance(0.04):
            # The same song under a second artist, typed a little differently.
            guest = _link(dice.pick(names))
            copy = text.replace("\n", "\n\n").replace(",", "")
            rows.append([guest, title.title(), f"{guest}{title.replace(' ', '-')}", copy, idiom])
    return rows


def _lyric(dice: _Dice, genre: str, idiom: str) -> str:
    if dice.chance(0.02):
        return dice.pick(("", " ", "[Instrumental]"))
    if idiom in ("PORTUGUESE", "SPANISH"):
        words = PORTUGUESE if idiom == "PORTUGUESE" else SPANISH
        lines = [
            " ".join(dice.pick(words) for _ in range(dice.between(3, 7)))
            for _ in range(dice.between(8, 16))
        ]
        return "\n".join(lines)
    if dice.chance(_BORROWED_SHARE):
        genre = dice.pick(list(GENRES))
    return _song(dice, genre)


def _song(dice: _Dice, genre: str) -> str:
    chorus = [_line(dice, genre) for _ in range(dice.between(2, 3))]
    parts = []
    for number in range(1, dice.between(2, 3) + 1):
        header = dice.pick((f"[Verse {number}]", f"(Verse {number})", "", ""))
        verse = [_line(dice, genre) for _ in range(dice.between(3, 4))]
        repeat = dice.pick(("[Chorus]", "Chorus:", "(Chorus)", "[Chorus x2]", "", ""))
        parts.append("\n".join(filter(None, [header, *verse, "", repeat, *chorus])))
    text = "\n\n".join(parts)
    if dice.chance(0.4):
        text = text.replace("'", "’")
    # The reader must take both kinds of line ends.
    return text.replace("\n", "\r\n") if dice.chance(0.1) else text


def _line(dice: _Dice, genre: str) -> str:
    def fill(slot: re.Match[str]) -> str:
        own = dice.chance(_GENRE_WORD_SHARE)
        return dice.pick((GENRES[genre] if own else COMMON)[slot[1]])

    line = re.sub(r"\{(\w+)\}", fill, dice.pick(PATTERNS))
    line = line[0].upper() + line[1:]
    return f"“{line}”" if dice.chance(0.03) else line
