"""What a run is made of, before its first step: settings resolved, data, model, step."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from models.augment import augment_images
from records.buckets import make_order
from records.cache import choose_level, choose_shuffle_block, host_budget
from records.data import Data, InputConfig
from records.examples import AnyOrder, Examples
from records.schema import IMAGE, TABULAR, Schema
from records.subsets import balanced_class_weights
from train.choices import choose_hardware
from train.config import MODALITY_DEFAULTS, TrainConfig
from train.evaluate import Predictor
from train.precision import LossScale, set_precision
from train.step import StepOptions, TrainStep
from train.strategy import Cluster

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
            f"train/setup: --freeze expected with a picture model, received {config.model}"
        )
    _check_ignored(asked, config)
    if freeze is None:
        freeze = modality == IMAGE and config.weights != "random"
    return dataclasses.replace(
        config, freeze=freeze, image_size=config.image_size or entry.image_size or 224
    )


def _check_ignored(asked: TrainConfig, config: TrainConfig) -> None:
    """Raises ValueError for a setting that was asked for and would do nothing."""
    if asked.weight_decay and config.optimizer != "adamw":
        raise ValueError(
            f"train/setup: --weight-decay expected with --optimizer adamw, received "
            f"--optimizer {config.optimizer}"
        )
    if asked.monitor and not config.early_stopping:
        raise ValueError(
            "train/setup: --monitor expected with --early-stopping N, the epochs to wait for "
            "a better one, received --early-stopping 0"
        )


def resolve_hardware(config: TrainConfig, cluster: Cluster) -> dict[str, Any]:
    """What `auto` means here: {"precision", "xla"}; a resumed run keeps what it began with."""
    return choose_hardware(config, cluster.accelerator, cluster.num_replicas)


def open_examples(
    config: TrainConfig, schema: Schema, cluster: Cluster
) -> tuple[Data, str, dict[str, Examples]]:
    """Opens and decodes the set: (data, cache level, examples by role)."""
    data_config = InputConfig(
        image_size=int(config.image_size or 0),
        sequence_length=config.sequence_length,
        vocab_size=config.vocab_size,
        feature=config.feature,
    )
    data = Data(schema, data_config, config.seed)
    level, reason = choose_level(
        config.cache,
        data.decoded_bytes,
        len(cluster.devices),
        cluster.accelerator,
        directory=schema.directory,
        memory_budget=_budget(config),
    )
    print(f"  {reason}")
    if level in ("disk", "none"):
        data = Data(schema, dataclasses.replace(data_config, cache=level), config.seed)
    return data, level, {role: data.examples(role) for role in data.roles()}


def _budget(config: TrainConfig) -> int | None:
    return None if config.memory_budget is None else int(config.memory_budget)


def resolve_shuffle_block(config: TrainConfig, level: str, train: Examples) -> int | None:
    """Examples permuted together: as asked, else all, or what the memory budget holds."""
    if config.shuffle_block is not None:
        return config.shuffle_block
    index = train.index
    return choose_shuffle_block(
        level,
        int(index.length.sum()),
        index.num_records,
        int(config.global_batch_size or 1),
        host_budget(_budget(config)),
    )


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


@dataclasses.dataclass
class Training:
    """A model in training.

    Attributes:
      model: the whole model, which is saved.
      trained: the part that is trained: the model, or its head on cached features.
      step, optimizer, scale: what trains it.
      examples: by role; cached features where the backbone is frozen.
      level: cache level of the examples.
      order: of the training examples.
    """

    model: keras.Model
    trained: keras.Model
    step: TrainStep
    optimizer: keras.optimizers.Optimizer
    scale: LossScale | None
    examples: dict[str, Examples]
    level: str
    order: AnyOrder


def build_training(
    config: TrainConfig,
    hardware: dict[str, Any],
    data: Data,
    level: str,
    examples: dict[str, Examples],
    cluster: Cluster,
) -> Training:
    """Builds model, optimizer and step in the strategy's scope.

    Args:
      config: resolved settings.
      hardware: what `auto` became: precision, xla, and shuffle_block, if there is one.
      data, level, examples: as `open_examples` gives them.
      cluster: the replicas.
    """
    set_precision(hardware["precision"])
    with cluster.strategy.scope():
        model = _build_model(config, hardware["xla"], data)
        trained = model
        if config.freeze:
            models.freeze_backbone(model)
            features, trained = models.split_frozen(model)
    if config.freeze:
        batch = int(config.global_batch_size or 0)
        examples = _extract(features, examples, cluster, level, batch)
        level = "device"
    order = make_training_order(config, examples["train"], hardware.get("shuffle_block"))
    with cluster.strategy.scope():
        optimizer = _make_optimizer(config, order.steps_per_epoch)
        optimizer.build(trained.trainable_variables)
        scale = LossScale() if hardware["precision"] == "mixed_float16" else None
        options = StepOptions(
            class_weights=_class_weights(config, data, examples["train"]),
            clip_norm=config.clip_norm,
            xla=hardware["xla"],
            seed=config.seed,
            augment=augment_images if _augments(config, data) else None,
        )
        step = TrainStep(trained, optimizer, cluster, options, scale)
    return Training(model, trained, step, optimizer, scale, examples, level, order)


def _augments(config: TrainConfig, data: Data) -> bool:
    return data.schema.modality == IMAGE and config.augment and not config.freeze


def _class_weights(config: TrainConfig, data: Data, train: Examples) -> np.ndarray:
    if config.class_weights == "none":
        return np.ones(data.schema.num_classes, np.float32)
    weights = balanced_class_weights(train.subset_labels, data.schema.num_classes)
    return weights.astype(np.float32)


def _build_model(config: TrainConfig, xla: bool, data: Data) -> keras.Model:
    tabular = data.schema.modality == TABULAR
    text = data.schema.modality not in (TABULAR, IMAGE)
    mean, variance = data.statistics() if tabular else (None, None)
    settings = models.ModelConfig(
        name=str(config.model),
        dropout=config.dropout,
        weights=config.weights,
        vocab_size=data.vocab_size if text else config.vocab_size,
    )
    spec = tf.TensorSpec([None], tf.int32) if text else data.spec  # texts of any length
    return models.build_model(
        settings,
        spec,
        data.schema.num_classes,
        mean=mean,
        variance=variance,
        seed=config.seed,
        use_cudnn=False if xla else "auto",
    )


def _make_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    learning_rate: Any = float(config.learning_rate or 0)
    if config.schedule == "cosine":
        total = steps_per_epoch * int(config.epochs or 1)
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, total)
    makers: dict[str, Any] = {
        "adam": keras.optimizers.Adam,
        "adamw": lambda rate: keras.optimizers.AdamW(
            rate, weight_decay=float(config.weight_decay or 0)
        ),
        "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
        "rmsprop": keras.optimizers.RMSprop,
        "nadam": keras.optimizers.Nadam,
    }
    return makers[config.optimizer](learning_rate)


def _extract(
    features: keras.Model,
    examples: dict[str, Examples],
    cluster: Cluster,
    level: str,
    global_batch_size: int,
) -> dict[str, Examples]:
    """Runs the frozen backbone once over every role's pictures and keeps the features."""
    extracted = {}
    for role, source in examples.items():
        predictor = Predictor(features, source, cluster, level, global_batch_size)
        outputs = predictor.outputs(f"features of {role}")
        extracted[role] = dataclasses.replace(
            source,
            numbers=np.arange(source.num_examples),
            labels=source.subset_labels,
            spec=tf.TensorSpec(outputs.shape[1:], tf.float32),
            cached=outputs,
            filling=None,
        )
    return extracted
