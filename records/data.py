"""Prepared sets as training, validation and test examples.

Opens a set by directory, decides which records play which role, and decodes each split once:
pictures to uint8, texts to int32 ids ranked by their frequency among the training examples.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from records import cache, decode, subsets
from records.index import RecordIndex, read_index
from records.order import Order
from records.pipeline import Examples, make_batches, read_parsed
from records.schema import IMAGE, TABULAR, TEXT, TOKENS, Schema, find_directory, read_schema


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """What shapes the decoded inputs; none of it needs a new build.

    Attributes:
      image_size: S, pictures become uint8 [S, S, C].
      sequence_length: T, ids become int32 [T], padded or cut on the right.
      vocab_size: V, ids at or above it become 1 (out of vocabulary).
      cached: keep decoded splits in memory; False reads and decodes at every step.
      feature: the input feature; None lets the schema choose.
    """

    image_size: int = 224
    sequence_length: int = 200
    vocab_size: int = 20_000
    cached: bool = True
    feature: str | None = None


class Data:
    """A prepared set's training, validation and test examples.

    The role `validation` is the split `validation` where the set has one, else a stratified
    10 % of `train` in which no group of duplicates is parted; `train` is then the rest. The
    vocabulary ranks of ids come from the training examples alone, for every role.
    """

    def __init__(self, schema: Schema, config: InputConfig, seed: int = 0):
        """Opens the set; nothing is decoded yet.

        Args:
          schema: from `read_schema`.
          config: shapes of the inputs.
          seed: names the validation cut.

        Raises:
          ValueError: the set has no split `train`, or the options do not fit its modality.
        """
        schema.check_split("train")
        if schema.modality == TEXT and not config.cached:
            raise ValueError(
                f"records/pipeline: {schema.name}: feature {schema.input_name!r} is text, whose "
                "words are counted when it is decoded: cache expected device or memory, received "
                "none. Store ids in the set, or choose another cache"
            )
        self.schema, self.config, self.seed = schema, config, seed

    @functools.cached_property
    def channels(self) -> int:
        """Channels of the decoded pictures: 1 where every picture of all roles is grey."""
        grey = all(self._index(s).is_grey.all() for s in self._splits)
        return 1 if grey else 3

    @property
    def spec(self) -> tf.TensorSpec:
        """One example's input: uint8 [S, S, C], int32 [T] or float32 [F]."""
        if self.schema.modality == IMAGE:
            size = self.config.image_size
            return tf.TensorSpec([size, size, self.channels], tf.uint8)
        if self.schema.modality in (TOKENS, TEXT):
            return tf.TensorSpec([self.config.sequence_length], tf.int32)
        return tf.TensorSpec(self.schema.input_shape, tf.float32)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded splits of all roles."""
        examples = sum(self.schema.split_counts[s] for s in self._splits)
        return int(examples * np.prod(self.spec.shape) * self.spec.dtype.size)

    def roles(self) -> tuple[str, ...]:
        """`train`, `validation`, and `test` where the set has one with classes."""
        return tuple(dict.fromkeys(("train", "validation", *self._splits)))

    def subset(self, role: str) -> tuple[str, np.ndarray]:
        """(split, record numbers int64 [n]) of a role, or of another split of the set."""
        if role != "validation":
            self.schema.check_split(role)
        if "validation" in self.schema.split_counts or role not in ("train", "validation"):
            return role, np.arange(self._index(role).num_records)
        return "train", self._cut[role == "validation"]

    def examples(self, role: str) -> Examples:
        """The examples of a role, decoded on first use where they are cached."""
        split, numbers = self.subset(role)
        index = self._index(split)
        return Examples(
            schema=self.schema,
            index=index,
            numbers=numbers,
            labels=index.label.astype(np.int32),
            spec=self.spec,
            inputs=self._decoded(split) if self.config.cached else None,
            finish=self._finish(),
        )

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, variance) float32 [F] of the training examples' features, for tables."""
        examples = self.examples("train")
        if examples.inputs is not None:
            rows = examples.inputs[examples.numbers].astype(np.float64)
        else:
            parsed = [x.numpy() for x, _ in read_parsed(self.schema, "train", examples.index)]
            rows = np.concatenate(parsed)[examples.numbers].astype(np.float64)
        return rows.mean(0).astype(np.float32), rows.var(0).astype(np.float32)

    @functools.cached_property
    def vocab_size(self) -> int:
        """Ids in use: the vocabulary size asked for, or fewer where the words are fewer."""
        return min(self.config.vocab_size, int(self._ranks.max(initial=1)) + 1)

    @functools.cached_property
    def _cut(self) -> tuple[np.ndarray, np.ndarray]:
        index = self._index("train")
        return subsets.cut_validation(index.label, index.group, self.seed)

    @functools.cached_property
    def _splits(self) -> tuple[str, ...]:
        """Splits with a role: no `unsupervised` ones, nor a `test` without classes (label -1)."""
        found = [s for s in ("train", "validation", "test") if s in self.schema.split_counts]
        return tuple(s for s in found if s != "test" or (self._read(s).label != -1).any())

    @functools.cache  # noqa: B019 - one Data lives as long as its run
    def _read(self, split: str) -> RecordIndex:
        return read_index(self.schema, split)

    def _index(self, split: str) -> RecordIndex:
        """The index of a split whose examples all have a class."""
        index = self._read(split)
        bad = np.flatnonzero((index.label < 0) | (index.label >= self.schema.num_classes))
        if len(bad):
            raise ValueError(
                f"records/pipeline: {self.schema.name}: split {split}, record {bad[0]}: label "
                f"expected 0 to {self.schema.num_classes - 1}, received {index.label[bad[0]]}"
            )
        return index

    @functools.cache  # noqa: B019
    def _words(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(ids or words of all records, one after the other; where each begins int64 [N + 1])."""
        rows = [x for x, _ in read_parsed(self.schema, split, self._index(split))]
        lengths = np.concatenate([x.row_lengths().numpy() for x in rows])
        flat = np.concatenate([x.flat_values.numpy() for x in rows])
        if self.schema.modality == TEXT:
            flat = self._word_ids(flat, split)
        return flat, np.concatenate([[0], np.cumsum(lengths)])

    def _word_ids(self, words: np.ndarray, split: str) -> np.ndarray:
        """Numbers a TEXT split's words; words that train lacks are out of vocabulary."""
        if split == "train":
            # Objects, not NumPy's fixed-width bytes: one long word would make all words as wide.
            ids, vocabulary = pd.factorize(words, sort=True)
            self._vocabulary = pd.Index(vocabulary)
            return ids.astype(np.int32) + 2
        self._words("train")
        at = self._vocabulary.get_indexer(words)
        return np.where(at >= 0, at + 2, decode.OOV_ID).astype(np.int32)

    @functools.cached_property
    def _ranks(self) -> np.ndarray:
        """int32 [ids], each id's frequency rank among the training examples."""
        ids, splits = self._words("train")
        _, numbers = self.subset("train")
        used = np.zeros(len(splits) - 1, bool)
        used[numbers] = True
        vocabulary = self.schema.vocabulary() or ()
        num_ids = max(len(vocabulary), int(ids.max(initial=1)) + 1)
        return decode.rank_ids(ids[np.repeat(used, np.diff(splits))], num_ids)

    @functools.cache  # noqa: B019
    def _decoded(self, split: str) -> np.ndarray:
        """[N, ...]: all records of a split, decoded."""
        index, spec = self._index(split), self.spec
        if self.schema.modality in (TOKENS, TEXT):
            ids, starts = self._words(split)
            ranks = np.append(self._ranks, decode.OOV_ID)  # ids that train lacks
            known = np.minimum(ids, len(ranks) - 1)
            length, size = self.config.sequence_length, self.config.vocab_size
            return decode.pad_ids(known, starts, length, ranks, size)
        shape = (index.num_records, *spec.shape)
        batches = (x.numpy() for x in self._decoded_batches(split))
        name = f"decoding {self.schema.name} {split}"
        inputs = cache.fill(batches, shape, spec.dtype.as_numpy_dtype, name)
        if self.schema.modality == TABULAR and not np.isfinite(inputs).all():
            row, column = np.argwhere(~np.isfinite(inputs))[0]
            raise ValueError(
                f"records/pipeline: {self.schema.name}: split {split}, record {row}, feature "
                f"{self.schema.input_name!r}[{column}]: expected a finite number, received "
                f"{inputs[row, column]}"
            )
        return inputs

    def _decoded_batches(self, split: str) -> Iterator[tf.Tensor]:
        """Decoded inputs of a split in record order."""
        for inputs, _ in read_parsed(self.schema, split, self._index(split), self._finish()):
            yield inputs

    def _finish(self) -> Callable[[Any], Any]:
        """What maps parsed rows to inputs, made of plain values: nothing is read in a graph."""
        config = self.config
        if self.schema.modality == IMAGE:
            size, channels = config.image_size, self.channels
            return functools.partial(decode.decode_picture, image_size=size, channels=channels)
        if self.schema.modality == TABULAR:
            return lambda rows: rows
        table = np.append(self._ranks, decode.OOV_ID)
        length, size = config.sequence_length, config.vocab_size
        return functools.partial(
            decode.pad_ragged, sequence_length=length, table=table, vocab_size=size
        )


def open_data(
    dataset: str,
    data_dir: str | None = None,
    config: InputConfig | None = None,
    seed: int = 0,
) -> Data:
    """Opens a prepared set.

    Args:
      dataset: `name[/config[/version]]` below `data_dir`, or the set's own directory.
      data_dir: TFDS's data directory; default `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
      config: shapes of the inputs.
      seed: names the validation cut, where the set has no validation split.

    Raises:
      FileNotFoundError: there is no such set.
      ValueError: it cannot be trained on; the message says why.
    """
    config = config or InputConfig()
    schema = read_schema(find_directory(dataset, data_dir), config.feature)
    return Data(schema, config, seed)


def make_dataset(
    dataset: str | Data,
    split: str = "train",
    *,
    data_dir: str | None = None,
    global_batch_size: int = 32,
    seed: int = 0,
    shuffle: bool | None = None,
    epochs: int = 1,
    start: tuple[int, int] = (0, 0),
    config: InputConfig | None = None,
) -> tf.data.Dataset:
    """Batches of a prepared set, for Keras `fit` or a loop of one's own.

    The last batch of an epoch is padded with real rows of weight 0, so that shapes are static
    and every example counts exactly once per epoch.

    Args:
      dataset: as `open_data`, or an opened `Data`.
      split: `train`, `validation` or another split of the set.
      data_dir, config: as `open_data`; `config` is not used with an opened `Data`.
      global_batch_size: B.
      seed: names the order of examples, and the validation cut.
      shuffle: a new global permutation every epoch; default: for `train` only.
      epochs: epochs in the dataset, one after the other. With `fit`, pass the same number
        and `steps_per_epoch=len(dataset) // epochs`.
      start: (epoch, step) to begin at, for a resumed run; no replay.

    Returns:
      A dataset of (inputs [B, ...], labels int32 [B], weights float32 [B]): inputs are uint8
      [B, S, S, C], int32 [B, T] or float32 [B, F].

    Raises:
      FileNotFoundError, ValueError: as `open_data`.
    """
    if isinstance(dataset, str):
        dataset = open_data(dataset, data_dir, config, seed)
    examples = dataset.examples(split)
    shuffle = split == "train" if shuffle is None else shuffle
    order = Order(examples.num_examples, global_batch_size, seed, shuffle)
    return make_batches(examples, order, epochs, start)
