"""The optimizer that the settings name, with its learning-rate schedule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras

from train.settings.resolved import Settings


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
