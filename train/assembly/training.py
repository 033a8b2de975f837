"""What a run is made of, before its first step: data, model, optimizer, step."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from models.augment import augment_images
from records.examples import AnyOrder, Examples
from records.ordering.splits import balanced_class_weights
from records.pipeline import make_chunks
from records.roles import Data
from records.sets.schema import IMAGE, TABULAR
from train.assembly.bin_edges import find_thresholds
from train.assembly.data import make_training_order
from train.assembly.optimizer import make_optimizer
from train.devices.strategy import Cluster
from train.settings.config import TrainConfig
from train.step.features import extract_features
from train.step.feed import ChunkSource
from train.step.objective import Objective
from train.step.precision import LossScale, set_precision
from train.step.train_step import StepOptions, TrainStep


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
      source: where their chunks come from on all levels but "device".
    """

    model: keras.Model
    trained: keras.Model
    step: TrainStep
    optimizer: keras.optimizers.Optimizer
    scale: LossScale | None
    examples: dict[str, Examples]
    level: str
    order: AnyOrder
    source: ChunkSource = make_chunks


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
        model = build_model(config, hardware["xla"], data)
        trained = model
        if config.freeze:
            models.find_layer(model, config.unfreeze_from or "all")  # an error now, not later
            models.freeze_backbone(model)
            features, trained = models.split_frozen(model)
    if config.freeze:
        batch = int(config.global_batch_size or 0)
        examples = extract_features(features, examples, data.content_key(), cluster, level, batch)
        level = "device"
    return _assemble(config, hardware, data, level, examples, cluster, (model, trained))


def build_fine_tuning(
    config: TrainConfig,
    hardware: dict[str, Any],
    data: Data,
    level: str,
    examples: dict[str, Examples],
    cluster: Cluster,
    model: keras.Model,
) -> tuple[TrainConfig, Training]:
    """What `--unfreeze-from` trains after the head: (its settings, the same model on pictures).

    Args:
      config: resolved settings of the run.
      hardware, data, level, examples, cluster: as `build_training`.
      model: whose head was trained.

    Raises:
      ValueError: there is no such layer; lists some.
    """
    models.unfreeze_from(model, str(config.unfreeze_from))
    config = dataclasses.replace(
        config,
        freeze=False,
        epochs=config.fine_tune_epochs,
        learning_rate=config.fine_tune_learning_rate,
    )
    return config, _assemble(config, hardware, data, level, examples, cluster, (model, model))


def _assemble(
    config: TrainConfig,
    hardware: dict[str, Any],
    data: Data,
    level: str,
    examples: dict[str, Examples],
    cluster: Cluster,
    built: tuple[keras.Model, keras.Model],
) -> Training:
    """Optimizer and step for (the whole model, the part of it that is trained)."""
    model, trained = built
    order = make_training_order(config, examples["train"], hardware.get("shuffle_block"))
    with cluster.strategy.scope():
        optimizer = make_optimizer(config, order.steps_per_epoch)
        optimizer.build(trained.trainable_variables)
        scale = LossScale() if hardware["precision"] == "mixed_float16" else None
        options = StepOptions(
            objective=Objective(
                _class_weights(config, data, examples["train"]), config.label_smoothing
            ),
            clip_norm=config.clip_norm,
            clip_value=config.clip_value,
            xla=hardware["xla"],
            seed=config.seed,
            augment=augment_images if _augments(config, data) else None,
            mixup=0.0 if config.freeze else config.mixup,
            pieces=config.accumulate_steps,
            skip_non_finite=config.on_nan == "skip",
        )
        step = TrainStep(trained, optimizer, cluster, options, scale)
    return Training(model, trained, step, optimizer, scale, examples, level, order)


def _augments(config: TrainConfig, data: Data) -> bool:
    return data.schema.modality == IMAGE and config.augment and not config.freeze


def _class_weights(config: TrainConfig, data: Data, train: Examples) -> np.ndarray:
    if config.class_weights == "none":
        return np.ones(data.schema.num_classes, np.float32)
    labels = train.without_damaged().subset_labels
    weights = balanced_class_weights(labels, data.schema.num_classes)
    return weights.astype(np.float32)


def build_model(config: TrainConfig, xla: bool, data: Data) -> keras.Model:
    """The model that the settings name, for the set; call it in the strategy's scope."""
    tabular = data.schema.modality == TABULAR
    text = data.schema.modality not in (TABULAR, IMAGE)
    mean, variance = data.statistics() if tabular else (None, None)
    bins = models.check_model(str(config.model)).bins
    settings = models.ModelConfig(
        name=str(config.model),
        dropout=config.dropout,
        hidden=config.hidden,
        embedding_dim=config.embedding_dim,
        units=config.units,
        recurrent_dropout=config.recurrent_dropout,
        weights=config.weights,
        preprocess=config.preprocess,
        vocab_size=data.vocab_size if text else config.vocab_size,
    )
    spec = tf.TensorSpec([None], tf.int32) if text else data.spec  # texts of any length
    return models.build_model(
        settings,
        spec,
        data.schema.num_classes,
        mean=mean,
        variance=variance,
        edges=find_thresholds(data.examples("train"), bins) if bins else None,
        seed=config.seed,
        use_cudnn=False if xla else "auto",
    )
