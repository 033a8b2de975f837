"""Prepared sets as training, validation and test examples.

Opens a set by directory, decides which records play which role, and decodes each split once:
pictures to uint8, texts to int32 ids ranked by their frequency among the training examples.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from records.decoding import decode
from records.decoding.input_config import InputConfig
from records.decoding.modality import modality_of
from records.examples import Examples
from records.loading import cache, cut_file, disk_cache
from records.loading.load import Loader
from records.loading.moments import check_moments, moments, stream_moments
from records.mixed import MixedSet, mix_sets
from records.opened import OpenedSet, open_set
from records.ordering import splits
from records.ordering.mixture import Mixture, whole_shares
from records.sets.target import MULTI_LABEL, REGRESSION
from records.shards.index import RecordIndex
from records.system.arguments import check_kind, check_seed, check_whole
from records.system.memory import empty_inputs
from records.system.progress import show_progress
from records.system.threads import ordered_map
from records.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation, stratified by class."""

    # number, count, seed: which of how many, from 0, as dealt by a seed.
    number: int
    count: int
    seed: int = 0
    pooled: bool = False  # of all splits together, else of `train` alone
    grouped: bool = True  # no group (near copies, an artist's songs) is parted

    def __post_init__(self) -> None:
        check_whole("folds", self.count, 2)
        check_whole("fold", self.number, 0, self.count - 1)
        check_seed(self.seed)


