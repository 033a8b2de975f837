"""Batches of a prepared set by its name: for Keras `fit`, or for a loop of one's own."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from records import pipeline
from records.decoding.input_config import InputConfig
from records.examples import AnyOrder, Examples
from records.roles import Data, open_data
from records.system.arguments import check_kind, check_seed, check_whole


def make_dataset(
    dataset: str | os.PathLike[str] | Mapping[str, float] | Data,
    role: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    global_batch_size: int = 32,
    seed: int = 0,
    shuffle: bool | None = None,
    pad: bool = False,
    first_epoch: int = 0,
    config: InputConfig | None = None,
    shuffle_block: int | None = None,
    length_buckets: int = 1,
) -> tf.data.Dataset:
    """Batches of a prepared set, for Keras `fit` or a loop of one's own.

    The dataset holds one epoch, and `len` counts its batches. Every pass over it, such as each
    epoch of `fit`, gives every example once, in the order of the next epoch.

    Args:
      dataset: as `open_data`, or an opened `Data`. Several sets are mixed in `train` where that is
        shuffled; else they come one after the other.
      role: `train`, `validation` or another split of the set.
      data_dir, config: as `open_data`; an opened `Data` has its own.
      global_batch_size: B.
      seed: names the order of examples, and the validation cut.
      shuffle: a new global permutation at every pass; default: for `train` only.
      pad: every batch has B rows, and their weights tell which of them count: the last batch is
        filled up with real rows of weight 0. For XLA, which compiles once per shape, and for
        several replicas. Damaged records that are passed over have weight 0 too.
      first_epoch: the epoch of the first pass, for training that goes on.
      shuffle_block: examples that are permuted together; None: the whole split. With cache "none"
        a block is read in long stretches, while the one before is used.
      length_buckets: texts: batches of like length, cut to the length of the bucket; 1 for none.

    Returns:
      A dataset of (inputs [b, ...], labels int32 [b]); the last batch holds what is left, b <= B.
      With `pad`: of (inputs [B, ...], labels int32 [B], weights float32 [B]). Labels of several
      classes at once are float32 [b, C], numbers float64. Inputs are uint8
      [b, S, S, C], int32 [b, T] or float32 [b, F]; in length buckets T differs between batches.
      Its options switch `autotune.enabled` off; what you add with `tf.data.AUTOTUNE` starts with
      TensorFlow's defaults, and is tuned where you switch it on again.

    Raises:
      FileNotFoundError, ValueError: as `open_data`.
    """
    check_whole("first_epoch", first_epoch, 0)
    found = _open_ordered(
        dataset,
        role,
        data_dir=data_dir,
        global_batch_size=global_batch_size,
        seed=seed,
        shuffle=shuffle,
        pad=pad,
        config=config,
        shuffle_block=shuffle_block,
        length_buckets=length_buckets,
    )
    return pipeline.make_batches(*found, first_epoch, pad)


def make_arrays(
    dataset: str | os.PathLike[str] | Mapping[str, float] | Data,
    role: str = "train",
    *,
    epochs: int = 1,
    start: tuple[int, int] = (0, 0),
    pad: bool = False,
    **options: Any,
) -> Iterator[tuple[np.ndarray, ...]]:
    """The batches of `make_dataset` as NumPy arrays, for a loop of one's own in any framework.

    A batch costs a Python loop less than out of tf.data (`benchmarks.run` measures how much).

    Args:
      start: (epoch, step) to begin at, for training that goes on; no replay.
      options: the other arguments of `make_dataset`, but `first_epoch`.

    Returns:
      An iterator over what that dataset gives.

    Raises:
      FileNotFoundError, ValueError: as `open_data`.
    """
    check_whole("epochs", epochs, 0)
    check_kind("start", start, (tuple, list), "(epoch, step)")
    if len(start) != 2:
        raise ValueError(f"input: start expected (epoch, step), received {start!r}")
    epoch, step = (check_whole("start", number, 0) for number in start)
    found = _open_ordered(dataset, role, pad=pad, **options)
    check_whole("the step of start", step, 0, found[1].steps_per_epoch - 1)
    return pipeline.make_arrays(*found, epochs, (epoch, step), pad)


def _open_ordered(
    dataset: str | os.PathLike[str] | Mapping[str, float] | Data,
    role: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    global_batch_size: int = 32,
    seed: int = 0,
    shuffle: bool | None = None,
    pad: bool = False,
    config: InputConfig | None = None,
    shuffle_block: int | None = None,
    length_buckets: int = 1,
) -> tuple[Examples, AnyOrder]:
    """The examples of a role and their order; arguments as `make_dataset`, and checked."""
    check_whole("global_batch_size", global_batch_size)
    check_whole("length_buckets", length_buckets)
    if shuffle_block is not None:
        check_whole("shuffle_block", shuffle_block)
    check_kind("role", role, str, "train, validation or another split of the set")
    check_kind("shuffle", shuffle, (bool, type(None)), "True, False or None")
    check_kind("pad", pad, bool, "True or False")
    check_seed(seed)
    if isinstance(dataset, Data):
        if data_dir is not None or config is not None:
            raise ValueError(
                "input: data_dir and config expected with the name of a set, received with an "
                "opened Data, which has its own"
            )
        data = dataset
    else:
        data = open_data(dataset, data_dir, config, seed)
    examples = data.examples(role)
    if examples.mixture is not None and (shuffle_block is not None or length_buckets > 1):
        raise ValueError(
            "input: shuffle_block and length_buckets expected with one set, received with a mixture"
        )
    if not pad:
        # Rows of weight 0 stand at a batch's end only where no damaged record does.
        examples = examples.without_damaged()
    order = examples.order(
        global_batch_size,
        seed,
        # Evaluation keeps the order of the records, so that predictions can be matched with them.
        role == "train" if shuffle is None else shuffle,
        shuffle_block=shuffle_block,
        length_buckets=length_buckets,
    )
    return examples, order
