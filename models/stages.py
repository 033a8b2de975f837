"""The stages of an image model: training the head alone, on cached features or in place."""

from __future__ import annotations

import keras


def _stage(model: keras.Model, name: str) -> keras.Model:
    if name not in [layer.name for layer in model.layers]:
        raise ValueError(
            f"models: {model.name} has no stage {name!r}; only image models can be frozen or split"
        )
    return model.get_layer(name)


def split_frozen(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Splits an image model into the part to run once per picture and the part to train.

    Returns:
        (features_model, head_model): [B, S, S, C] in 0..255 -> float32 [B, D], and float32
        [B, D] -> float32 logits [B, num_classes]. Both share their weights with `model`.

    Raises:
        ValueError: not an image model.
    """
    preprocess, backbone = _stage(model, "preprocess"), _stage(model, "backbone")
    images = keras.Input(model.input_shape[1:], dtype="float32", name="image")
    features_model = keras.Model(images, backbone(preprocess(images)), name="features")
    return features_model, _stage(model, "head")


def freeze_backbone(model: keras.Model) -> None:
    """Makes the backbone a fixed function, in place: only the head stays trainable.

    Frozen BatchNorm layers use their stored statistics also in training, and the backbone's own
    dropout (EfficientNetB0 skips residual branches at random) is switched off, so that the model
    computes the same features as `split_frozen` gives.

    Raises:
        ValueError: not an image model.
    """
    backbone = _stage(model, "backbone")
    backbone.trainable = False
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
