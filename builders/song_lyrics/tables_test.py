"""Tests of reading, joining and dropping rows, on small hand-written tables."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from builders.song_lyrics import genres, songs, synthetic, tables
from builders.song_lyrics.vocabulary import Vocabulary

_OLD_ARTISTS = [
    ("Artist", "Songs", "Popularity", "Link", "Genre"),
    ("Ann", "3", "1", "/ann/", "Rock"),
    ("Bob", "3", "1", "/bob/", "Samba"),
    ("Ann", "3", "1", "/ann/", "Pop"),
    ("NA", "3", "1", "/na/", "Pop"),
    ("Void", "3", "1", "/void/", ""),
]
_NEW_ARTISTS = [
    ("Artist", "Genres", "Songs", "Popularity", "Link"),
    ("Ann", "Rock; Pop;", "3", "1", "/ann/"),
    ("Bob", "Samba", "3", "1", "/bob/"),
    ("NA", " Pop ", "3", "1", "/na/"),
    ("Void", "", "3", "1", "/void/"),
]
_SONGS = [
    ("/ann/", "One", "/ann/one.html", "Golden rivers,\nsilver stones", "ENGLISH"),
    ("/bob/", "Two", "/bob/two.html", "[Verse]\nHold the purple lanterns", "ENGLISH"),
    ("/na/", "Null", "/na/null.html", "NA", "ENGLISH"),
    ("/ann/", "Three", "/ann/three.html", "Amber horses running home", "English "),
    ("/bob/", "Ecos", "/bob/ecos.html", "minha canção", "PORTUGUESE"),
    ("/bob/", "None", "/bob/none.html", "who knows", ""),
    ("/bob/", "Empty", "/bob/empty.html", " \n", "ENGLISH"),
    ("/gone/", "Lost", "/gone/lost.html", "nobody knows this rider", "ENGLISH"),
    ("/void/", "Void", "/void/void.html", "green windows", "ENGLISH"),
    ("/bob/", "Solo", "/bob/solo.html", "[Instrumental]", "ENGLISH"),
    ("/bob/", "One", "/bob/one.html", "golden rivers — silver stones!", "ENGLISH"),
    ("/na/", "Two", "/bob/two.html", "Hold the purple lanterns, again", "ENGLISH"),
    ("/na/", "Six", "/na/six.html", "quiet copper bells", "ENGLISH"),
    ("/ann/", "Six", "/ann/six.html", "quiet copper bells ring", "ENGLISH"),
]


def _write(folder: Path, artists: Sequence[Sequence[str]], lyrics: Sequence[Sequence[str]]) -> Path:
    for name, rows in ((tables.ARTISTS_FILE, artists), (tables.LYRICS_FILE, lyrics)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def _old(folder: Path, rows: Sequence[Sequence[str]] = _SONGS) -> Path:
    return _write(folder, _OLD_ARTISTS, [("ALink", "SName", "SLink", "Lyric", "Idiom"), *rows])


def _new(folder: Path) -> Path:
    codes = {"ENGLISH": "en", "English ": "en", "PORTUGUESE": "pt"}
    rows = [(*row[:4], codes.get(row[4], row[4])) for row in _SONGS]
    return _write(folder, _NEW_ARTISTS, [("ALink", "SName", "SLink", "Lyric", "language"), *rows])


def _read(source: Path, language: str = "en", name: str = "english") -> songs.SongTable:
    return songs.read(source, language, (language, name), lambda items: items)


@pytest.mark.parametrize("write", [_old, _new])
def test_both_layouts_give_the_same_songs(tmp_path: Path, write: object) -> None:
    table = _read(write(tmp_path))  # type: ignore[operator]
    assert [(s.id, s.artist.name, s.artist.label, s.artist.genres) for s in table.songs] == [
        ("/ann/one.html", "Ann", "Rock", ("Rock", "Pop", "Samba")),
        ("/bob/two.html", "Bob", "Samba", ("Samba", "Pop")),
        ("/na/null.html", "NA", "Pop", ("Pop",)),
        ("/ann/three.html", "Ann", "Rock", ("Rock", "Pop")),
        ("/na/six.html", "NA", "Pop", ("Pop",)),
        ("/ann/six.html", "Ann", "Rock", ("Rock", "Pop")),
    ]
    assert table.songs[0].text == "Golden rivers,\nsilver stones"
    assert +table.drops.reasons == {
        tables.OTHER_LANGUAGE: 2,
        tables.EMPTY_LYRIC: 1,
        tables.UNKNOWN_ARTIST: 1,
        tables.NO_GENRE: 1,
        tables.NO_WORDS: 1,
        tables.REPEATED: 2,
    }
    kept = len(table.songs) + sum(table.drops.reasons.values())
    assert kept == len(_SONGS)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_give_the_same_songs(separator: str, tmp_path: Path) -> None:
    expected = _read(_new(tmp_path))
    for name in (tables.ARTISTS_FILE, tables.LYRICS_FILE):
        with open(tmp_path / name, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        with open(tmp_path / name, "w", encoding="utf-8", newline="") as file:
            spaced = [f" {column} " for column in header]
            csv.writer(file, delimiter=separator).writerows([spaced, *rows])
    found = _read(tmp_path)
    kept, wanted = ([(s.id, s.text, s.artist) for s in t.songs] for t in (found, expected))
    assert kept == wanted and len(kept) == 6
    assert found.drops == expected.drops


def test_under_half_fails_with_reasons(tmp_path: Path) -> None:
    empty = [("/bob/", "x", f"/bob/{i}.html", "", "ENGLISH") for i in range(4)]
    with pytest.raises(ValueError) as error:
        _read(_old(tmp_path, _SONGS + empty))
    for part in ("of the 16 rows", "received 6", "empty lyric 5", "song repeated 2"):
        assert part in str(error.value)
    # Rows of other languages do not count.
    others = [("/bob/", "x", f"/bob/{i}.html", "canção", "PORTUGUESE") for i in range(30)]
    assert len(_read(_old(tmp_path, _SONGS[:4] + others)).songs) == 4


def test_a_usable_row_is_not_lost_to_an_unusable_copy(tmp_path: Path) -> None:
    lost = ("/gone/", "One", "/gone/one.html", _SONGS[0][3], "ENGLISH")
    assert [s.id for s in _read(_old(tmp_path, [lost, _SONGS[0]])).songs] == ["/ann/one.html"]


def test_row_order_does_not_move_a_song(tmp_path: Path) -> None:
    first = {s.id: songs.split_of(s, "song") for s in _read(_old(tmp_path, _SONGS[:4])).songs}
    later = {s.id: songs.split_of(s, "song") for s in _read(_old(tmp_path, _SONGS[3::-1])).songs}
    assert first == later


def test_song_without_link_gets_an_id_of_its_content(tmp_path: Path) -> None:
    rows = [(*row[:2], "", *row[3:]) for row in _SONGS[:2]]
    ids = [song.id for song in _read(_old(tmp_path, rows)).songs]
    assert [i.split("#")[0] for i in ids] == ["/ann/", "/bob/"]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        (tables.ARTISTS_FILE, "Genre", "Style", "missing or double: Genre or Genres"),
        (tables.ARTISTS_FILE, "Link", "Url", "missing or double: Link"),
        (tables.LYRICS_FILE, "Lyric", "Text", "missing or double: Lyric"),
        (tables.LYRICS_FILE, "Idiom", "Tongue", "missing or double: Idiom or language"),
        (tables.LYRICS_FILE, "ENGLISH", "GERMAN", "'Idiom' expected rows in en or english"),
    ],
)
def test_wrong_files_are_named(
    tmp_path: Path, name: str, old: str, new: str, expected: str
) -> None:
    path = _old(tmp_path, _SONGS[:2]) / name
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        _read(tmp_path)
    assert str(error.value).startswith(f"builders/song_lyrics: {path}: ")
    assert expected in str(error.value)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = (_old(tmp_path) / tables.LYRICS_FILE).read_bytes()
    too_wide = whole.replace(b"/ann/,Three", b"/ann/,Three,four,five")
    all_too_wide = whole[:36] + whole[36:].replace(b",ENGLISH", b",x,ENGLISH")
    cut_off = whole[: whole.index(b"silver")]
    for content in (b"", b"\xff\xfe\x00binary", cut_off, too_wide, all_too_wide):
        (tmp_path / tables.LYRICS_FILE).write_bytes(content)
        with pytest.raises(
            ValueError, match=r"lyrics-data\.csv.*: expected (a CSV table|text) in UTF-8"
        ):
            _read(tmp_path)


def test_processes_do_not_change_the_songs(tmp_path: Path) -> None:
    synthetic.write_tables(tmp_path, songs=1100, artists=50)
    one, two = (
        songs.read(tmp_path, "en", ("english",), lambda items: items, processes).songs
        for processes in (1, 2)
    )
    assert [s.id for s in one] == [s.id for s in two]
    for a, b in zip(one, two, strict=True):
        assert all(np.array_equal(a.ids[name], b.ids[name]) for name in a.ids)


def test_synthetic_files_do_not_change(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        synthetic.write_tables(folder, songs=200, artists=20)
    for name in (tables.ARTISTS_FILE, tables.LYRICS_FILE):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_vocabulary_order() -> None:
    vocabulary = Vocabulary()
    texts = [vocabulary.encode(t.split()) for t in ("b a a", "c b d e", "e e d z")]
    tokens, final_ids = vocabulary.rank(texts, [True, True, False])
    # Counts in train: a 2, b 2, c 1, d 1, e 1, z 0; in all: d 2, e 3.
    assert tokens == ["[PAD]", "[UNK]", "a", "b", "e", "d", "c", "z"]
    assert [tokens[i] for i in final_ids[texts[1]]] == ["c", "b", "d", "e"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["Rock; Pop;", "Rock"], [["Rock", "Pop"], ["Rock"]]),
        (["Rock, Pop", "Jazz"], [["Rock", "Pop"], ["Jazz"]]),
        (["Rock/Pop"], [["Rock", "Pop"]]),
        (["Rock|Pop"], [["Rock", "Pop"]]),
        (["['rock', 'pop']", "[jazz, blues]"], [["rock", "pop"], ["jazz", "blues"]]),
        # ";" parts genres here: commas and slashes belong to names.
        (["Folk, World; R&B/Soul", "Pop"], [["Folk, World", "R&B/Soul"], ["Pop"]]),
        (["nan", "None", "", "N/A", "Rock"], [[], [], [], [], ["Rock"]]),
        (["hip  hop", "Funk Carioca"], [["hip hop"], ["Funk Carioca"]]),
    ],
)
def test_genres_are_split_as_the_column_writes_them(
    cells: list[str], expected: list[list[str]]
) -> None:
    assert genres.split_column(cells)[0] == expected


def test_spellings_of_a_genre_are_one_class_and_said(tmp_path: Path) -> None:
    artists = [("Artist", "Link", "Genres")]
    artists += [("A", "/a/", "Rock, pop"), ("B", "/b/", "rock"), ("C", "/c/", "Rock")]
    artists += [("D", "/d/", "nan")]
    _write(tmp_path, artists, [])
    drops = tables.Drops()
    found = tables.read_artists(tmp_path / tables.ARTISTS_FILE, drops)
    assert [artist.genres for artist in found.values()] == [
        ("Rock", "pop"),
        ("Rock",),
        ("Rock",),
        (),
    ]
    assert drops.notes == [
        "artists-data.csv, column 'Genres': split at ',', 1 of 4 rows without a genre",
        "artists-data.csv: one genre in several spellings: rock is Rock",
    ]
