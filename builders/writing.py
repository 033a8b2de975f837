"""How a build's shards are written: how many, and with the same bytes every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import writer
from tensorflow_datasets.core.utils import shard_utils


@dataclasses.dataclass(frozen=True)
class BoundedShardConfig(shard_utils.ShardConfig):
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
    """A request that carries a builder's shard count to the writer."""

    def get_shard_config(self) -> shard_utils.ShardConfig:
        """Returns the shard configuration for the writer."""
        return BoundedShardConfig(num_shards=self.num_shards)


class StableExampleWriter(writer.ExampleWriter):
    """Writes examples with their features in the order of their names.

    Protocol buffers serialise a map in an order that differs from process to process, so that two
    builds of the same data would differ in their bytes.
    """

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        """Writes (key, serialised tf.train.Example) pairs to the shard `path`."""
        from tensorflow.core.example import example_pb2  # a refused request need not wait for it

        parse = example_pb2.Example.FromString
        return super().write(
            path,
            ((key, parse(data).SerializeToString(deterministic=True)) for key, data in examples),
        )
