"""What texts look like: lengths, most frequent words per class, further labels (genres)."""

from collections import Counter
from typing import Any

import numpy as np
import tensorflow as tf

from records.decoding.decode import OOV_ID, PAD_ID, split_words
from records.describe.read import (
    Section,
    hash_sequences,
    hash_strings,
    id_dtype,
    main_split,
    quantile_header,
    quantile_line,
    read_features,
    shown_classes,
    stored_features,
)
from records.sets.schema import TEXT, Schema
from records.shards.index import RecordIndex
from records.system import plotting

# Lengths at which the share of longer texts is told: choices for --sequence-length.
_LENGTHS = (64, 128, 256, 512)
_SHOWN_WORDS = 10
_SHOWN_CLASSES = 30
# A word must stand in this many texts of the split to be called typical of a class: below it, a
# handful of texts would decide.
_TYPICAL_TEXTS = 50
_GENRES = "genres"


def describe_text(schema: Schema, indexes: dict[str, RecordIndex]) -> Section:
    """Describes a set of texts or ids; words and genres are those of `main_split`."""
    split = main_split(schema)
    lengths, copies = {}, {}
    words = _WordCounts(schema)
    genres = _Genres(schema)
    for name, index in indexes.items():
        lengths[name] = np.zeros(index.num_records, np.int64)
        copies[name] = np.zeros(index.num_records, np.uint64)
        counted = name == split
        for rows, batch in read_features(schema, name, index, genres.spec if counted else None):
            ragged = batch[schema.input_name]
            if schema.modality == TEXT:
                copies[name][rows] = hash_strings(ragged)
                ragged = split_words(ragged)
            flat, row_lengths = ragged.flat_values, ragged.row_lengths().numpy()
            lengths[name][rows] = row_lengths
            if schema.modality != TEXT:
                copies[name][rows] = hash_sequences(flat.numpy(), row_lengths)
            if counted:
                words.add(flat.numpy(), row_lengths, index.label[rows])
                genres.add(batch)
    lines = [f"Lengths, in {id_dtype(schema)}", quantile_header()]
    lines += [quantile_line(name, n, id_dtype(schema)) for name, n in lengths.items() if len(n)]
    lines += _longer_lines(lengths)
    lines += [f"Words of {split}", *words.lines(), *genres.lines(split, len(lengths[split]))]
    figures = {
        "lengths.png": plotting.histograms("lengths", id_dtype(schema), lengths, _LENGTHS),
        "words.png": plotting.word_bars(words.frequent()),
    }
    what = "texts" if schema.modality == TEXT else "ids"
    return Section(lines, figures, {what: copies})


def _longer_lines(lengths: dict[str, np.ndarray]) -> list[str]:
    together = np.concatenate(list(lengths.values()))
    if not len(together):
        return []
    longer = ", ".join(f"{n}: {100 * (together > n).mean():.1f} %" for n in _LENGTHS)
    lines = [f"  share longer than --sequence-length {longer}"]
    empty = int((together == 0).sum())
    return [*lines, f"  empty: {empty:,}"] if empty else lines


