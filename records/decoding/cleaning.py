"""Turns lyrics into tokens at build time: one cleaned variant (spaCy), one basic variant.

The rules are regular on purpose: every step but the last is one regular expression that RE2, and
so tensorflow-text, can repeat at serving time. With `WORD` = `[\\p{L}\\p{N}\\p{M}]`:

Both variants start with `normalize`: Unicode NFC; lower case; every apostrophe-like character
(`’ ‘ ‛ ʼ ′ ´ `` ` `` ＇`) becomes `'`; line ends become `\\n`.

`basic_tokens` deletes every character that is neither WORD nor white space, then splits on white
space: `Don't stop!` gives `dont stop`.

`clean_text` then
  1. deletes section headers: anything in square brackets; a section name with an optional number,
     repeat or singer in round or curly brackets, or on a line of its own, or before a colon at the
     start of a line; repeats such as `(x2)`;
  2. takes the words: runs of WORD characters, which in English may hold apostrophes. Whatever else
     there is separates words; in other languages the apostrophe does, as in `l'amour`;
  3. (English) drops words with the part `n't`, which are all stop words; drops the parts `'s 'm 'd
     'll 're 've`, so that `i'm` leaves the stop word `i` and `love's` leaves `love`; then deletes
     the other apostrophes: `rockin'` gives `rockin`, `o'clock` gives `oclock`;
  4. drops the words that spaCy's `blank(language)` marks as stop word, punctuation, number
     (`like_num`: also `seven`, `21st`) or white space.

spaCy's own tokenizer is not used: its exceptions (`gonna` to `gon` + `na`) cannot be repeated as
regular expressions. Its marks depend on the word alone, so they are asked for once per word, which
makes this about four times as fast as making a spaCy Doc of each text.
"""

import functools
import itertools
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from records.system.processes import map_in_order

# Words whose marks are remembered; beyond it the least recently used one is asked for again.
_REMEMBERED_WORDS = 1 << 18
_FEW_BRACKETS = 100  # their number squared takes no time

APOSTROPHES = "’‘‛ʼ′´`＇"
_TO_APOSTROPHE = str.maketrans(dict.fromkeys(APOSTROPHES, "'"))
LINE_END = re.compile(r"\r\n?|[\u2028\u2029\x85]")
# Not `\s`, whose members differ between Python and RE2; the category Z is added to these.
ASCII_SPACE = "\t\n\v\f\r"

_SECTION = (
    r"(?:(?:repeat|rpt\.?)[ \t]+)?"
    r"(?:(?:pre|post)[ \t-]?chorus|chorus|refrain|verse|intro(?:duction)?|outro|bridge|hook"
    r"|interlude|instrumental|solo|breakdown|coda|refrão|refrao|estribillo)"
    r"(?:[ \t]*\#?(?:\d{1,2}|i{1,3}|iv|v))?"
)
_REPEAT = r"(?:x[ \t]?\d{1,2}|\d{1,2}[ \t]?x|\d{1,2}[ \t]times|repeat(?:[ \t]\d{1,2}x)?)"
_MARKED = rf"{_SECTION}(?:[ \t,:-]*{_REPEAT})?"
BRACKETED = re.compile(
    r"\[[^\]\n]*\]"
    rf"|[({{][ \t]*(?:{_MARKED}(?:[ \t]*[:-][^)}}\n]*)?|{_REPEAT})[ \t]*[)}}]"
)
HEADER_LINE = re.compile(rf"^[ \t]*{_MARKED}[ \t]*(?::|$)", re.MULTILINE)
ENDINGS = frozenset({"s", "m", "d", "ll", "re", "ve"})


def normalize(text: str) -> str:
    """Returns `text` in Unicode NFC and lower case, `'` for apostrophes, `\\n` for line ends."""
    text = unicodedata.normalize("NFC", text).lower().translate(_TO_APOSTROPHE)
    return LINE_END.sub("\n", text)


def basic_tokens(text: str) -> list[str]:
    """Returns the words of `text`: lower case, punctuation and symbols deleted, split on space."""
    # `\w` holds the underscore, which is no word character here.
    text = normalize(text).replace("_", "")
    # Most texts are ASCII, and need not wait for the table of all characters.
    pattern = _NOT_BASIC_ASCII if text.isascii() else _not_basic()
    return pattern.sub("", text).split()


def _without_open_brackets(text: str) -> str:
    """The text with a "|" for each bracket that nothing closes in its line: neither is a word.

    `BRACKETED` would look for the end of each anew, up to the line's end: 60,000 "[" took 13 s.
    """
    if sum(map(text.count, "[({")) < _FEW_BRACKETS:
        return text
    lines = []
    for line in text.split("\n"):
        for opening, closing in (("[", "]"), ("(", ")}"), ("{", ")}")):
            end = max(map(line.rfind, closing)) + 1
            line = line[:end] + line[end:].replace(opening, "|")
        lines.append(line)
    return "\n".join(lines)


