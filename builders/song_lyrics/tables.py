"""Reads the two CSV files of the Kaggle lyrics, in both column layouts, into one row per song."""

import contextlib
import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from builders.song_lyrics import genres as genre_columns
from records.system.table_file import find_separator, plain_name

PLACE = "builders/song_lyrics"
ARTISTS_FILE = "artists-data.csv"
LYRICS_FILE = "lyrics-data.csv"

# Reasons for leaving a row of the lyrics file out, in the order in which they are tested.
OTHER_LANGUAGE = "other language"
EMPTY_LYRIC = "empty lyric"
UNKNOWN_ARTIST = "artist without rows"
NO_GENRE = "artist without genre"
NO_WORDS = "lyric empty after cleaning"
REPEATED = "song repeated"

# Rows per step of reading: what is read is cleaned on other cores while the next step is read.
_CHUNK_ROWS = 4096

# keep_default_na=False: artists and songs are called NA, None and Null.
# index_col=False: else rows that are all too wide would shift their cells without a word.
_CSV: dict[str, Any] = {
    "dtype": str,
    "keep_default_na": False,
    "encoding": "utf-8-sig",
    "index_col": False,
}


@dataclasses.dataclass(frozen=True)
class Artist:
    """What the artists file says of one artist link, all of its rows together."""

    name: str  # the name in the first row
    label: str  # the primary genre
    genres: tuple[str, ...]  # all genres, in the order in which they stand there


@dataclasses.dataclass
class Drops:
    """Counts of the rows of the lyrics file."""

    reasons: Counter[str] = dataclasses.field(default_factory=Counter)  # {reason: rows left out}
    language_rows: int = 0  # rows in the wanted language, usable or not
    # {language as written: rows}.
    languages: Counter[str] = dataclasses.field(default_factory=Counter)
    # Sentences that say how columns were read.
    notes: list[str] = dataclasses.field(default_factory=list)


def read_artists(path: Path, drops: Drops | None = None) -> dict[str, Artist]:
    """Returns {link: artist} of the artists file; `drops` takes a note of how genres were read.

    The primary genre is the `Genre` of the first row that has one, else the first of `Genres`. A
    cell may hold several genres, see `genres.split_column`; spellings that differ by case are one
    genre.

    Raises:
      ValueError: a column is missing, or the file is not a CSV table.
    """
    columns, how = _find_columns(path, ("Artist", "Link"), ("Genre", "Genres"))
    with _table_errors(path):
        table = pd.read_csv(path, **how).rename(columns=plain_name)[columns].fillna("")
    table = table.apply(lambda column: column.str.strip())
    names: dict[str, str] = {}
    genres: dict[str, list[str]] = {}  # of each link: first those of `Genre`, then of `Genres`
    for name, link in zip(table["Artist"].tolist(), table["Link"].tolist()):
        # The first row that has a name.
        names[link] = names.get(link) or name
        genres[link] = []
    # A newer layout has only `Genres`, an older one only `Genre`.
    for column in ("Genre", "Genres"):
        if column in table:
            cells, said = genre_columns.split_column(table[column].tolist())
            for link, found in zip(table["Link"].tolist(), cells, strict=True):
                genres[link] += found
            if drops is not None and said:
                drops.notes.append(f"{path.name}, column {column!r}: {', '.join(said)}")
    spelled = genre_columns.choose_spellings(one for found in genres.values() for one in found)
    joined = sorted(f"{name} is {one}" for name, one in spelled.items() if name != one)
    if drops is not None and joined:
        drops.notes.append(f"{path.name}: one genre in several spellings: {', '.join(joined)}")
    artists = {}
    for link, named in genres.items():
        named_once = tuple(dict.fromkeys(spelled[genre] for genre in named))
        artists[link] = Artist(names[link], named_once[0] if named_once else "", named_once)
    return artists