class _WordCounts:
    """Counts, batch by batch, how often a class says each word and in how many texts."""

    def __init__(self, schema: Schema):
        self._names = shown_classes(schema)
        self._vocabulary = schema.vocabulary()
        self._is_text = schema.modality == TEXT
        self._numbers: dict[bytes, int] = {}  # of a text's words, by first sight
        self._words: list[bytes] = []
        self._counts = np.zeros((2, len(self._names), 1024), np.int64)  # occurrences, texts

    def add(self, flat: np.ndarray, lengths: np.ndarray, labels: np.ndarray) -> None:
        """Counts a batch of texts; those of class -1, of labels int64 [b], are left out.

        `flat` are int64 or bytes [n], the words of all texts, and `lengths`, int64 [b], part them.
        """
        label = np.repeat(labels, lengths)
        text = np.repeat(np.arange(len(lengths)), lengths)[label >= 0]
        flat, label = flat[label >= 0], label[label >= 0]
        if self._is_text:
            flat = self._number(flat)
        if not len(flat):
            return
        size = int(flat.max()) + 1
        if size > self._counts.shape[2]:
            # Grows by a factor, so that all growing together costs a few copies.
            self._counts = np.pad(self._counts, ((0, 0), (0, 0), (0, 2 * size)))
        width = self._counts.shape[2]
        # One number per (text, word): its count are occurrences, its being there is one text.
        pairs, counts = np.unique(text * width + flat, return_counts=True)
        cells = labels[pairs // width] * width + pairs % width
        np.add.at(self._counts[0].reshape(-1), cells, counts)
        np.add.at(self._counts[1].reshape(-1), cells, 1)

    def _number(self, words: np.ndarray) -> np.ndarray:
        """Numbers words by first sight; each distinct word of a batch costs one look-up."""
        import pandas as pd

        codes, distinct = pd.factorize(words)
        self._words += [word for word in distinct if word not in self._numbers]
        numbers = [self._numbers.setdefault(word, len(self._numbers)) for word in distinct]
        return np.array(numbers, np.int64)[codes] if len(words) else np.zeros(0, np.int64)

    def frequent(self) -> dict[str, list[tuple[str, int]]]:
        """The most frequent words by class, with their counts."""
        return {
            name: [(self._word(i), int(row[i])) for i in _top(row)]
            for name, row in zip(self._names, self._known()[0], strict=True)
        }

    def lines(self) -> list[str]:
        """Totals, the most frequent and the most typical words per class."""
        counts, texts = self._known()
        totals, together = counts.sum(0), texts.sum(0)
        distinct, running = int((totals > 0).sum()), int(totals.sum())
        lines = [f"  {running:,} words, {distinct:,} distinct, {int((totals == 1).sum()):,} once"]
        if not self._is_text and self._vocabulary is None:
            lines.append("  the set stores no vocabulary: words are shown as their ids")
        frequent = self.frequent()
        for i, name in list(enumerate(self._names))[:_SHOWN_CLASSES]:
            # The class's share of the texts that hold the word.
            share = np.where(together >= _TYPICAL_TEXTS, texts[i] / np.maximum(together, 1), 0)
            typical = [self._word(j) for j in _top(share)]
            lines.append(f"  {name}: {', '.join(w for w, _ in frequent[name]) or '-'}")
            if typical and len(self._names) > 1:
                lines.append(f"  {'':{len(name)}}  typical: {', '.join(typical)}")
        if len(self._names) > _SHOWN_CLASSES:
            lines.append(f"  ... and {len(self._names) - _SHOWN_CLASSES} more classes")
        return lines

    def _known(self) -> np.ndarray:
        """The counts int64 [2, C, words]; padding and out-of-vocabulary ids are no words."""
        counts = self._counts.copy()
        if not self._is_text:
            counts[..., [PAD_ID, OOV_ID]] = 0
        return counts

    def _word(self, number: int) -> str:
        if self._is_text:
            return self._words[number].decode(errors="replace")
        if self._vocabulary is not None and number < len(self._vocabulary):
            return self._vocabulary[number]
        return f"#{number}"


def _top(values: np.ndarray) -> np.ndarray:
    """The numbers of the largest values above 0, largest first."""
    best = np.argsort(-values, kind="stable")[:_SHOWN_WORDS]
    return best[values[best] > 0]


class _Genres:
    """Counts a multi-hot feature `genres`, where the set has one and names its columns."""

    def __init__(self, schema: Schema):
        self._names = [str(name) for name in schema.metadata.get("genre_names") or ()]
        has = bool(self._names) and _GENRES in stored_features(schema)
        self.spec: dict[str, Any] = {_GENRES: tf.io.RaggedFeature(tf.int64)} if has else {}
        self._counts = np.zeros(len(self._names), np.int64)
        self._per_example = Counter[int]()

    def add(self, batch: dict[str, Any]) -> None:
        """Counts one batch."""
        if self.spec:
            hot = batch[_GENRES].to_tensor(0, shape=[None, len(self._names)]).numpy()
            self._counts += hot.sum(0)
            self._per_example.update(hot.sum(1).tolist())

    def lines(self, split: str, num_examples: int) -> list[str]:
        """Counts and shares from the most frequent genre down."""
        if not self.spec or not num_examples:
            return []
        numbers = ", ".join(f"{n}: {c:,}" for n, c in sorted(self._per_example.items()))
        lines = [f"Genres of {split} (an example may have several; by their number: {numbers})"]
        for i in np.argsort(-self._counts, kind="stable")[:_SHOWN_CLASSES]:
            share = 100 * self._counts[i] / num_examples
            lines.append(f"  {self._names[i]:20}{self._counts[i]:>9,}{share:>7.1f} %")
        hidden = len(self._names) - _SHOWN_CLASSES
        return [*lines, f"  ... and {hidden} more genres"] if hidden > 0 else lines
