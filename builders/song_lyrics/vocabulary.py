"""Counts tokens and ranks them by frequency into a vocabulary of ids."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Ids 0 and 1: padding, and tokens that a smaller vocabulary leaves out.
SPECIAL_TOKENS = ("[PAD]", "[UNK]")


class Vocabulary:
    """Collects the tokens of texts as provisional ids; `rank` then gives the final ones.

    A text is held as int32 ids, not as strings: 380,000 songs of tokens as Python strings would
    take several GB.
    """

    def __init__(self) -> None:
        self._tokens: defaultdict[str, int] = defaultdict()
        # A missing token gets the number of tokens so far: the next id, without a Python call.
        self._tokens.default_factory = self._tokens.__len__

    def encode(self, tokens: Sequence[str]) -> np.ndarray:
        """Returns the provisional ids, int32 [T]; a new token gets the next one."""
        return np.fromiter(map(self._tokens.__getitem__, tokens), np.int32, len(tokens))

    def rank(
        self, texts: Sequence[np.ndarray], in_train: Sequence[bool]
    ) -> tuple[list[str], np.ndarray]:
        """Ranks the tokens by count in train, then by count in all texts, then alphabetically.

        Args:
          texts: provisional ids of each text, each int32 [T].
          in_train: whether each text is of the train split.

        Returns:
          The tokens by final id, the special ones first, and the final ids by provisional id,
          int32 [V].
        """
        size = len(self._tokens)
        total, train = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for ids, is_train in zip(texts, in_train, strict=True):
            np.add.at(total, ids, 1)
            if is_train:
                np.add.at(train, ids, 1)
        tokens = list(self._tokens)
        # The token itself breaks all ties: ids do not depend on the order of the texts.
        ranked = sorted(range(size), key=lambda i: (-train[i], -total[i], tokens[i]))
        final_ids = np.empty(size, np.int32)
        final_ids[ranked] = np.arange(size, dtype=np.int32) + len(SPECIAL_TOKENS)
        return [*SPECIAL_TOKENS, *(tokens[i] for i in ranked)], final_ids


def write_vocabulary(directory: Path, feature: str, tokens: Sequence[str]) -> None:
    """Writes `<feature>.vocabulary.txt`: one token per line, the line number (from 0) is the id."""
    path = directory / f"{feature}.vocabulary.txt"
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n")
