"""Networks for pictures and texts that take a moment to trace, where a test is not about them.

`--model tests.support.tiny_models:pictures` is a user's own; `take_tiny_backbone` puts a small one
in the place of EfficientNet-Lite0, `take_tiny_texts` one in the place of `gru`, in this process.
"""

import functools
from typing import Any

import keras
import pytest

import models
from models import cnn


def pictures(spec: Any, num_classes: int) -> keras.Model:
    """Two convolutions and a dense layer: uint8 [B, S, S, C] -> float32 [B, num_classes]."""
    inputs = keras.Input(spec.shape, name="image")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="tiny_pictures")


def take_tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `efficientnet_lite0` be a network of the same layers with one block, random weights."""
    design = cnn.BackboneDesign(
        _build_backbone, (1 / 128,) * 3, (-127 / 128,) * 3, bgr=False, min_size=32
    )
    build = functools.partial(cnn.build_cnn, design=design)
    monkeypatch.setitem(models.MODELS, "efficientnet_lite0", models.ModelEntry("image", build, 224))


def take_tiny_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `gru` be the mean of the words' vectors and a dense layer: no loop over the words."""

    def build(config: Any, spec: Any, num_classes: int, **_: Any) -> keras.Model:
        inputs = keras.Input(spec.shape, dtype=spec.dtype, name="token_ids")
        x = keras.layers.Embedding(config.vocab_size, 8, mask_zero=True)(inputs)
        x = keras.layers.GlobalAveragePooling1D()(x)
        logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
        return keras.Model(inputs, logits, name="tiny_texts")

    monkeypatch.setitem(models.MODELS, "gru", models.ModelEntry("text", build))


def _build_backbone(shape: tuple[int, int, int], weights: str) -> keras.Model:
    """Float [B, S, S, 3] -> float32 [B, 64]."""
    layers = keras.layers
    inputs = keras.Input(shape)
    x = inputs
    for filters in (16, 64):
        x = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.99)(x))
        x = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal")(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.99)(x))
    pooled = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return keras.Model(inputs, pooled, name="backbone")
