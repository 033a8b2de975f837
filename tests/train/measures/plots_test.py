"""Figures of runs: many classes, and a figure that cannot be drawn."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from train.engine.console import _format_recall
from train.measures import plots, scores
from train.measures.metrics import FIGURES
from train.measures.plots import draw_confusion, draw_safely, most_confused

pytestmark = pytest.mark.pictures


def _confusion(classes: int) -> np.ndarray:
    found = np.diag(np.full(classes, 50))
    found[3, 7], found[7, 3], found[1, 0] = 9, 5, 7
    return found


@pytest.mark.parametrize(("classes", "width"), [(30, 2900), (31, 1500), (3000, 1500)])
def test_many_classes_are_drawn_in_a_figure_of_one_size(classes: int, width: int) -> None:
    """With a text in each of 640,000 cells 800 classes took memory and time without an end."""
    names = tuple(f"class {i} $" * (1 + i % 5) for i in range(classes))
    with Image.open(io.BytesIO(draw_confusion(_confusion(classes), names, "test"))) as picture:
        assert picture.format == "PNG" and picture.size[0] == width


def test_all_other_pictures_are_drawn() -> None:
    rng, names = np.random.default_rng(0), ("$x^{", "a|b", "c")
    columns = [*FIGURES, *(f"val_{name}" for name in FIGURES)]
    share, numbers = rng.dirichlet(np.ones(3), 9), rng.random((9, 3))
    pictures = (
        plots.draw_curves([dict.fromkeys(["epoch", *columns], 0.5)] * 2),
        plots.draw_classes({"f1": numbers[0], "average_precision": numbers[1]}, names, "test"),
        plots.draw_numbers(numbers, numbers, names, "test"),
        plots.draw_calibration(scores.calibration_bins(share, share.argmin(1)), "test"),
        plots.draw_pictures(np.zeros((6, 8, 8, 1), np.uint8), [*names, *names]),
    )
    for data in pictures:
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size[0] >= 800 and len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_the_most_frequent_errors_come_first() -> None:
    assert most_confused(_confusion(40), 25) == [(3, 7, 9), (1, 0, 7), (7, 3, 5)]
    assert most_confused(_confusion(40), 2) == [(3, 7, 9), (1, 0, 7)]


def test_a_figure_that_fails_says_so_and_ends_nothing(capsys: Any) -> None:
    def draw() -> bytes:
        raise MemoryError

    assert draw_safely("curves.png", draw) is None
    assert capsys.readouterr().err == "no curves.png: MemoryError. All else is there\n"
    assert draw_safely("curves.png", lambda: b"png") == b"png"


def test_of_many_classes_the_least_recalls_are_printed() -> None:
    recall: dict[str, float | None] = {f"c{i}": i / 100 for i in range(40)} | {"none": None}
    said = _format_recall(recall)
    assert said == "c0 0.000, c1 0.010, c2 0.020, c3 0.030, c4 0.040, the least of 41"
    assert _format_recall({"a": 0.5, "b": None}) == "a 0.500, b -"
