"""Settings filled in by the kind of data and the hardware, and refused where they do not fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import models
from records.sets.schema import IMAGE, Schema
from train.devices.strategy import Cluster
from train.settings.auto import choose_hardware
from train.settings.config import MODALITY_DEFAULTS, TrainConfig

_MODEL_MODALITY = {"tokens": "text"}  # both are int32 ids for a model


def resolve(config: TrainConfig, schema: Schema) -> TrainConfig:
    """Fills the fields that depend on the kind of data.

    Raises:
      ValueError: the model is unknown or for another kind of data.
    """
    asked = config
    modality = _MODEL_MODALITY.get(schema.modality, schema.modality)
    missing = {k: v for k, v in MODALITY_DEFAULTS[modality].items() if getattr(config, k) is None}
    config = dataclasses.replace(config, **missing)
    entry = models.check_model(str(config.model), modality)
    freeze = config.freeze
    if modality != IMAGE and freeze:
        raise ValueError(
            f"settings: --freeze expected with a picture model, received {config.model}"
        )
    if freeze is None:
        freeze = modality == IMAGE and config.weights != "random"
    config = dataclasses.replace(config, freeze=freeze)
    _check_ignored(asked, config, modality)
    _check_service(config, bool(freeze))
    if config.evaluate_test and (config.folds or "test" not in schema.split_counts):
        raise ValueError(
            "settings: --evaluate-test expected with a split test and without --folds, "
            f"received {', '.join(schema.split_counts)} and --folds {config.folds or 'none'}"
        )
    return dataclasses.replace(config, image_size=config.image_size or entry.image_size or 224)


def _check_ignored(asked: TrainConfig, config: TrainConfig, modality: str) -> None:
    """Raises ValueError for a setting that was asked for and would do nothing."""
    if asked.weight_decay and config.optimizer != "adamw":
        raise ValueError(
            f"settings: --weight-decay expected with --optimizer adamw, received "
            f"--optimizer {config.optimizer}"
        )
    if config.warmup_epochs and config.schedule != "cosine":
        raise ValueError(
            f"settings: --warmup-epochs expected with --schedule cosine, received "
            f"--schedule {config.schedule}"
        )
    if config.recurrent_dropout and modality != "text":
        raise ValueError(
            "settings: --recurrent-dropout expected with a text model, received "
            f"--model {config.model}"
        )
    for name, kind in (("hidden", "tabular"), ("embedding_dim", "text"), ("units", "text")):
        if getattr(config, name) is not None and modality != kind:
            raise ValueError(
                f"settings: --{name.replace('_', '-')} expected with a model of "
                f"{'tables' if kind == 'tabular' else 'texts'}, received --model {config.model}"
            )
    for name in ("fine_tune_epochs", "fine_tune_learning_rate"):
        if not config.unfreeze_from and getattr(config, name) != getattr(TrainConfig, name):
            raise ValueError(
                f"settings: --{name.replace('_', '-')} expected with --unfreeze-from, "
                "received it without"
            )
    fewest = min(
        int(config.epochs or 1), config.fine_tune_epochs if config.unfreeze_from else 2**31
    )
    if config.warmup_epochs >= fewest:
        raise ValueError(
            f"settings: --warmup-epochs expected fewer than the {fewest} epochs of a stage, "
            f"received {config.warmup_epochs}"
        )
    if config.unfreeze_from and not config.freeze:
        raise ValueError(
            "settings: --unfreeze-from expected with a frozen picture model, whose head is "
            f"trained first, received --model {config.model} without --freeze"
        )
    if config.mixup and (modality != IMAGE or (config.freeze and not config.unfreeze_from)):
        raise ValueError(
            "settings: --mixup expected with a picture model whose backbone is trained "
            f"(--no-freeze or --unfreeze-from), received --model {config.model}"
        )
    if asked.monitor and not config.early_stopping:
        raise ValueError(
            "settings: --monitor expected with --early-stopping N, the epochs to wait for "
            "a better one, received --early-stopping 0"
        )


def check_rows(config: TrainConfig, cluster: Cluster) -> None:
    """Raises ValueError where a global batch cannot be cut as asked."""
    size = int(config.global_batch_size or 0)
    rows = len(range(size)[cluster.slices(size)[0]])
    if rows % config.accumulate_steps:
        raise ValueError(
            f"settings: --accumulate-steps expected a divisor of the {rows} rows that each "
            f"replica takes of --global-batch-size {size}, received {config.accumulate_steps}"
        )
    if config.mixup and rows // config.accumulate_steps % 2:
        raise ValueError(
            "settings: --mixup expected an even number of rows in each part of a batch, "
            f"received {rows // config.accumulate_steps}"
        )


def _check_service(config: TrainConfig, freeze: bool) -> None:
    """Raises ValueError where the chunks could not come from a data service."""
    if config.data_service is None:
        return
    if config.on_corrupt == "skip":
        raise ValueError(
            "settings: --on-corrupt skip expected without --data-service, whose workers read "
            "by themselves; received both. Repair their copy: python -m records.verify DATA_DIR "
            "--repair DIR"
        )
    if config.folds is not None:
        raise ValueError(
            "settings: --data-service expected without --folds, which its workers do not cut"
        )
    if freeze:
        raise ValueError(
            "settings: --data-service expected with --no-freeze, received a frozen backbone, "
            "whose features are computed here once and need no more input"
        )
    if config.cache == "device":
        raise ValueError(
            "settings: --data-service expected with --cache memory, disk, none or auto, "
            "received device, where training takes its batches from"
        )


def resolve_hardware(config: TrainConfig, cluster: Cluster) -> dict[str, Any]:
    """What `auto` means here: {"precision", "xla"}; a resumed run keeps what it began with."""
    return choose_hardware(config, cluster.accelerator, cluster.num_replicas)