def read_songs(
    path: Path, artists: dict[str, Artist], language: Sequence[str], drops: Drops
) -> Iterator[tuple[int, str, str, str]]:
    """Yields the rows of the lyrics file that have words and a genre, in file order.

    Args:
      language: the ways the wanted language is written, in lower case, such as `en`, `english`.
      drops: counts of rows, which this adds to.

    Yields:
      The row's number in the file, from 1, `ALink`, `SLink` and `Lyric` (the lyric as it came).

    Raises:
      ValueError: a column is missing, the file is not a CSV table, or it holds no row of the
        language.
    """
    needed = ("ALink", "SLink", "Lyric")
    columns, how = _find_columns(path, needed, ("Idiom", "language"))
    column = "language" if "language" in columns else "Idiom"
    # Reading with `usecols` would accept rows that are too wide.
    with _table_errors(path), pd.read_csv(path, chunksize=_CHUNK_ROWS, **how) as chunks:
        for chunk in chunks:
            rows = chunk.rename(columns=plain_name)[[*needed, column]].fillna("")
            rows = rows.rename(columns={column: "language"})
            usable = _usable_rows(rows, artists, language, drops)[list(needed)]
            numbers = (usable.index + 1).tolist()
            yield from zip(numbers, *(usable[name].tolist() for name in needed), strict=True)
    if not drops.language_rows:
        found = ", ".join(f"{name or '(none)'} {n}" for name, n in drops.languages.most_common(8))
        raise ValueError(
            f"{PLACE}: {path}: column '{column}' expected rows in {' or '.join(language)}, "
            f"received: {found or 'an empty table'}. Set the language in the builder's config"
        )


def _usable_rows(
    rows: pd.DataFrame, artists: dict[str, Artist], language: Sequence[str], drops: Drops
) -> pd.DataFrame:
    written = rows["language"].str.strip()
    drops.languages.update(written.tolist())
    rows = _keep(rows, written.str.lower().isin(language), OTHER_LANGUAGE, drops)
    # Counted before the other reasons: `check_enough` compares with the rows of the language.
    drops.language_rows += len(rows)
    rows = _keep(rows, rows["Lyric"].str.strip() != "", EMPTY_LYRIC, drops)
    rows = rows.assign(ALink=rows["ALink"].str.strip(), SLink=rows["SLink"].str.strip())
    rows = _keep(rows, rows["ALink"].isin(list(artists)), UNKNOWN_ARTIST, drops)
    with_genre = [link for link, artist in artists.items() if artist.genres]
    return _keep(rows, rows["ALink"].isin(with_genre), NO_GENRE, drops)


def _keep(rows: pd.DataFrame, kept: pd.Series, reason: str, drops: Drops) -> pd.DataFrame:
    drops.reasons[reason] += int((~kept).sum())
    return rows[kept]


def check_enough(kept: int, drops: Drops, path: Path) -> None:
    """Raises ValueError, with the reasons and counts, if under half of the rows were kept."""
    if 2 * kept >= drops.language_rows:
        return
    reasons = ", ".join(
        f"{reason} {count}"
        for reason, count in drops.reasons.most_common()
        if count and reason != OTHER_LANGUAGE
    )
    raise ValueError(
        f"{PLACE}: {path}: expected at least half of the {drops.language_rows} rows of the "
        f"language to be usable, received {kept}. Left out: {reasons}. Check that "
        f"{ARTISTS_FILE} and {LYRICS_FILE} are of one download"
    )


def _find_columns(
    path: Path, needed: Sequence[str], one_of: Sequence[str]
) -> tuple[list[str], dict[str, Any]]:
    """(the columns to read, `needed` and those of `one_of` that are there; how pandas reads)."""
    separator, before = find_separator(path, needed, PLACE)
    how = {**_CSV, "sep": separator, "skiprows": before}
    with _table_errors(path):
        header = [plain_name(name) for name in pd.read_csv(path, nrows=0, **how).columns]
    wrong = [name for name in needed if header.count(name) != 1]
    found = [name for name in one_of if header.count(name) == 1]
    if not found:
        wrong.append(" or ".join(one_of))
    if wrong:
        raise ValueError(
            f"{PLACE}: {path}: expected the columns {', '.join(needed)} and "
            f"{' or '.join(one_of)} once each, received {', '.join(header)}; missing or double: "
            f"{', '.join(wrong)}. Download the files anew"
        )
    return [*needed, *found], how


@contextlib.contextmanager
def _table_errors(path: Path) -> Iterator[None]:
    """Turns what pandas raises for a file that is no table into a ValueError that names it."""
    failures = (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError)
    try:
        with warnings.catch_warnings():
            # pandas only warns where it cuts off cells.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except (*failures, pd.errors.ParserWarning) as error:
        raise ValueError(
            f"{PLACE}: {path}: expected a CSV table in UTF-8, received: {error}. "
            "Download the file anew"
        ) from error
