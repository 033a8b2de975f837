"""Opens a run's examples: data, cache level, shuffle block, and where the chunks come from."""

import dataclasses

import numpy as np

from records.decoding.input_config import LEVELS, InputConfig
from records.examples import AnyOrder, Examples
from records.loading.cache import choose_level, choose_shuffle_block, host_budget
from records.opened import OpenedSet
from records.pipeline import make_chunks
from records.roles import Data, Fold
from records.service.trainer import RemoteSource
from records.sets.hints import verify_hint
from train.assembly.context import RunContext
from train.assembly.room import check_batch_room
from train.devices.strategy import Cluster
from train.settings.resolved import Settings
from train.step.feed import ChunkSource

_MOST_DAMAGED = 20  # named one by one


def open_context(settings: Settings, opened: OpenedSet, cluster: Cluster) -> RunContext:
    """Chooses where the examples are kept, and decodes them.

    Raises:
      ValueError: settings that do not fit the data.
      ConnectionError: no data service answers.
    """
    config = _input_config(settings)
    data = Data(opened, config, settings.seed, make_fold(settings))
    spec = data.spec
    check_batch_room(settings.global_batch_size, int(np.prod(spec.shape)) * spec.dtype.size)
    level, reason = choose_level(
        settings.cache,
        data.decoded_bytes,
        len(cluster.devices),
        cluster.accelerator,
        directory=opened.schema.directory,
        memory_budget=_budget(settings),
    )
    if settings.data_service and level == "device":  # only the other levels take chunks
        level, reason = "memory", f"cache memory, training from {settings.data_service}"
    if cluster.is_chief:
        print(f"  {reason}")
    # Calls differ by level: all workers take the one that fits everywhere. `LEVELS` is ordered so
    # that the greatest index needs the least room.
    level = LEVELS[int(cluster.exchange(LEVELS.index(level)).max())]
    if level in ("disk", "none"):
        # These two levels read their examples otherwise; the other two decode them into memory.
        config = dataclasses.replace(config, cache=level)
        data = Data(opened, config, settings.seed, make_fold(settings))
    # Test is not even read where it is not to be evaluated.
    roles = [role for role in data.roles() if role != "test" or settings.evaluate_test]
    examples = {role: data.examples(role) for role in roles}
    return RunContext(settings, cluster, data, level, examples, _make_source(settings, data))


def open_fold(settings: Settings, opened: OpenedSet) -> Data:
    """The data of one fold, decoded in memory."""
    return Data(opened, _input_config(settings), settings.seed, make_fold(settings))


def make_fold(settings: Settings) -> Fold | None:
    """The fold that validates, or None without cross-validation."""
    if settings.folds is None:
        return None
    return Fold(
        settings.fold,
        settings.folds,
        settings.seed,
        settings.pool_splits,
        settings.group_folds,
    )


def resolve_shuffle_block(context: RunContext) -> int | None:
    """Examples permuted together: as asked, else all (None), or what every worker's budget holds.

    A run keeps what its first start found: the order of its examples depends on it.
    """
    settings, index = context.settings, context.examples["train"].index
    if settings.shuffle_block is not None or context.examples["train"].mixture is not None:
        return settings.shuffle_block
    block = choose_shuffle_block(
        context.level,
        index.payload_bytes,
        index.num_records,
        settings.global_batch_size,
        host_budget(_budget(settings)),
    )
    # Budgets differ between workers, the order must not.
    least = context.cluster.exchange(block or index.num_records).min()
    return None if least == index.num_records else int(least)


def make_training_order(settings: Settings, train: Examples, *, shuffle: bool = True) -> AnyOrder:
    """The order of the training examples; that of the set where they are not shuffled."""
    return train.order(
        settings.global_batch_size,
        settings.seed,
        shuffle,
        shuffle_block=settings.shuffle_block,
        length_buckets=settings.length_buckets,
    )


def print_damage(data: Data) -> None:
    """Names the damaged records that are passed over, the first of them one by one."""
    damage = data.damage()
    if data.opened.skip_damaged and not damage:
        print("  all records were checked, none is damaged")
    for split, lines in damage.items():
        print(f"  {split}: {len(lines):,} damaged records are passed over, at weight 0")
        for line in lines[:_MOST_DAMAGED]:
            print(f"    {line}")
        if len(lines) > _MOST_DAMAGED:
            hint = verify_hint(data.schema.directory)
            print(f"    and {len(lines) - _MOST_DAMAGED:,} more: {hint}")


def _make_source(settings: Settings, data: Data) -> ChunkSource:
    if settings.data_service is None:
        return make_chunks
    fingerprint = data.opened.fingerprint
    return RemoteSource(settings.data_service, data, fingerprint, settings.length_buckets)


def _input_config(settings: Settings) -> InputConfig:
    return InputConfig(
        image_size=settings.image_size,
        max_pixels=settings.max_pixels,
        sequence_length=settings.sequence_length,
        vocab_size=settings.vocab_size,
        feature=settings.feature,
        task=settings.task,
    )


def _budget(settings: Settings) -> int | None:
    return None if settings.memory_budget is None else int(settings.memory_budget)