class Data:
    """A prepared set's training, validation and test examples.

    The role `validation` is the split `validation` where the set has one, else a stratified
    10 % of `train` in which no group of duplicates is parted; `train` is then the rest. The
    vocabulary ranks of ids come from the training examples alone, for every role.

    With a `Fold`, `validation` is one of n equal parts of `train` and `train` the others; `test`
    plays no role, so that nothing is chosen by it.
    """

    def __init__(
        self, opened: OpenedSet, config: InputConfig, seed: int = 0, fold: Fold | None = None
    ):
        """Decodes nothing yet. `seed` names the validation cut; a `fold` takes its place.

        Raises:
          ValueError: the set has no split `train`, or the options do not fit its modality.
        """
        seed = check_seed(seed)
        opened.schema.check_split("train")
        self.fold, self._base = fold, "train"
        if fold is not None and fold.pooled:
            # From here on the pooled split is the only one that is read: `_splits` names `_base`
            # alone.
            opened, self._base = opened.pooled()
        schema = opened.schema
        self._modality = modality_of(schema)
        if self._modality.is_text and config.cache == "none":
            raise ValueError(
                f"input: {schema.name}: feature {schema.input_name!r} is text, whose words "
                "are counted when it is decoded: cache expected device, memory or disk, received "
                "none, which was asked for or is all that fits (auto). Free memory or disk space "
                "beside the shards, raise --memory-budget, or store ids in the set"
            )
        self.opened, self.schema, self._asked, self.seed = opened, schema, config, seed
        # By split. Of this object, not of its class: what it holds, with open files, goes with it.
        self._filling: dict[str, cache.Filling] = {}
        self._loaders: dict[str, Loader] = {}
        self._inputs: dict[str, np.ndarray] = {}

    @functools.cached_property
    def config(self) -> InputConfig:
        """Shapes of the inputs, as asked for; texts are padded to the longest of the split that the
        training examples are part of, not further.
        """
        if self.vocabulary is None:
            return self._asked
        lengths, index = self.vocabulary.lengths(self._base), self._index(self._base)
        longest = max((int(lengths[rows].max()) for rows in index.walk()), default=0)
        length = max(1, min(longest, self._asked.sequence_length))
        return dataclasses.replace(self._asked, sequence_length=length)

    @functools.cached_property
    def channels(self) -> int:
        """Of decoded pictures: 1 where those of all roles are grey, else 3; 0 without pictures."""
        if not self._modality.has_channels:
            return 0
        # One answer for all roles: a model has one input shape, whichever split it is fed.
        grey = all(
            index.is_grey[rows].all()
            for index in map(self._index, self._splits)
            for rows in index.walk()
        )
        return 1 if grey else 3

    @functools.cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The ids of the training examples' texts; None for tables and pictures."""
        if not self._modality.has_ids:
            return None
        # Validation and test words must not be ranked: ids seen only there stay out of vocabulary.
        _, training = self.subset("train")
        weights = None if self._mixture is None else self._mixture.weights
        return Vocabulary(self.schema, self._asked, self._index, self._base, training, weights)

    @property
    def spec(self) -> tf.TensorSpec:
        """One example's input: uint8 [S, S, C], int32 [T], float32 or float64 [F]."""
        return self._modality.spec(self.config, self.channels)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded splits of all roles."""
        examples = sum(self.schema.split_counts[s] for s in self._splits)
        return int(examples * np.prod(self.spec.shape) * self.spec.dtype.size)

    def roles(self) -> tuple[str, ...]:
        """`train`, `validation`, and `test` where the set has one with classes; never in a fold."""
        if self.fold is not None:
            return ("train", "validation")
        return tuple(dict.fromkeys(("train", "validation", *self._splits)))

    def subset(self, role: str) -> tuple[str, splits.Numbers]:
        """(split, record numbers int64 [n]) of a role, or of another split of the set."""
        if role != "validation":
            self.schema.check_split(role)
        # A fold cuts anew even where the set has its own validation split.
        cut = self.fold is not None or "validation" not in self.schema.split_counts
        if not cut or role not in ("train", "validation"):
            return role, splits.AllRecords(self._index(role).num_records)
        return self._base, self._cut[role == "validation"]

    def examples(self, role: str) -> Examples:
        """The examples of a role, decoded on first use where they are cached.

        Damaged ones keep their places in `train`, for the order's sake; other roles lack them.
        """
        split, numbers = self.subset(role)
        index = self._index(split)
        found = Examples(
            schema=self.schema,
            index=index,
            numbers=numbers,
            # Labels of the whole split, not of the subset: a record's number is its place in both
            # arrays.
            split_labels=index.label if index.target is None else index.target,
            spec=self.spec,
            lengths=None if self.vocabulary is None else self.vocabulary.lengths(split),
            cached=None if self.config.cache == "none" else self._decoded(split),
            loader=self._loader(split),
            filling=self._filling.get(split),
            mixture=self._mixture if role == "train" else None,
        )
        return found if role == "train" else found.without_damaged()

    def damage(self) -> dict[str, tuple[str, ...]]:
        """What is wrong with damaged records, by split; splits without any are left out."""
        found = {split: self.opened.read_index(split).damage for split in self._splits}
        return {split: damage for split, damage in found.items() if damage}

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, variance) float64 [F] of the training examples' features, for tables.

        Raises:
          ValueError: a column whose numbers are too large, or too alike for how they are stored.
        """
        examples = self.examples("train").without_damaged()
        if examples.inputs is not None:
            found = moments(examples.inputs[examples.numbers], examples.weights)
        else:
            found = stream_moments(examples.loader, examples.numbers, examples.weights)
        check_moments(self.schema, *found, self._modality.spec(self.config, 0).dtype.as_numpy_dtype)
        return found

    @property
    def _mixture(self) -> Mixture | None:
        return self.opened.mixture if isinstance(self.opened, MixedSet) else None

    @functools.cached_property
    def _cut(self) -> cut_file.Cut:
        count = self._index(self._base).num_records
        if count < cut_file.KEPT_RECORDS:
            return self._make_cut()
        shaping = f"{self._records_key()} {self.schema.label_name} {self.schema.group_name}"
        # NumPy's draws may differ between its versions.
        shaping += f" {self.seed} {self.fold} numpy-{np.__version__}"
        path = disk_cache.cache_path(self.schema, f"{self._base}-cut", shaping)
        return cut_file.keep_cut(path.with_suffix(".npz"), count, self._make_cut)

    def _make_cut(self) -> cut_file.Cut:
        index, fold = self._index(self._base), self.fold
        if fold is None:
            return splits.cut_validation(index.label, index.group, self.seed)
        # Ungrouped: every example is a group of its own.
        groups = index.group if fold.grouped else np.arange(len(index.group), dtype=np.uint64)
        of_fold = splits.assign_folds(index.label, groups, fold.count, fold.seed)
        return np.flatnonzero(of_fold != fold.number), np.flatnonzero(of_fold == fold.number)

    @functools.cached_property
    def _splits(self) -> tuple[str, ...]:
        """Splits with a role: no `unsupervised` ones, nor a `test` without classes (label -1)."""
        if self.fold is not None:
            return (self._base,)
        found = self.schema.pooled_splits
        if "test" in found and self.opened.read_index("test").label_range == (-1, -1):
            found = tuple(split for split in found if split != "test")
        return found

    def _index(self, split: str) -> RecordIndex:
        """The index of a split whose examples all have a class."""
        index = self.opened.read_index(split)
        # A class outside its range would index past the logits: on a GPU the loss is then NaN, and
        # no error says why.
        least, largest = index.label_range
        if index.num_records and (least < 0 or largest >= self.schema.num_classes):
            bad = np.flatnonzero((index.label < 0) | (index.label >= self.schema.num_classes))
            expected = f"0 to {self.schema.num_classes - 1}"
            received = index.label[bad[0]]
            if index.target is not None:
                expected = {MULTI_LABEL: f"classes in {expected}", REGRESSION: "finite numbers"}[
                    self.schema.task
                ]
                received = index.target[bad[0]].tolist()
            raise ValueError(
                f"input: {self.schema.name}: split {split}, record {bad[0]}: label "
                f"expected {expected}, received {received}"
            )
        return index

    def _loader(self, split: str) -> Loader:
        if split not in self._loaders:
            ranks = None if self.vocabulary is None else self.vocabulary.ranks
            decoder = self._modality.decoder(self.config, self.channels, ranks)
            self._loaders[split] = Loader(self.schema, self._index(split), decoder)
        return self._loaders[split]

    def _decoded(self, split: str) -> np.ndarray:
        """[N, ...]: all records of a split, decoded; mapped from a file with cache "disk"."""
        if split not in self._inputs:
            self._inputs[split] = self._decode(split)
        return self._inputs[split]

    def _decode(self, split: str) -> np.ndarray:
        # A file that an earlier run left is read by the level "memory" too: decoding costs more.
        path = disk_cache.cache_path(self.schema, split, self.content_key())
        shape = (self._index(split).num_records, *self.spec.shape)
        dtype = self.spec.dtype.as_numpy_dtype
        stored = disk_cache.open_stored(path, shape, dtype, self.config.cache == "disk")
        if stored is not None:
            return stored
        if self.config.cache == "memory":
            inputs = empty_inputs(shape, dtype)
            if self._modality.is_slow:  # decoded while the first epoch goes by
                label = self._label(split)
                self._filling[split] = cache.Filling(self._loader(split), inputs, label)
                return inputs
            return self._fill(split, inputs)
        return disk_cache.write(path, shape, dtype, lambda out: self._fill(split, out))

    def _fill(self, split: str, out: np.ndarray) -> np.ndarray:
        """Decodes a split into `out` [N, ...]."""
        loader, held = self._loader(split), None
        if self.vocabulary is not None and (self._modality.is_text or split == self._base):
            held = self.vocabulary.ids(split)  # read, and split into words, to be counted

        def load(unit: np.ndarray) -> np.ndarray:
            # A unit is a run of consecutive numbers, so threads write to parts that do not overlap.
            part = slice(unit[0], unit[-1] + 1)
            out[part] = loader.load(unit) if held is None else loader.decode_rows(_cut(held, part))
            return unit

        done = ordered_map(load, loader.units())
        for _ in show_progress(done, len(out), self._label(split)):
            pass
        self._modality.check_decoded(out, split)
        return out

    def _label(self, split: str) -> str:
        return f"decoding {self.schema.name} {split}"

    def content_key(self) -> str:
        """All that shapes the decoded inputs: the shards, and how they are decoded."""
        key = f"{self._records_key()} {self.spec}"
        # Another version of the decoder may give other pixels, and so do rules of our own.
        key += f" opencv-{decode.opencv_version()} upright"
        if self.vocabulary is not None:
            key += f" {self.vocabulary.key}"
        return key

    def _records_key(self) -> str:
        """The shards and the feature, and what of them is damaged."""
        key = f"{self.opened.fingerprint} {self.schema.input_name}"
        if self.opened.selection:
            key += f" {self.opened.selection}"
        # A damaged record's row holds its stand-in's input: repaired shards need another file.
        if damage := self.damage():
            key += f" {hashlib.sha256(repr(damage).encode()).hexdigest()}"
        return key


