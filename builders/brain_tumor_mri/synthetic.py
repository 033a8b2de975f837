"""Writes generated pictures in the folders and with the quirks of the real set.

Like the real files: grey pictures stored as RGB JPEG, many sizes, names with spaces and
parentheses, unbalanced classes, copies within Training and between Training and Testing, and
neighbouring slices of one head. The drawings are no anatomy: an ellipse with folds for every
class, and bright tissue whose place and outline depend on the class.
"""

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from builders.brain_tumor_mri.pictures import LABEL_NAMES

TRAINING_COUNTS = (146, 146, 72, 148)
TESTING_COUNTS = (36, 38, 26, 28)
# Of each class, this many Testing files are copies of Training files.
TESTING_COPIES = (4, 16, 20, 6)
TRAINING_COPIES = 6
_PREFIXES = ("gg", "m", "image", "p")
_SIDE = 160  # drawn at this size, then scaled to each file's own


def write_pictures(directory: Path) -> None:
    """Writes `Training/<class>/*.jpg` and `Testing/<class>/*.jpg` below `directory`."""
    for label, class_name in enumerate(LABEL_NAMES):
        # A generator per class: another count of one class leaves the others' pictures alone.
        rng = np.random.default_rng([0, label])
        training = directory / "Training" / class_name
        testing = directory / "Testing" / class_name
        training.mkdir(parents=True)
        testing.mkdir(parents=True)
        names = [f"{_PREFIXES[label]} ({i + 1}).jpg" for i in range(TRAINING_COUNTS[label])]
        _write_series(rng, label, [training / name for name in names[:-TRAINING_COPIES]])
        for name, original in zip(names[-TRAINING_COPIES:], names):
            shutil.copyfile(training / original, training / name)
        files = [testing / f"image({i + 1}).jpg" for i in range(TESTING_COUNTS[label])]
        copies = TESTING_COPIES[label]
        _write_series(rng, label, files[copies:])
        for file, original in zip(files[:copies], names[TRAINING_COPIES:]):
            shutil.copyfile(training / original, file)


def _write_series(rng: np.random.Generator, label: int, files: list[Path]) -> None:
    """Draws heads of one to three neighbouring slices each."""
    at = 0
    while at < len(files):
        head = rng.integers(2**32)
        slices = int(rng.choice([1, 1, 1, 2, 3]))
        size = tuple(int(s) for s in rng.integers(96, 161, 2))
        size = size if rng.random() < 0.4 else (size[0], size[0])
        for depth, file in enumerate(files[at : at + slices]):
            # The same head for all slices of a series, drawn a little deeper each time.
            plane = _draw(np.random.default_rng(head), label, 0.03 * depth)
            file.write_bytes(_encode(plane, size))
        at += slices


def _draw(rng: np.random.Generator, label: int, depth: float) -> np.ndarray:
    """One slice, uint8 [160, 160]; `depth` moves it a little."""
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    turn = rng.normal(0, 0.12)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    x, y = x - rng.normal(0, 0.05), y - rng.normal(0, 0.05)
    wide, high = rng.uniform(0.62, 0.78), rng.uniform(0.75, 0.9)
    radius = np.sqrt((x / wide) ** 2 + (y / high) ** 2)
    folds = _texture(rng, 14) * rng.uniform(8, 18) + _texture(rng, 5) * rng.uniform(4, 12)
    brain = rng.uniform(60, 110) + folds
    ventricle = np.exp(-((x / (0.12 + depth)) ** 2) - ((y - 0.05) / 0.3) ** 2)
    brain = brain - rng.uniform(20, 60) * ventricle
    skull = rng.uniform(100, 220) * np.exp(-(((radius - 1.06) / 0.05) ** 2))
    plane = np.where(radius < 1, brain, 0) + skull
    plane = plane + _lesion(rng, label, x, y, wide, high, depth) * (radius < 1.04)
    plane = plane + rng.normal(0, rng.uniform(3, 9), plane.shape)
    return np.clip(np.round(plane * rng.uniform(0.75, 1.15)), 0, 255).astype(np.uint8)


def _lesion(
    rng: np.random.Generator,
    label: int,
    x: np.ndarray,
    y: np.ndarray,
    wide: float,
    high: float,
    depth: float,
) -> np.ndarray:
    """Brightness to add, float64 [160, 160]: by class a place, a size and an outline."""
    angle = rng.uniform(0, 2 * np.pi)
    outline = _texture(rng, 7)
    strength = rng.uniform(60, 140)
    if label == 0:  # inside, large, ragged, dark in the middle
        place, size, ragged, ring = 0.42, rng.uniform(0.24, 0.4), 0.5, 0.9
    elif label == 1:  # at the rim, round, even
        place, size, ragged, ring = 0.86, rng.uniform(0.2, 0.34), 0.08, 0.0
    elif label == 3:  # low in the middle, small
        place, size, ragged, ring = 0.0, rng.uniform(0.1, 0.16), 0.12, 0.0
    else:  # no tumor: at most a faint, wide shade, so that a bright spot alone says nothing
        place, size, ragged, ring = 0.4, rng.uniform(0.3, 0.5), 0.3, 0.0
        strength *= 0.25
    centre_x = place * wide * np.cos(angle) + rng.normal(0, 0.06)
    centre_y = place * high * np.sin(angle) + rng.normal(0, 0.06) + (0.5 if label == 3 else 0.0)
    distance = np.hypot(x - centre_x, y - centre_y) / (size - depth) + ragged * outline
    inside = 1 / (1 + np.exp(np.clip((distance - 1) * 12, -50, 50)))
    return strength * (inside - ring * np.exp(-((distance / 0.5) ** 2)) * inside)


def _texture(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise of about unit deviation, float64 [160, 160], with `cells` bumps a side."""
    coarse = rng.standard_normal((cells, cells))
    levels = np.clip(np.round(128 + 40 * coarse), 0, 255).astype(np.uint8)
    fine = Image.fromarray(levels).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return (np.asarray(fine, np.float64) - 128) / 40


def _encode(plane: np.ndarray, size: tuple[int, ...]) -> bytes:
    """JPEG bytes of a grey plane in RGB mode, scaled to (width, height)."""
    image = Image.fromarray(plane).resize((size[0], size[1]), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
