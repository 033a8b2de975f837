"""The rules of `records.decoding.cleaning` as TensorFlow ops, for a model that takes raw text.

They are the same regular expressions, in RE2's dialect. Where spaCy is asked about a word there, a
table and one expression stand here: of words that hold letters, numbers and marks alone, spaCy's
English rules (`spacy.lang.en`) drop stop words, words for numbers, digits, and digits with an
ordinal ending.

Left different on purpose, as it can only matter for rare letters: TensorFlow's ICU and RE2 know
another Unicode version than Python does.
"""

import sys
from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_text as tf_text

from records.decoding import cleaning
from records.decoding.decode import OOV_ID, split_words

# How a set's ids were made of text.
CLEAN, BASIC, WORDS = "clean", "basic", "words"

_WORD = r"\p{L}\p{N}\p{M}"
_DROPPED = -1


class TextEncoder(tf.Module):
    """string [B], texts as they came, to int32 [B, T]: ids padded with 0 or cut on the right."""

    def __init__(self, rule: str, vocabulary: Sequence[str], sequence_length: int):
        """Makes the table of words.

        Args:
          rule: `clean` (`cleaning.clean_text` in English), `basic` (`cleaning.basic_tokens`) or
            `words` (`decode.split_words`).
          vocabulary: words by id; the first two are padding and out of vocabulary.
          sequence_length: T.
        """
        super().__init__()
        self._rule, self._length = rule, sequence_length
        ids = {word: i for i, word in enumerate(vocabulary) if i > OOV_ID}
        if rule == CLEAN:
            # In the same table, so that a word costs one look-up. A dropped word wins over an id.
            ids |= dict.fromkeys(dropped_words(), _DROPPED)
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(ids), list(ids.values()), tf.string, tf.int64),
            default_value=OOV_ID,
        )

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """As the class says."""
        ids = self.ragged_ids(texts)
        return tf.cast(ids.to_tensor(0, shape=[None, self._length]), tf.int32)

    def ragged_ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """int64 ragged [B, None], all ids of each text."""
        # Broken bytes become U+FFFD: every op behind takes valid UTF-8.
        words = _SPLITTERS[self._rule](tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8"))
        ids = words.with_flat_values(self._table.lookup(words.flat_values))
        if self._rule != CLEAN:
            return ids
        kept = (words.flat_values != "") & (ids.flat_values != _DROPPED)
        kept &= ~tf.strings.regex_full_match(words.flat_values, _NUMBER)
        return tf.ragged.boolean_mask(ids, words.with_flat_values(kept))


def dropped_words() -> frozenset[str]:
    """Words that spaCy marks in English as stop word or number, in lower case."""
    from spacy.lang.en import English
    from spacy.lang.en.lex_attrs import _num_words, _ordinal_words

    return frozenset(English.Defaults.stop_words) | {*_num_words, *_ordinal_words}


def normalize(texts: tf.Tensor) -> tf.Tensor:
    """`cleaning.normalize` of string [B]."""
    texts = tf.strings.lower(tf_text.normalize_utf8(texts, "NFC"), encoding="utf-8")
    texts = tf.strings.regex_replace(texts, f"[{cleaning.APOSTROPHES}]", "'")
    return tf.strings.regex_replace(texts, "\r\n?|[\u2028\u2029\x85]", "\n")


def basic_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """`cleaning.basic_tokens` of string [B]: string ragged [B, None]."""
    space = rf"\p{{Z}}{cleaning.ASCII_SPACE}"
    texts = tf.strings.regex_replace(normalize(texts), rf"[^{_WORD}{space}]+", "")
    return tf.strings.split(tf.strings.regex_replace(texts, f"[{space}]+", " "))


def english_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Steps 1 to 3 of `cleaning.clean_text` of string [B]: string ragged [B, None].

    A word of which nothing is left is "".
    """
    texts = normalize(texts)
    for pattern in (cleaning.BRACKETED, cleaning.HEADER_LINE):
        texts = tf.strings.regex_replace(texts, _re2(pattern.pattern), " ")
    words = tf.strings.split(tf.strings.regex_replace(texts, f"[^{_WORD}']+", " "))
    return words.with_flat_values(_without_apostrophes(words.flat_values))


def _without_apostrophes(words: tf.Tensor) -> tf.Tensor:
    words = tf.strings.regex_replace(words, "^.*n't(?:'.*)?$", "")
    # RE2 does not look ahead: each part gets apostrophes of its own, `'d've` as `''d''ve`.
    words = tf.strings.regex_replace(words, "'", "''")
    endings = "|".join(sorted(cleaning.ENDINGS))
    words = tf.strings.regex_replace(words, f"'(?:{endings})(?:'|$)", "")
    return tf.strings.regex_replace(words, "'", "")


def _re2(pattern: str) -> str:
    r"""A pattern of `records.decoding.cleaning`: lines, and Unicode digits, as in Python's `re`."""
    return "(?m)" + pattern.replace(r"\d", r"\p{Nd}")


# The characters of which `str.isdigit` holds are more than `\p{Nd}`.
_DIGITS = cleaning.character_class(c for c in range(sys.maxunicode + 1) if chr(c).isdigit())
_NUMBER = f"{_DIGITS}+(?:st|nd|rd|th)?"
_SPLITTERS: dict[str, Callable[[tf.Tensor], tf.RaggedTensor]] = {
    CLEAN: english_words,
    BASIC: basic_words,
    WORDS: split_words,
}
