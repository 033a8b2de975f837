"""The errors of which a model was most certain, as a table and, of pictures, as a figure."""

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


class WorstErrors:
    """The errors of which a model was most certain; equally large ones stay in their order."""

    # The columns that say how large an error is; the first one stands above a picture.
    figures: tuple[str, ...] = ("probability", "probability_of_true")

    def __init__(self, names: tuple[str, ...], num_errors: int):
        """Of classes by their names; so many are kept."""
        self._names, self._most = names, num_errors
        self._kept: list[tuple[float, int, dict[str, Any], np.ndarray]] = []
        self._count = 0

    def judge(self, label: Any, said: np.ndarray) -> tuple[float | None, dict[str, str]]:
        """(how large an example's error is, None where there is none; true, predicted, figures)."""
        predicted = int(said.argmax())
        return (None if predicted == label else float(said[predicted])), {
            "true": self._names[label],
            "predicted": self._names[predicted],
            "probability": f"{said[predicted]:.6f}",
            "probability_of_true": f"{said[label]:.6f}",
        }

    def sizes(self, labels: np.ndarray, said: np.ndarray) -> np.ndarray:
        """How large the errors of all examples are, float64 [n]; -inf where there is none."""
        return np.where(said.argmax(1) == labels, -np.inf, said.max(1))

    def add(self, name: str, label: Any, said: np.ndarray, raw: Any, value: np.ndarray) -> None:
        """Takes the next example: what the run says of it [C], what was read, and the input."""
        size, told = self.judge(label, said)
        if size is not None:
            row = _make_row(self._count, name, told, raw if isinstance(raw, str) else "")
            self._kept.append((-size, self._count, row, value))
            self._kept = sorted(self._kept, key=lambda one: one[:2])[: self._most]
        self._count += 1

    def add_split(self, examples: Examples, said: np.ndarray) -> None:
        """Takes all examples of a split, and what the run says of them [n, C]."""
        labels, schema = examples.subset_labels, examples.schema
        sizes = self.sizes(labels, said)
        # Stable: the same choice on any machine.
        worst = np.argsort(-sizes, kind="stable")[: self._most]
        worst = worst[sizes[worst] > -np.inf]
        numbers = examples.numbers[worst]
        is_picture = schema.modality == IMAGE and len(worst) > 0
        values = examples.loader.load(numbers) if is_picture else np.zeros((len(worst), 0))
        payloads = examples.loader.read(numbers)
        for i, number, payload, value in zip(worst, numbers, payloads, values, strict=True):
            name, text = read_text(payload, schema.id_name), read_text(payload, "text")
            row = _make_row(int(number), name, self.judge(labels[i], said[i])[1], text)
            self._kept.append((-sizes[i], int(i), row, value))

    def write(self, folder: Path) -> None:
        """Writes `worst_errors.csv` and, of pictures, `worst_errors.png`."""
        rows, values = [row for _, _, row, _ in self._kept], [value for *_, value in self._kept]
        text = io.StringIO()
        writer = csv.DictWriter(text, ("record", "id", "true", "predicted", *self.figures, "text"))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(folder / "worst_errors.csv", text.getvalue().encode())
        if values and values[0].ndim == 3:
            figure = self.figures[0]
            titles = [f"{r['id']}\n{r['true']} as {r['predicted']}\n{r[figure]}" for r in rows]
            draw = functools.partial(plots.draw_pictures, np.stack(values), titles)
            write = functools.partial(write_atomically, folder / "worst_errors.png")
            plots.draw_safely("worst_errors.png", draw, write)


def _make_row(number: int, name: str, told: dict[str, str], text: str) -> dict[str, Any]:
    """A row of `worst_errors.csv`."""
    shown = {"id": name, **told, "text": " ".join(text.split())[:_TEXT_CHARACTERS]}
    return {"record": number, **{column: as_text(value) for column, value in shown.items()}}
