"""Parts of TFDS outside its public API that the builders use, each with its reason.

Besides these, `builders.base` overrides the hooks `_download_and_prepare` and `_generate_splits`,
which TFDS calls on every builder, and `builders/__init__` registers a provider. TFDS is pinned to
one version; `tests/builders/tfds_private_test.py` fails when a part goes.
"""

import dataclasses
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import example_serializer, writer
from tensorflow_datasets.core.hashing import Hasher
from tensorflow_datasets.core.naming import ShardedFileTemplate
from tensorflow_datasets.core.utils import shard_utils
from tensorflow_datasets.core.utils.shard_utils import get_shard_boundaries

__all__ = [
    "Hasher",
    "ShardedDownloadConfig",
    "ShardedFileTemplate",
    "StableSerializer",
    "get_shard_boundaries",
    "manual_directory",
    "open_beam_shards",
    "open_shards",
]


@dataclasses.dataclass(frozen=True)
class _BoundedShardConfig(shard_utils.ShardConfig):
    """A fixed shard count that never exceeds a split's examples (TFDS asserts, half-way)."""

    def get_number_shards(
        self, total_size: int, num_examples: int, uses_precise_sharding: bool = True
    ) -> int:
        """Returns `num_shards`, or the number of examples where that is smaller."""
        del total_size, uses_precise_sharding
        if num_examples < self.num_shards:
            logging.info("%d shards for a split of %d examples", num_examples, num_examples)
        return min(self.num_shards, num_examples)


@dataclasses.dataclass
class ShardedDownloadConfig(tfds.download.DownloadConfig):
    """A request that carries a builder's shard count to the writer.

    The public `num_shards` of a request counts too, but not a builder's own default; the writer's
    calculator takes sizes from class attributes alone.
    """

    def get_shard_config(self) -> shard_utils.ShardConfig:
        """Returns the shard configuration for the writer."""
        return _BoundedShardConfig(num_shards=self.num_shards)


class StableSerializer(example_serializer.ExampleSerializer):
    """Serialises the features in the order of their names.

    Protocol buffers serialise a map in an order that differs from process to process, so that two
    builds of the same data would differ in their bytes.
    """

    def serialize_example(self, example: Any) -> bytes:
        """The bytes of a `tf.train.Example`."""
        return self.get_tf_example(example).SerializeToString(deterministic=True)


class _Serialised(example_serializer.Serializer):
    """For TFDS's writer: the examples are serialised already."""

    def serialize_example(self, example: bytes) -> bytes:
        return example


def open_shards(
    split: str,
    filename_template: ShardedFileTemplate,
    serialized_info: Any,
    request: tfds.download.DownloadConfig,
) -> Any:
    """TFDS's writer of one split, for examples that are serialised already.

    The public way in, a builder's generator, serialises in this process, one after the other, and
    in an order of features that differs from build to build.
    """
    # By a hash of the key, not at random: a build writes the same order every time.
    how = _writer_arguments(split, filename_template, serialized_info, request)
    return writer.Writer(disable_shuffling=False, **how)


def _writer_arguments(
    split: str,
    filename_template: ShardedFileTemplate,
    serialized_info: Any,
    request: tfds.download.DownloadConfig,
) -> dict[str, Any]:
    return {
        "serializer": _Serialised(serialized_info),
        "filename_template": filename_template,
        "hash_salt": split,
        "shard_config": request.get_shard_config(),
        "example_writer": writer.ExampleWriter(file_format=tfds.core.FileFormat.TFRECORD),
        "ignore_duplicates": request.ignore_duplicates,
    }


class _ShardsByKey(writer.BeamWriter):
    """Takes the shard from the key, (shard, hash), which also sorts as the hash alone does.

    TFDS cuts the range of hashes into even parts, whose numbers of examples differ; its local
    writer cuts the examples, in the order of their hashes, into even parts.
    """

    def _assign_shard(
        self, example: tuple[tuple[int, int], bytes], num_shards: int, largest_key: Any
    ) -> tuple[int, tuple[tuple[int, int], bytes]]:
        del num_shards, largest_key
        return example[0][0], example


def open_beam_shards(
    split: str,
    filename_template: ShardedFileTemplate,
    serialized_info: Any,
    request: tfds.download.DownloadConfig,
) -> Any:
    """TFDS's Beam writer of one split, of a collection of ((shard, hash of the key), bytes).

    Arguments as `open_shards`.
    """
    how = _writer_arguments(split, filename_template, serialized_info, request)
    return _ShardsByKey(disable_shuffling=True, **how)  # the keys are hashes already


def manual_directory(dl_manager: Any) -> Path:
    """The directory of source files, there or not: the public property raises without one."""
    try:
        return Path(dl_manager.manual_dir)
    except (AssertionError, OSError):  # it does not exist, is empty or a file, or cannot be read
        return Path(dl_manager._manual_dir)
