"""What the layers of an image model answer to one picture, as grids of feature maps."""

import keras
import numpy as np

_LAYERS = 5
# A layer may have over a thousand maps; so many fit beside each other in TensorBoard.
_ROWS, _COLUMNS = 4, 8
_TILE = 128  # pixels of a map's side as it is drawn, at least
_LEAST_SIDE = 8  # of a map itself: in a smaller one no shape can be seen
_GAP = 2


def draw_activations(model: keras.Model, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Draws the feature maps of layers from the first to the last resolution.

    Args:
      model: an image model; its stage `backbone` is looked into, trained or frozen.
      picture: uint8 [1, S, S, C].

    Returns:
      By layer name, in the order of the layers: uint8 [H, W, 1], a grid of its first 32 maps.
      Each map is scaled to its own range, black to white; a map of one value only is black. {} of
      a model of the user's own, which has no stage `backbone`.
    """
    if "backbone" not in {layer.name for layer in model.layers}:
        return {}
    backbone = model.get_layer("backbone")
    names = _choose_layers(backbone)
    outputs = [backbone.get_layer(name).output for name in names]
    scaled = model.get_layer("preprocess")(keras.ops.cast(picture, "float32"))
    found = keras.Model(backbone.inputs, outputs)(scaled, training=False)
    maps = [np.asarray(keras.ops.cast(x, "float32"))[0] for x in found]
    return {name: tile_maps(x) for name, x in zip(names, maps, strict=True)}


def _choose_layers(backbone: keras.Model) -> list[str]:
    """Of each resolution that shows shapes the last activation; at most five, evenly spread."""
    last: dict[int, str] = {}
    for layer in backbone.layers:
        shape: tuple[int, ...] = getattr(layer.output, "shape", ())
        if len(shape) == 4 and isinstance(layer, keras.layers.Activation | keras.layers.ReLU):
            # A later layer of the same resolution takes the place of an earlier one.
            last[shape[1]] = layer.name
    names = [name for side, name in last.items() if side >= _LEAST_SIDE]
    names = names or list(last.values())[:1]  # of a very small picture
    chosen = np.linspace(0, len(names) - 1, min(_LAYERS, len(names))).round().astype(int)
    return [names[i] for i in chosen]


def tile_maps(maps: np.ndarray) -> np.ndarray:
    """Feature maps float32 [h, w, D] as one grey picture uint8 [H, W, 1], row by row."""
    maps = maps[..., : _ROWS * _COLUMNS]
    low, high = maps.min((0, 1)), maps.max((0, 1))
    shown = (255 * (maps - low) / np.where(high > low, high - low, 1)).round().astype(np.uint8)
    # Each pixel of a small map becomes a square that can be seen.
    factor = -(-_TILE // max(maps.shape[:2]))
    shown = np.repeat(np.repeat(shown, factor, 0), factor, 1)
    height, width, count = shown.shape
    rows = -(-count // _COLUMNS)
    grid = np.full((rows * (height + _GAP), _COLUMNS * (width + _GAP), 1), 255, np.uint8)
    for i in range(count):
        y, x = i // _COLUMNS * (height + _GAP), i % _COLUMNS * (width + _GAP)
        grid[y : y + height, x : x + width, 0] = shown[..., i]
    return grid
