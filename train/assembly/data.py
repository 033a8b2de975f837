"""Opens a run's examples: data, cache level, order and where the chunks come from."""

from __future__ import annotations

import dataclasses

from records.examples import AnyOrder, Examples
from records.loading.cache import LEVELS, choose_level, choose_shuffle_block, host_budget
from records.opened import OpenedSet
from records.ordering.buckets import make_order
from records.pipeline import make_chunks
from records.roles import Data, Fold, InputConfig
from records.service.trainer import RemoteSource
from records.sets.hints import verify_hint
from train.devices.strategy import Cluster
from train.settings.config import TrainConfig
from train.step.feed import ChunkSource

_MOST_DAMAGED = 20  # named one by one


def open_examples(
    config: TrainConfig, opened: OpenedSet, cluster: Cluster
) -> tuple[Data, str, dict[str, Examples]]:
    """Opens and decodes the set: (data, cache level, examples by role).

    The split test has a role only where it is to be evaluated.
    """
    data_config = _input_config(config)
    fold = make_fold(config)
    data = Data(opened, data_config, config.seed, fold)
    level, reason = choose_level(
        config.cache,
        data.decoded_bytes,
        len(cluster.devices),
        cluster.accelerator,
        directory=opened.schema.directory,
        memory_budget=_budget(config),
    )
    if config.data_service and level == "device":  # only the other levels take chunks
        level, reason = "memory", f"cache memory, training from {config.data_service}"
    print(f"  {reason}") if cluster.is_chief else None
    # Calls differ by level: all workers take the one that fits everywhere.
    level = LEVELS[int(cluster.exchange(LEVELS.index(level)).max())]
    if level in ("disk", "none"):
        data = Data(opened, dataclasses.replace(data_config, cache=level), config.seed, fold)
    roles = [role for role in data.roles() if role != "test" or config.evaluate_test]
    return data, level, {role: data.examples(role) for role in roles}


def _input_config(config: TrainConfig) -> InputConfig:
    return InputConfig(
        image_size=int(config.image_size or 0),
        sequence_length=config.sequence_length,
        vocab_size=config.vocab_size,
        feature=config.feature,
    )


def open_fold(config: TrainConfig, opened: OpenedSet) -> Data:
    """The data of one fold, decoded in memory."""
    return Data(opened, _input_config(config), config.seed, make_fold(config))


def make_fold(config: TrainConfig) -> Fold | None:
    """The fold that validates, or None without cross-validation."""
    if config.folds is None:
        return None
    return Fold(config.fold, config.folds, config.seed, config.pool_splits, config.group_folds)


def make_source(config: TrainConfig, data: Data, fingerprint: str) -> ChunkSource:
    """Where the training chunks come from.

    Raises:
      ConnectionError: no data service answers.
    """
    if config.data_service is None:
        return make_chunks
    return RemoteSource(config.data_service, data, fingerprint, config.length_buckets)


def _budget(config: TrainConfig) -> int | None:
    return None if config.memory_budget is None else int(config.memory_budget)


def resolve_shuffle_block(
    config: TrainConfig, level: str, train: Examples, cluster: Cluster
) -> int | None:
    """Examples permuted together: as asked, else all, or what every worker's budget holds."""
    if config.shuffle_block is not None:
        return config.shuffle_block
    index = train.index
    block = choose_shuffle_block(
        level,
        int(index.length.sum()),
        index.num_records,
        int(config.global_batch_size or 1),
        host_budget(_budget(config)),
    )
    least = cluster.exchange(block or index.num_records).min()
    return None if least == index.num_records else int(least)


def make_training_order(config: TrainConfig, train: Examples, block: int | None) -> AnyOrder:
    """The order of the training examples."""
    return make_order(
        train.num_examples,
        int(config.global_batch_size or 0),
        config.seed,
        shuffle_block=block,
        lengths=train.subset_lengths,
        length_buckets=config.length_buckets,
    )


def print_damage(opened: OpenedSet, damage: dict[str, tuple[str, ...]]) -> None:
    """Names the damaged records that are passed over, the first of them one by one."""
    if opened.skip_damaged and not damage:
        print("  all records were checked, none is damaged")
    for split, lines in damage.items():
        print(f"  {split}: {len(lines):,} damaged records are passed over, at weight 0")
        for line in lines[:_MOST_DAMAGED]:
            print(f"    {line}")
        if len(lines) > _MOST_DAMAGED:
            more = len(lines) - _MOST_DAMAGED
            print(f"    and {more:,} more: {verify_hint(opened.schema.directory)}")
