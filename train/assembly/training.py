"""Builds what is trained: model, optimizer, step and order."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from models.augment import augment_images
from records.examples import AnyOrder, Examples
from records.ordering.splits import balanced_class_weights
from records.roles import Data
from records.sets.schema import IMAGE, TABULAR
from records.sets.target import MULTI_LABEL, REGRESSION
from train.assembly.bin_edges import find_thresholds
from train.assembly.context import RunContext
from train.assembly.data import make_training_order
from train.assembly.room import check_weight_room
from train.measures.metrics import AnyMetrics
from train.settings.resolved import Settings
from train.step.features import extract_features
from train.step.objective import ClassesObjective, NumbersObjective, Objective
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
    """

    model: keras.Model
    trained: keras.Model
    step: TrainStep
    optimizer: keras.optimizers.Optimizer
    scale: LossScale | None
    examples: dict[str, Examples]
    level: str
    order: AnyOrder

    @property
    def measure(self) -> Callable[[np.ndarray, np.ndarray], AnyMetrics]:
        """(outputs [n, ...], labels [n] or [n, C]) to metrics; not of `train.fit`."""
        objective = self.step.options.objective
        assert isinstance(objective, Objective | ClassesObjective | NumbersObjective)
        return objective.metrics


def build_training(context: RunContext) -> Training:
    """Builds model, optimizer and step in the strategy's scope.

    With a frozen backbone its features are computed here, or read; the head trains on them.

    Raises:
      ValueError: `--unfreeze-from` names no layer; lists some.
    """
    settings, cluster = context.settings, context.cluster
    set_precision(settings.precision)
    with cluster.strategy.scope():
        model = build_model(settings, context.data)
        if settings.freeze:
            models.find_layer(model, settings.unfreeze_from or "all")  # an error now, not later
            models.freeze_backbone(model)
            features, head = models.split_frozen(model)
            if scale := target_scale(context.data):
                head = models.in_units(head, *scale)  # as the whole model is
    if not settings.freeze:
        return _assemble(context, model, model)
    # On the device whatever the pictures' level: features are some thousand times smaller.
    examples = extract_features(
        features,
        context.examples,
        context.data.content_key(),
        cluster,
        context.level,
        settings.global_batch_size,
    )
    context = dataclasses.replace(context, examples=examples, level="device")
    return _assemble(context, model, head)


def build_fine_tuning(context: RunContext, model: keras.Model) -> Training:
    """What `--unfreeze-from` trains after the head: the same model on pictures.

    `context` has the settings of this stage.

    Raises:
      ValueError: there is no such layer; lists some.
    """
    assert context.settings.unfreeze_from is not None
    models.unfreeze_from(model, context.settings.unfreeze_from)
    return _assemble(context, model, model)


def _assemble(context: RunContext, model: keras.Model, trained: keras.Model) -> Training:
    """Optimizer and step for `trained`, the whole model or the part of it that is trained."""
    settings, cluster = context.settings, context.cluster
    train = context.examples["train"]
    is_picture = context.data.schema.modality == IMAGE
    order = make_training_order(settings, train)
    with cluster.strategy.scope():
        optimizer = make_optimizer(settings, order.steps_per_epoch)
        # Makes the slots here, in the strategy's scope; the traced step could not.
        optimizer.build(trained.trainable_variables)
        scale = LossScale() if settings.precision == "mixed_float16" else None
        # Whatever shapes the numbers of a step is listed here, and taken from resolved settings
        # alone: the step itself reads no flags.
        options = StepOptions(
            objective=_make_objective(settings, context.data, train),
            clip_norm=settings.clip_norm,
            clip_value=settings.clip_value,
            xla=settings.xla,
            seed=settings.seed,
            # Features of frozen pictures are computed once: nothing is left to augment.
            augment=augment_images
            if is_picture and settings.augment and not settings.freeze
            else None,
            mixup=0.0 if settings.freeze else settings.mixup,
            pieces=settings.accumulate_steps,
            skip_non_finite=settings.on_nan == "skip",
        )
        step = TrainStep(trained, optimizer, cluster, train.spec, options, scale)
    return Training(model, trained, step, optimizer, scale, context.examples, context.level, order)


