"""The errors of which a model was most certain, as a table and, of pictures, as a figure."""

from __future__ import annotations

import csv
import functools
import io
from pathlib import Path
from typing import Any

import numpy as np

from records.decoding.parsing import read_text
from records.examples import Examples
from records.sets.schema import IMAGE
from records.system.writing import as_text, write_atomically
from train.measures import plots

# Of the text of an error: enough to see what it is about; a lyric is its author's.
_TEXT_CHARACTERS = 200


def write_errors(
    folder: Path,
    examples: Examples,
    probability: np.ndarray,
    names: tuple[str, ...],
    num_errors: int,
) -> None:
    """Writes `worst_errors.csv` and, of pictures, `worst_errors.png`.

    Args:
      folder: takes the files.
      examples: of the split.
      probability: float64 [n, C] of each of them.
      names: of the C classes.
      num_errors: how many are written, the most certain first.
    """
    labels, predicted = examples.subset_labels, probability.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    certain = probability[wrong, predicted[wrong]]
    # Stable: equally certain errors stay in the order of the subset, on any machine.
    worst = wrong[np.argsort(-certain, kind="stable")[:num_errors]]
    rows = _describe(examples, worst, probability, names)
    pictures = None
    if examples.schema.modality == IMAGE and rows:
        pictures = examples.loader.load(examples.numbers[worst])
    write_rows(folder, rows, pictures)


def write_largest_losses(
    folder: Path, examples: Examples, said: np.ndarray, losses: np.ndarray, num_errors: int
) -> None:
    """As `write_errors`, of several classes at once or of numbers: by loss, the largest first.

    Args:
      said: [n, C], numbers, or 1 where a class was decided for.
      losses: float64 [n].
    """
    worst, schema = np.argsort(-losses, kind="stable")[:num_errors], examples.schema
    labels, numbers = examples.subset_labels, examples.numbers[worst]
    rows = []
    for i, number, payload in zip(worst, numbers, examples.loader.read(numbers), strict=True):
        name, text = read_text(payload, schema.id_name), read_text(payload, "text")
        both = schema.describe_label(labels[i]), schema.describe_label(said[i])
        rows.append(make_loss_row(int(number), name, both, losses[i], text))
    pictures = None
    if schema.modality == IMAGE and rows:
        pictures = examples.loader.load(numbers)
    write_rows(folder, rows, pictures, "loss")


def make_loss_row(
    number: int, name: str, described: tuple[str, str], loss: float, text: str
) -> dict[str, Any]:
    """A row of `worst_errors.csv`, of one example: (what is true, what was predicted), its loss."""
    return {
        "record": number,
        "id": as_text(name),
        "true": as_text(described[0]),
        "predicted": as_text(described[1]),
        "loss": f"{loss:.6g}",
        "text": as_text(" ".join(text.split())[:_TEXT_CHARACTERS]),
    }


def write_rows(
    folder: Path,
    rows: list[dict[str, Any]],
    pictures: np.ndarray | None,
    figure: str = "probability",
) -> None:
    """Writes errors that were chosen: rows by the columns of the table, pictures uint8 [e, ...].

    `figure` is the column by which they were chosen.
    """
    figures = ("probability", "probability_of_true") if figure == "probability" else (figure,)
    header = ("record", "id", "true", "predicted", *figures, "text")
    text = io.StringIO()
    writer = csv.DictWriter(text, header)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "worst_errors.csv", text.getvalue().encode())
    if pictures is not None:
        titles = [f"{r['id']}\n{r['true']} as {r['predicted']}\n{r[figure]}" for r in rows]
        draw = functools.partial(plots.draw_pictures, pictures, titles)
        write = functools.partial(write_atomically, folder / "worst_errors.png")
        plots.draw_safely("worst_errors.png", draw, write)


class WorstErrors:
    """The errors of which a model was most certain, of examples that come one by one."""

    def __init__(self, names: tuple[str, ...], num_errors: int):
        """Of classes by their names; so many are kept."""
        self._names, self._most = names, num_errors
        self._kept: list[tuple[float, int, dict[str, Any], np.ndarray]] = []
        self._count = 0

    def add(self, name: str, label: Any, said: np.ndarray, raw: Any, value: np.ndarray) -> None:
        """Takes the next example: what the run says of it [C], what was read, and the input."""
        text = raw if isinstance(raw, str) else ""
        size, row = self.judge(self._count, name, label, said, text)
        self._count += 1
        if size is None:
            return
        self._kept.append((-size, self._count, row, value))
        # Equally large errors stay in their order.
        self._kept = sorted(self._kept, key=lambda one: one[:2])[: self._most]

    def judge(
        self, number: int, name: str, label: Any, said: np.ndarray, text: str
    ) -> tuple[float | None, dict[str, Any]]:
        """(how large the error is, None where there is none; its row)."""
        row, predicted = make_row(number, name, label, said, self._names, text), int(said.argmax())
        return (None if predicted == label else float(said[predicted])), row

    def rows_and_pictures(self) -> tuple[list[dict[str, Any]], np.ndarray | None]:
        """What `write_rows` takes."""
        values = [value for *_, value in self._kept]
        are_pictures = bool(values) and values[0].ndim == 3
        return [row for _, _, row, _ in self._kept], np.stack(values) if are_pictures else None


def _describe(
    examples: Examples, chosen: np.ndarray, probability: np.ndarray, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """A row of `worst_errors.csv` for each of the examples `chosen`, int [e] in the subset."""
    numbers, labels = examples.numbers[chosen], examples.subset_labels
    rows = []
    for i, number, payload in zip(chosen, numbers, examples.loader.read(numbers), strict=True):
        name, text = read_text(payload, examples.schema.id_name), read_text(payload, "text")
        rows.append(make_row(int(number), name, labels[i], probability[i], names, text))
    return rows


def make_row(
    number: int, name: str, label: int, probability: np.ndarray, names: tuple[str, ...], text: str
) -> dict[str, Any]:
    """A row of `worst_errors.csv`, of one example with its probabilities float64 [C]."""
    predicted = int(probability.argmax())
    return {
        "record": number,
        "id": as_text(name),
        "true": as_text(names[label]),
        "predicted": as_text(names[predicted]),
        "probability": f"{probability[predicted]:.6f}",
        "probability_of_true": f"{probability[label]:.6f}",
        "text": as_text(" ".join(text.split())[:_TEXT_CHARACTERS]),
    }
