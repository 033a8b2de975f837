"""Cleaning against hand-written expectations, spaCy's own marks and itself."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import re
import signal
import time
import unicodedata
from collections.abc import Iterator

import pytest

from records.decoding import cleaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Chorus: Someone]\nHold the line", ["hold", "line"]),
        ("(Verse 2)\nHold\n{Bridge}\nline (x2) (2x) (Repeat chorus)", ["hold", "line"]),
        ("Chorus:\nHold\nVerse II\nline\n  Pre-Chorus x2 \r\nfire", ["hold", "line", "fire"]),
        ("Chorus: hold the line", ["hold", "line"]),
        ("The bridge over water (bridge over water)", ["bridge", "water"] * 2),
        ("the chorus sings\nverse by verse", ["chorus", "sings", "verse", "verse"]),
        ("I'm, you’re, we´ve; she`ll! it's don't can’t won't ain't", []),
        (
            "love's rockin' 'cause o'clock y'all rock'n'roll",
            "love rockin cause oclock yall rocknroll",
        ),
        ("wouldn't've “gold” ‘hearts’ —stones…", ["gold", "hearts", "stones"]),
        ("seven 7 1,000 3.14 21st twenty-one 1990s 2pac", ["1990s", "2pac"]),
        ("uh-huh snake_case a/b\tcity\u00a0lights", "uh huh snake case b city lights"),
        ("Cafe\u0301 ÉTÉ naïve", ["café", "été", "naïve"]),
        ("   \n ?!", []),
        ("", []),
    ],
)
def test_clean_text(text: str, expected: list[str] | str) -> None:
    words = expected.split() if isinstance(expected, str) else expected
    assert cleaning.clean_text(text) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Chorus]\nDon’t stop, 'til it's 7!", "chorus dont stop til its 7"),
        ("uh-huh wait…what snake_case $5", "uhhuh waitwhat snakecase 5"),
        ("“Cafe\u0301”\u00a0— naïve\r\nend", "café naïve end"),
        ("?!", ""),
    ],
)
def test_basic_tokens(text: str, expected: str) -> None:
    assert cleaning.basic_tokens(text) == expected.split()


def test_brackets_that_nothing_closes_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 took 13 s. They mean what they did before."""
    cleaning.clean_text("spaCy is loaded")
    began = time.perf_counter()
    assert cleaning.clean_text("[" * 60_000 + " sun") == ["sun"]
    assert cleaning.clean_text("(chorus: " * 20_000 + "sun")[-1] == "sun"
    assert time.perf_counter() - began < 2
    rng = random.Random(0)
    parts = ["[", "]", "(", ")", "{", "}", "\n", " sun ", "chorus", ": ", "x2"]
    texts = ["".join(rng.choices(parts, k=60)) for _ in range(300)]
    monkeypatch.setattr(cleaning, "_FEW_BRACKETS", 10**9)
    expected = [cleaning.clean_text(text) for text in texts]
    monkeypatch.setattr(cleaning, "_FEW_BRACKETS", 0)
    assert [cleaning.clean_text(text) for text in texts] == expected


def test_other_languages() -> None:
    assert cleaning.clean_text("O coração d'água não chora", "pt") == [
        "coração",
        "d",
        "água",
        "chora",
    ]
    assert cleaning.clean_text("हिन्दी गीत", "hi") == ["हिन्दी", "गीत"]
    with pytest.raises(ValueError, match=r"cleaning: language expected .* received 'xx1'"):
        cleaning.clean_text("a", "xx1")


def test_letters_are_unicode_categories() -> None:
    """The documented rule speaks of categories, which RE2 has and Python's `re` has not."""
    letter = re.compile(r"[^\W_]")
    for code in itertools.chain(range(0x3000), range(0xFF00, 0x10400)):
        character = chr(code)
        assert bool(letter.match(character)) == (unicodedata.category(character)[0] in "LN")


def test_drops_what_spacy_marks() -> None:
    """The words kept are those of a spaCy Doc over the same words."""
    import spacy
    from spacy.tokens import Doc

    text = "we were the first two of nine hundred lonely riders and nobody else could see 10 suns"
    nlp = spacy.blank("en")
    doc = Doc(nlp.vocab, text.split())
    expected = [t.text for t in doc if not (t.is_stop or t.like_num or t.is_punct or t.is_space)]
    assert expected == ["lonely", "riders", "suns"]
    assert cleaning.clean_text(text) == expected


def _texts(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"[Verse {number}]\nThe riders’ song{number % 37} don't stop\nhold the {number} lines"


def test_pool_gives_what_one_process_gives() -> None:
    texts = [*_texts(3000), "", "?!"]
    expected = [cleaning.clean_text(text) for text in texts]
    basic = [cleaning.basic_tokens(text) for text in texts]
    for processes in (1, 2, 3):
        assert list(cleaning.both_tokens(texts, processes)) == list(zip(expected, basic))
    assert list(cleaning.both_tokens([])) == []


def test_pool_reads_a_bounded_window_ahead() -> None:
    read = 0

    def counted() -> Iterator[str]:
        nonlocal read
        for text in _texts(20_000):
            read += 1
            yield text

    tokens = cleaning.both_tokens(counted(), 2)
    next(tokens)
    assert read <= 8 * 512
    tokens.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_daemonic_process_cleans_by_itself() -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    worker = context.Process(
        target=lambda: queue.put(len(list(cleaning.both_tokens(_texts(1500), 2)))), daemon=True
    )
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    assert queue.get() == 1500


def test_killed_worker_is_named() -> None:
    tokens = cleaning.both_tokens(_texts(50_000), 2)
    next(tokens)
    victim = multiprocessing.active_children()[0].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"cleaning: .*worker processes.*num_processes=1"):
        list(tokens)


def test_num_processes_is_checked() -> None:
    with pytest.raises(ValueError, match="num_processes expected 1 or more, received 0"):
        cleaning.both_tokens(["a"], 0)
