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
    text = io.StringIO()
    header = ("record", "id", "true", "predicted", "probability", "probability_of_true", "text")
    writer = csv.DictWriter(text, header)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "worst_errors.csv", text.getvalue().encode())
    if examples.schema.modality == IMAGE and rows:
        pictures = examples.loader.load(examples.numbers[worst])
        titles = [f"{r['id']}\n{r['true']} as {r['predicted']}\n{r['probability']}" for r in rows]
        draw = functools.partial(plots.draw_pictures, pictures, titles)
        write = functools.partial(write_atomically, folder / "worst_errors.png")
        plots.draw_safely("worst_errors.png", draw, write)


def _describe(
    examples: Examples, chosen: np.ndarray, probability: np.ndarray, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """A row of `worst_errors.csv` for each of the examples `chosen`, int [e] in the subset."""
    numbers, labels = examples.numbers[chosen], examples.subset_labels
    rows = []
    for i, number, payload in zip(chosen, numbers, examples.loader.read(numbers), strict=True):
        predicted = int(probability[i].argmax())
        rows.append(
            {
                "record": int(number),
                "id": as_text(read_text(payload, examples.schema.id_name)),
                "true": as_text(names[labels[i]]),
                "predicted": as_text(names[predicted]),
                "probability": f"{probability[i, predicted]:.6f}",
                "probability_of_true": f"{probability[i, labels[i]]:.6f}",
                "text": as_text(" ".join(read_text(payload, "text").split())[:_TEXT_CHARACTERS]),
            }
        )
    return rows