def clean_text(text: str, language: str = "en") -> list[str]:
    """The words of `text` that carry meaning, in order, by the rules of this module.

    Raises:
      ValueError: spaCy does not know the language.
    """
    text = _without_open_brackets(normalize(text))
    text = HEADER_LINE.sub(" ", BRACKETED.sub(" ", text))
    cleaned = map(_word_cleaner(language), _split_words(text, language))
    return [word for word in cleaned if word]


def both_tokens(
    texts: Iterable[str],
    num_processes: int | None = None,
    language: str = "en",
    run: Callable[[Callable[[str], Any], Iterable[str]], Iterator[Any]] | None = None,
) -> Iterator[tuple[list[str], list[str]]]:
    """Yields (`clean_text`, `basic_tokens`) of each text, in order, computed on several processes.

    Args:
      texts: read only a bounded window ahead.
      num_processes: worker processes; default one per core that this process may use.
      run: maps a function over texts in order, in place of processes of this machine.

    Raises:
      ValueError: spaCy does not know the language, or `num_processes` is below 1.
      RuntimeError: a worker process was killed.
    """
    check_language(language)
    both = functools.partial(_both_joined, language=language)
    # What a worker needs is imported and built before the fork, hence once and not per worker.
    found = (
        run(both, texts)
        if run
        else map_in_order(both, texts, num_processes, lambda: both("warm up: don’t"))
    )
    return ((clean.split(), basic.split()) for clean, basic in found)


def check_language(language: str) -> str:
    """Returns the English name of a spaCy language code, such as `english` for `en`.

    Raises:
      ValueError: spaCy does not know the code.
    """
    import spacy  # takes seconds, which `basic_tokens` need not wait for

    try:
        return spacy.util.get_lang_class(language).__name__.lower()
    except ImportError:
        raise ValueError(
            f"cleaning: language expected a code that spaCy knows, such as 'en' or 'pt', "
            f"received {language!r}"
        ) from None


@functools.cache
def _word_cleaner(language: str) -> Callable[[str], str]:
    """Returns the function of a word that gives what is left of it, or "" if it is dropped."""
    check_language(language)
    import spacy
    from spacy.attrs import IS_PUNCT, IS_SPACE, IS_STOP, LIKE_NUM

    # The getters compute a mark from the word; `vocab[word]` would also keep every word for ever.
    vocab: Any = spacy.blank(language).vocab
    marks = [vocab.lex_attr_getters[name] for name in (IS_STOP, LIKE_NUM, IS_PUNCT, IS_SPACE)]

    @functools.lru_cache(maxsize=_REMEMBERED_WORDS)
    def clean_word(word: str) -> str:
        word = _without_apostrophes(word)
        return "" if any(mark(word) for mark in marks) else word

    return clean_word


def _without_apostrophes(word: str) -> str:
    first, *others = word.split("'")
    # Each part with what stands before its apostrophe.
    for before, part in zip([first, *others], others):
        if part == "t" and before.endswith("n"):
            return ""
    return first + "".join(part for part in others if part not in ENDINGS)


def _split_words(text: str, language: str) -> list[str]:
    # Without `_`, `\w` is exactly the categories L and N. Combining marks that NFC leaves (Hindi
    # vowel signs) need a pattern of hundreds of ranges, which few texts wait for.
    text = text.replace("_", " ")
    has_marks = not text.isascii() and _category("M").search(text) is not None
    return _word_pattern(language == "en", has_marks).findall(text)


@functools.cache
def _word_pattern(with_apostrophes: bool, with_marks: bool) -> re.Pattern[str]:
    apostrophe = "'" if with_apostrophes else ""
    marks = _category("M").pattern[1:-1] if with_marks else ""
    return re.compile(rf"[\w{apostrophe}{marks}]+")


_NOT_BASIC_ASCII = re.compile(rf"[^\w{ASCII_SPACE} ]+")


@functools.cache
def _not_basic() -> re.Pattern[str]:
    """Characters that are neither letter, number, mark nor white space, `_` apart."""
    kept = _category("M").pattern[1:-1] + _category("Z").pattern[1:-1]
    return re.compile(rf"[^\w{kept}{ASCII_SPACE}]+")


@functools.cache
def _categories() -> str:
    """The first letter of the category of every character."""
    return "".join(
        name[0] for name in map(unicodedata.category, map(chr, range(sys.maxunicode + 1)))
    )


def character_class(codes: Iterable[int]) -> str:
    """A regular expression's class of the characters of rising `codes`, as ranges."""
    ranges = []
    for _, group in itertools.groupby(enumerate(codes), lambda pair: pair[1] - pair[0]):
        run = [code for _, code in group]
        ranges.append(f"{re.escape(chr(run[0]))}-{re.escape(chr(run[-1]))}")
    return f"[{''.join(ranges)}]"


@functools.cache
def _category(major: str) -> re.Pattern[str]:
    """A character class of one Unicode major category: Python's `re` has no `\\p{M}`."""
    return re.compile(character_class(c for c, name in enumerate(_categories()) if name == major))


def _both_joined(text: str, language: str) -> tuple[str, str]:
    # One string per text crosses between processes several times faster than a list of words.
    return " ".join(clean_text(text, language)), " ".join(basic_tokens(text))