def _make_objective(
    settings: Settings, data: Data, train: Examples
) -> Objective | ClassesObjective | NumbersObjective:
    classes = data.schema.num_classes
    if data.schema.task == MULTI_LABEL:
        return ClassesObjective(classes)
    if scale := target_scale(data):
        return NumbersObjective(*scale)
    weights = class_weights(settings, train, classes)
    return Objective(weights.astype(np.float32), settings.label_smoothing)


def target_scale(data: Data) -> tuple[np.ndarray, np.ndarray] | None:
    """(mean, deviation) float64 [D] of the training examples' numbers; None of classes.

    A number that is the same in all of them is divided by 1.
    """
    if data.schema.task != REGRESSION:
        return None
    train = data.examples("train").without_damaged()
    labels, weights = train.subset_labels.astype(np.float64), train.weights
    mean, deviation = np.average(labels, 0, weights), labels.std(0)
    if weights is not None:
        deviation = np.sqrt(np.average((labels - mean) ** 2, 0, weights))
    return mean, np.where(deviation > 0, deviation, 1.0)


def make_optimizer(settings: Settings, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer with its learning-rate schedule; call it in the strategy's scope."""
    learning_rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        total = steps_per_epoch * settings.epochs
        # At least one step is left to fall from the peak.
        warmup = min(total - 1, round(steps_per_epoch * settings.warmup_epochs))
        options = {"warmup_target": learning_rate, "warmup_steps": warmup} if warmup else {}
        # Where there is a warm-up, CosineDecay's first argument is the rate at which that begins.
        first = 0.0 if warmup else learning_rate
        schedule = keras.optimizers.schedules.CosineDecay
        learning_rate = schedule(first, total - warmup, **options)
    average = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
    adamw, sgd = keras.optimizers.AdamW, keras.optimizers.SGD
    makers: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
        "adam": keras.optimizers.Adam,
        "adamw": functools.partial(adamw, weight_decay=settings.weight_decay),
        "sgd": functools.partial(sgd, momentum=0.9),
        "rmsprop": keras.optimizers.RMSprop,
        "nadam": keras.optimizers.Nadam,
    }
    return makers[settings.optimizer](learning_rate, **average)


def class_weights(settings: Settings, train: Examples, num_classes: int) -> np.ndarray:
    """The weights of the classes, float64 [C]."""
    if settings.class_weights == "none":
        return np.ones(num_classes)
    # Damaged examples have weight 0 in the loss; counted here they would shift the weights of the
    # classes that they claim to be of.
    train = train.without_damaged()
    return balanced_class_weights(train.subset_labels, num_classes, train.weights)


def build_model(settings: Settings, data: Data) -> keras.Model:
    """The model that the settings name, for the set; call it in the strategy's scope."""
    check_weight_room(settings.hidden, settings.units, settings.embedding_dim, settings.vocab_size)
    tabular = data.schema.modality == TABULAR and not models.is_own(settings.model)
    text = data.vocabulary is not None
    mean, variance = data.statistics() if tabular else (None, None)
    # Statistics and bin edges are those of the training examples only: with the validation part in
    # them its score would be too good.
    bins = models.check_model(settings.model).bins
    config = models.ModelConfig(
        name=settings.model,
        dropout=settings.dropout,
        hidden=settings.hidden,
        embedding_dim=settings.embedding_dim,
        units=settings.units,
        recurrent_dropout=settings.recurrent_dropout,
        weights=settings.weights,
        preprocess=settings.preprocess,
        # The set may know fewer words than were asked for: rows of the embedding beyond them would
        # never be trained.
        vocab_size=data.vocabulary.size if data.vocabulary else settings.vocab_size,
    )
    spec = tf.TensorSpec([None], tf.int32) if text else data.spec  # texts of any length
    model = models.build_model(
        config,
        spec,
        data.schema.num_classes,
        mean=mean,
        variance=variance,
        edges=find_thresholds(data.examples("train"), bins) if bins else None,
        seed=settings.seed,
        words=data.vocabulary.words() if data.vocabulary else None,
        use_cudnn=False if settings.xla else "auto",  # XLA has no kernel for cuDNN's layers
    )
    # Numbers leave the model in the user's units, in training as ever after.
    return models.in_units(model, *scale) if (scale := target_scale(data)) else model
