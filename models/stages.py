"""The stages of an image model: training the head alone, on cached features or in place."""

import keras


def _stage(model: keras.Model, name: str) -> keras.Model:
    if name not in [layer.name for layer in model.layers]:
        raise ValueError(
            f"model: {model.name} has no stage {name!r}; only image models can be frozen or split"
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
            # `trainable = False` stops BatchNorm, but not dropout.
            layer.rate = 0.0


def unfreeze_from(model: keras.Model, layer_name: str) -> None:
    """Makes the backbone trainable from one layer on, or "all", in place; the head stays trainable.

    Its BatchNorm layers stay as they are, statistics included: a few thousand pictures would
    undo what they learned from ImageNet (https://keras.io/guides/transfer_learning/).

    Raises:
        ValueError: not an image model, or no such layer; lists some that there are.
    """
    first = find_layer(model, layer_name)
    backbone = _stage(model, "backbone")
    # First the whole, then layer by layer: setting a model also sets all of its layers.
    backbone.trainable = True
    for number, layer in enumerate(backbone.layers):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = number >= first and not is_norm


def find_layer(model: keras.Model, layer_name: str) -> int:
    """Where a layer stands in the backbone of an image model; 0 for "all".

    Raises:
        ValueError: as `unfreeze_from`.
    """
    names = [layer.name for layer in _stage(model, "backbone").layers]
    if layer_name == "all":
        return 0
    if layer_name not in names:
        layers = _stage(model, "backbone").layers
        with_weights = [layer.name for layer in layers if layer.weights]
        some = ", ".join(with_weights[:: max(1, len(with_weights) // 12)])
        raise ValueError(
            f"model: --unfreeze-from expected all or a layer of {model.name}'s backbone, such as "
            f"{some}; received {layer_name!r}"
        )
    return names.index(layer_name)