def _cut(rows: tuple[np.ndarray, np.ndarray], part: slice) -> tuple[np.ndarray, np.ndarray]:
    """The part of (ids of all rows, where each begins) that some rows are."""
    starts = rows[1][part.start : part.stop + 1]
    return rows[0][starts[0] : starts[-1]], starts - starts[0]


def open_data(
    dataset: str | os.PathLike[str] | Mapping[str, float],
    data_dir: str | os.PathLike[str] | None = None,
    config: InputConfig | None = None,
    seed: int = 0,
) -> Data:
    """Opens a prepared set, or several as one.

    Args:
      dataset: `name[/config[/version]]` below `data_dir`, or the set's own directory; or several,
        each with its share of every training batch, such as `{"a": 0.7, "b": 0.3}`.
      data_dir: TFDS's data directory; default `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
      config: shapes of the inputs.
      seed: names the validation cut, where a set has no validation split.

    Raises:
      FileNotFoundError: there is no such set.
      ValueError: it cannot be trained on, or its shards are not those that were built; or several
        differ in kind or classes; the message says why.
    """
    kinds = (str, os.PathLike, Mapping)
    check_kind("dataset", dataset, kinds, "the name of a set, its path, or shares of several")
    check_kind("data_dir", data_dir, (str, os.PathLike, type(None)), "a folder or None")
    check_kind("config", config, (InputConfig, type(None)), "an InputConfig or None")
    check_seed(seed)
    config = config or InputConfig()
    place = None if data_dir is None else os.fspath(data_dir)
    shares = dataset if isinstance(dataset, Mapping) else {os.fspath(dataset): 1}
    parts = [open_set(n, place, feature=config.feature, task=config.task) for n in shares]
    return Data(mix_sets(parts, whole_shares(list(shares.values())), seed), config, seed)
