"""The ids of a set's texts: ranked by how often the training examples use them.

Of a set that stores ids they are its own; of one that stores text they are counted here, when its
words are split. Either way validation and test take no part in the ranks.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from records.decoding import decode
from records.decoding.input_config import InputConfig
from records.decoding.modality import modality_of
from records.loading.load import Loader
from records.ordering.splits import Numbers
from records.sets.schema import Schema
from records.shards.index import RecordIndex
from records.system.threads import ordered_map


class Vocabulary:
    """Ids, words and ranks of one set, by its training examples."""

    def __init__(
        self,
        schema: Schema,
        config: InputConfig,
        index_of: Callable[[str], RecordIndex],
        split: str,
        training: Numbers,
        weights: np.ndarray | None = None,
    ):
        """Counts nothing yet.

        Args:
          index_of: the index of a split.
          split: that the training examples are part of.
          training: int64 [n], their numbers in it.
          weights: float64 [n], how often each counts; None: once.
        """
        self._schema, self._config, self._index_of = schema, config, index_of
        self._split, self._training, self._weights = split, training, weights
        self._stores_text = modality_of(schema).is_text
        self._ids: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # by split

    @functools.cached_property
    def size(self) -> int:
        """Ids in use: the vocabulary size asked for, or fewer where the words are fewer."""
        return min(self._config.vocab_size, int(self.ranks.max()) + 1)

    @property
    def key(self) -> str:
        """What of the vocabulary shapes decoded inputs."""
        return f"{self._config.vocab_size} {hashlib.sha256(self.ranks.tobytes()).hexdigest()}"

    @functools.cached_property
    def ranks(self) -> np.ndarray:
        """int32 [ids + 1], each id's frequency rank among the training examples.

        The last entry stands for all ids that train lacks: out of vocabulary.
        """
        index = self._index_of(self._split)
        used = np.zeros(index.num_records, bool)
        # A mask, because records are read unit by unit and the training examples are any of them.
        used[self._training] = True
        if index.damaged is not None:
            used &= ~index.damaged
        if self._weights is None:
            counts = self._count(used)
        else:
            # Whole numbers of each set first: sums of fractions would differ by the cache level.
            of_record = np.zeros(index.num_records)
            of_record[self._training] = self._weights
            weights = np.unique(self._weights)
            found = [self._count(used & (of_record == weight)) for weight in weights]
            width = max(map(len, found))
            counts = weights @ np.stack([np.pad(one, (0, width - len(one))) for one in found])
        # `pad_ids` maps every id beyond the table to its last entry.
        return np.append(decode.rank_ids(counts), np.int32(decode.OOV_ID))

    def _count(self, used: np.ndarray) -> np.ndarray:
        """int64 [ids], how often each id stands in the records where `used` bool [N]."""
        # Ids 0 and 1 always exist. A set without a stored vocabulary shows its size only by its
        # ids.
        counts = np.zeros(max(2, len(self._schema.vocabulary() or ())), np.int64)
        for ids in self._training_ids(used):
            found = np.bincount(ids)
            wider = np.zeros(max(len(counts), len(found)), np.int64)
            wider[: len(counts)] += counts
            wider[: len(found)] += found
            counts = wider
        return counts

    def words(self) -> tuple[str, ...] | None:
        """The words of the ids in use, `size` of them, the first two special.

        None where the set stores ids without their words.
        """
        ranks, stored = self.ranks[:-1], self._schema.vocabulary()
        if self._stores_text:
            stored = ("", "", *(str(word, "utf-8", "replace") for word in self._counted))
        if stored is None:
            return None
        words = ["[PAD]", "[UNK]", *[""] * (self.size - 2)]
        for raw in np.flatnonzero((ranks > decode.OOV_ID) & (ranks < self.size)):
            words[ranks[raw]] = stored[raw]
        return tuple(words)

    def lengths(self, split: str) -> np.ndarray:
        """int [N], ids of each record of a split."""
        if self._stores_text:
            return np.diff(self.ids(split)[1])
        return self._index_of(split).sequence_length

    def ids(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 of all records, not yet ranked; where each record begins int64 [N + 1])."""
        if split not in self._ids:
            self._ids[split] = self._read_ids(split)
        return self._ids[split]

    def _read_ids(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        flat, lengths = [], []
        loader = self._loader(split)
        for rows in ordered_map(lambda unit: loader.parse(unit, loader.read(unit)), loader.units()):
            if self._stores_text:
                words = decode.split_words(tf.constant(rows, tf.string))
                rows = words.flat_values.numpy(), words.row_splits.numpy()
            flat.append(rows[0])
            lengths.append(np.diff(rows[1]))
        ids = np.concatenate(flat)
        if self._stores_text:
            ids = self._number(ids, split)
        return ids, np.concatenate([[0], np.cumsum(np.concatenate(lengths))])

    def _number(self, words: np.ndarray, split: str) -> np.ndarray:
        """The ids of a split's words; words that the training split lacks are out of vocabulary."""
        if split == self._split:
            # Objects, not NumPy's fixed-width bytes: one long word would make all words as wide.
            ids, counted = pd.factorize(words, sort=True)
            self._counted = pd.Index(counted)
            # Sorted, so that a word's number does not depend on the order of the records; after
            # padding and out of vocabulary.
            return ids.astype(np.int32) + 2
        # Numbers the training split's words first, where that has not happened.
        self.ids(self._split)
        at = self._counted.get_indexer(words)
        return np.where(at >= 0, at + 2, decode.OOV_ID).astype(np.int32)

    def _training_ids(self, used: np.ndarray) -> Iterator[np.ndarray]:
        """The ids int32 [n] of the records where `used` bool [N]; unit by unit where streamed."""
        if self._config.cache != "none":
            ids, starts = self.ids(self._split)
            yield ids[np.repeat(used, np.diff(starts))]
            return
        loader = self._loader(self._split)
        chosen = (unit[used[unit]] for unit in loader.units())
        for ids, _ in ordered_map(lambda unit: loader.parse(unit, loader.read(unit)), chosen):
            yield ids

    def _loader(self, split: str) -> Loader:
        # A loader of its own: its times are no part of the pipeline's.
        return Loader(self._schema, self._index_of(split), lambda rows: rows)
