"""docs/architecture.md against the code: its picture, its names, and its shapes and types."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import models
import records
from models.augment import augment_images
from records.examples import plan_steps
from records.ordering.buckets import make_order
from tests.project.imports_test import Graph
from tests.support import rooms_picture
from train.devices.strategy import make_cluster
from train.step.feed import make_feed
from train.step.objective import Objective
from train.step.rows import take_rows

PAGE = rooms_picture.PAGE.read_text(encoding="utf-8")
_NAME = re.compile(r"`((?:builders|records|models|train|benchmarks)(?:\.\w+)+)`")


def test_the_picture_is_what_the_imports_say() -> None:
    assert rooms_picture.find_section(PAGE) == rooms_picture.make_section(), (
        "draw it anew: python -m tests.support.rooms_picture"
    )


def test_a_new_arrow_and_a_new_room_change_the_picture() -> None:
    graph: Graph = {
        "records.loading.load": {"records.sets.schema"},
        "records.sets.schema": {"records.system.quiet"},
        "records.system.quiet": set(),
        "models": set(),
    }
    arrows = rooms_picture.read_arrows(graph)
    drawn = rooms_picture.draw(arrows)
    assert "records_loading --> records_sets" in drawn
    graph["records.loading.load"].add("records.system.quiet")  # a longer way shows it already
    assert rooms_picture.draw(rooms_picture.read_arrows(graph)) == drawn
    graph["records.system.quiet"].add("models")
    assert rooms_picture.draw(rooms_picture.read_arrows(graph)) != drawn
    del graph["records.loading.load"]
    assert "records_loading -->" not in rooms_picture.draw(rooms_picture.read_arrows(graph))


def find(name: str) -> Any:
    """What a full name stands for: a module, or something inside one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", sorted(set(_NAME.findall(PAGE))))
def test_names_exist(name: str) -> None:
    assert find(name) is not None


def test_a_wrong_name_is_found() -> None:
    with pytest.raises(AttributeError):
        find("records.pipeline.make_bathces")


# The sizes of this test, each different, by the letter that the page has for it.
SIZES = {"B": 8, "S": 48, "K": 58, "C": 4}


def written(array: Any, sizes: dict[str, int]) -> str:
    """`uint8 [N, S, S, 1]`, as the page writes it."""
    letters: dict[int | None, str] = {size: letter for letter, size in sizes.items()}
    letters[None] = "B"  # what a model gives before it is called
    shape = ", ".join(str(letters.get(n, n)) for n in array.shape)
    return f"{tf.as_dtype(array.dtype).name} [{shape}]"


def row(who: str) -> str:
    """The page's row of a station."""
    stations = PAGE[PAGE.index("### Build:") : PAGE.index("### What changes")]
    (found,) = [line for line in stations.splitlines() if f"| `{who}` |" in line]
    return found


def test_types_and_shapes_are_those_of_the_page(synthetic_data_dir: Path) -> None:
    config = records.InputConfig(image_size=SIZES["S"])
    data = records.open_data("brain_tumor_mri/synthetic", str(synthetic_data_dir), config)
    examples = data.examples("train")
    sizes = SIZES | {"N": examples.num_examples}

    def check(who: str, *arrays: Any) -> None:
        for array in arrays:
            assert f"`{written(array, sizes)}`" in row(who), who

    check("records.roles.Data.subset", data.subset("train")[1])
    order = make_order(examples.num_examples, SIZES["B"])
    assert order.steps_per_epoch == SIZES["K"]
    check("records.ordering.order.Order.examples", *order.examples(0, 0, SIZES["K"]))
    numbers, weights, keys, _ = plan_steps(examples, order, 0, 0, SIZES["K"], slice(None))
    check("records.examples.plan_steps", numbers, weights, keys)
    payloads = examples.loader.read(numbers[0])
    (jpeg, *_) = examples.loader.rows(numbers[0], payloads)
    assert isinstance(payloads[0], bytes)
    assert bytes(jpeg[:2]) == b"\xff\xd8"
    check("records.decoding.decode.decode_pictures", examples.loader.load(numbers[0])[0])
    cluster = make_cluster("one_device")
    feed = make_feed(examples, order, cluster, "device")
    feed.start(0)
    chunk = feed.take(SIZES["K"])
    assert chunk is not None
    inputs, labels, rows, weights, keys = chunk.arrays
    check("records.loading.cache.Filling", examples.inputs)
    sizes["W"] = -(-(SIZES["S"] ** 2) // 8)
    check("train.step.feed.Feed.take", inputs, labels, rows, weights, keys)
    taken, keys = take_rows(inputs, rows[0], examples.spec, 0), keys[0]
    check("train.step.rows.take_rows", taken, tf.gather(labels, rows[0]))
    augmented = augment_images(taken, keys)
    check("models.augment.augment_images", augmented)
    settings = models.ModelConfig(name="efficientnet_lite0", weights="random")
    model = models.build_model(settings, data.spec, SIZES["C"], seed=0)
    features, _ = models.split_frozen(model)
    sizes["D"] = 2432
    preprocess = model.get_layer("preprocess")
    check("models.cnn.build_preprocess", preprocess(augmented))
    check("models.cnn.build_efficientnet_lite0", *features.outputs)
    check("models.cnn.build_cnn", *model.outputs)
    logits = tf.zeros([SIZES["B"], SIZES["C"]])
    losses = Objective(np.ones(SIZES["C"], np.float32)).losses(logits, tf.gather(labels, rows[0]))
    check("train.step.objective.Objective.losses", losses)
