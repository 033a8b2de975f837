"""The optimizer that the settings name, with its learning-rate schedule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras

from train.settings.config import TrainConfig


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer with its learning-rate schedule; call it in the strategy's scope."""
    learning_rate: Any = float(config.learning_rate or 0)
    if config.schedule == "cosine":
        total = steps_per_epoch * int(config.epochs or 1)
        warmup = min(total - 1, round(steps_per_epoch * config.warmup_epochs))
        options = {"warmup_target": learning_rate, "warmup_steps": warmup} if warmup else {}
        first = 0.0 if warmup else learning_rate
        schedule = keras.optimizers.schedules.CosineDecay
        learning_rate = schedule(first, total - warmup, **options)
    average = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    adamw, sgd = keras.optimizers.AdamW, keras.optimizers.SGD
    decay = float(config.weight_decay or 0)
    makers: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
        "adam": keras.optimizers.Adam,
        "adamw": functools.partial(adamw, weight_decay=decay),
        "sgd": functools.partial(sgd, momentum=0.9),
        "rmsprop": keras.optimizers.RMSprop,
        "nadam": keras.optimizers.Nadam,
    }
    return makers[config.optimizer](learning_rate, **average)
