"""TensorBoard pages of tables and texts, and the drawn activations."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import models
from records import open_data
from records.decoding.input_config import InputConfig
from records.roles import Data
from tests.support.settings import make_settings
from train.engine.activations import draw_activations, tile_maps
from train.engine.tensorboard_files import write_pages, write_weights

PNG = tf.io.encode_png(np.zeros((4, 4, 4), np.uint8)).numpy()


def _inputs_page(data: Data, run_dir: Path) -> list[list[str]]:
    """The table of sample inputs as TensorBoard gets it: its lines, cut into cells."""
    write_pages(run_dir, make_settings().to_dict(), {}, None, data, PNG, 1)
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    (event,) = events.Tensors("inputs")
    text = tf.make_ndarray(event.tensor_proto).item().decode()
    return [re.split(r" \| ", line[2:-2]) for line in text.split("\n")]


def test_sample_rows_of_a_table(synthetic_data_dir: Path, tmp_path: Path) -> None:
    data = open_data("fetal_health/synthetic", str(synthetic_data_dir))
    train = data.examples("train")
    head, _, *rows = _inputs_page(data, tmp_path)
    numbers = train.numbers[:8]
    assert head == ["class", *(data.schema.class_names[y] for y in train.split_labels[numbers])]
    assert [row[0] for row in rows] == data.schema.metadata["feature_names"], "a row for each"
    assert train.inputs is not None
    shown = np.array([[float(cell) for cell in row[1:]] for row in rows])
    np.testing.assert_allclose(shown.T, train.inputs[numbers], rtol=1e-3)


def test_histograms_and_the_graph(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
    for epoch in (1, 2):
        write_weights(tmp_path, model, epoch)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train"))
    events.Reload()
    (tag,) = [tag for tag in events.Tags()["tensors"] if tag.endswith("out/kernel")]
    assert [e.step for e in events.Tensors(tag)] == [0, 1]
    counts = tf.make_ndarray(events.Tensors(tag)[0].tensor_proto)[:, 2]
    assert counts.sum() == 6
    assert "MatMul" in {node.op for node in events.Graph().node}


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_sample_texts_are_beginnings_only(
    cache: str, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """The words stand in the text as it came, in that order; at most twelve of them."""
    name = "song_lyrics/synthetic"
    data = open_data(name, str(synthetic_data_dir), InputConfig(cache=cache))
    train = data.examples("train")
    lyrics = open_data(name, str(synthetic_data_dir), InputConfig(feature="text")).examples("train")
    texts = lyrics.loader.parse(train.numbers[:8], lyrics.loader.read(train.numbers[:8]))
    head, _, *rows = _inputs_page(data, tmp_path / cache)
    assert head == ["class", "first words"] and len(rows) == 8
    for (name, shown), number, text in zip(rows, train.numbers, texts, strict=False):
        assert name == data.schema.class_names[train.split_labels[number]]
        words, end = shown.split()[:-1], 0
        assert 0 < len(words) <= 12
        for word in words:
            end = text.decode().lower().find(word, end) + len(word)
            assert end >= len(word), f"{word!r} follows in {text[:200]!r}"


def test_sample_words_of_raw_text(synthetic_data_dir: Path, tmp_path: Path) -> None:
    config = InputConfig(feature="text")
    data = open_data("song_lyrics/synthetic", str(synthetic_data_dir), config)
    _, _, *rows = _inputs_page(data, tmp_path)
    assert len(rows) == 8 and all(1 < len(shown.split()) <= 13 for _, shown in rows)


def test_maps_are_tiled_row_by_row_each_in_its_own_range() -> None:
    maps = np.zeros((64, 64, 10), np.float32)
    maps[:, :, 1] = np.linspace(-5, 5, 64)  # from left to right
    maps[:, :, 9] = np.linspace(1000, 1001, 64)[:, None]  # from top to bottom
    grid = tile_maps(maps)[..., 0]
    assert grid.shape == (2 * 130, 8 * 130), "each is drawn at 128 pixels"
    assert not grid[:128, :128].any(), "a map of one value is black"
    ramp = np.round(np.arange(64) * 255 / 63).repeat(2)
    assert np.allclose(grid[0, 130:258], ramp, atol=1)
    assert np.allclose(grid[130:258, 130], ramp, atol=1)
    assert (grid[130:258, 2 * 130 :] == 255).all(), "no map, no tile"


@pytest.mark.parametrize("freeze", [False, True])
def test_activations_are_those_of_the_models_layers(freeze: bool) -> None:
    """The first one against the layers called one by one."""
    spec = tf.TensorSpec([64, 64, 1], tf.uint8)
    config = models.ModelConfig(name="efficientnet_lite0", weights="random")
    model = models.build_model(config, spec, 4, seed=0)
    if freeze:
        models.freeze_backbone(model)
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1)).astype(np.uint8)
    found = draw_activations(model, picture)
    # 32, 16 and 8 pixels; in those of 4 and 2 nothing is to be seen.
    assert len(found) == 3
    assert min(min(x.shape[:2]) for x in found.values()) >= 4 * 130
    x = np.repeat(picture, 3, -1).astype(np.float32) / 128 - 127 / 128
    for layer in model.get_layer("backbone").layers[1:]:
        x = layer(x, training=False)
        if layer.name == next(iter(found)):
            break
    expected = tile_maps(np.asarray(x)[0])
    first = next(iter(found.values()))
    assert np.abs(first.astype(int) - expected).max() <= 1
