"""Resolved settings without a set."""

from __future__ import annotations

from typing import Any

from train.settings.config import TrainConfig
from train.settings.resolve import fill
from train.settings.resolved import Settings


def make_settings(modality: str = "tabular", **fields: Any) -> Settings:
    """What a run on a CPU has where these fields are asked for, in float32 and without XLA."""
    asked = TrainConfig(**fields)
    return Settings.of(asked, fill(asked, modality) | {"precision": "float32", "xla": False})
