"""A run's pages in TensorBoard: scalars, hyperparameters, figures, samples of the inputs."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from records.decoding.decode import split_words
from records.examples import Examples
from records.roles import Data
from records.sets.schema import IMAGE, TABULAR, TOKENS
from records.system.writing import escape_cell
from train.engine.activations import draw_activations
from train.measures.metrics import FIGURES, Metrics

_SAMPLES = 8
# Enough to see that ids stand for words; never a whole lyric, which is its author's.
_WORDS = 12
_COLUMNS = 32


# One open file per run: each new writer would begin another events file.
@functools.lru_cache(maxsize=1)
def _writer(folder: str) -> Any:
    return tf.summary.create_file_writer(folder)


def write_scalars(run_dir: Path, row: dict[str, Any]) -> None:
    """Writes the figures of an epoch, such as `learning_rate` and `examples_per_s`.

    Raises:
      tf.errors.OpError: they cannot be written.
    """
    writer = _writer(str(run_dir / "tensorboard"))
    with writer.as_default(step=row["epoch"]):
        for name, value in row.items():
            if name != "epoch":
                tf.summary.scalar(name, value)
    writer.flush()


def write_pages(
    run_dir: Path,
    settings: dict[str, Any],
    metrics: dict[str, Metrics],
    model: keras.Model,
    data: Data,
    confusion: bytes,
) -> None:
    """Writes what is known at the end of a run.

    `confusion` is the confusion matrix as PNG; `settings` are those that change the result.
    """
    writer = _writer(str(run_dir / "tensorboard"))
    with writer.as_default(step=0):
        tf.summary.image("confusion_matrix", tf.io.decode_png(confusion, channels=4)[None])
        _write_hparams(run_dir.name, settings, metrics)
        try:
            _write_samples(data, data.examples("train").without_damaged())
            if data.schema.modality == IMAGE:
                picture = _first_inputs(data.examples("validation"), 1)
                for layer, image in draw_activations(model, picture).items():
                    tf.summary.image(f"activations/{layer}", image[None])
        except OSError as error:  # nothing else needs the records any more
            print(f"no sample inputs for TensorBoard: {error}", file=sys.stderr)
    writer.flush()


def _write_hparams(trial: str, settings: dict[str, Any], metrics: dict[str, Metrics]) -> None:
    """Settings and final metrics, the columns by which the HPARAMS page compares runs.

    The page finds columns, types and what differs by itself; a list of columns in the log
    (`hparams_config`) would take types and differences away.
    """
    from tensorboard.plugins.hparams import api

    # The plugin takes numbers, texts and truth values only.
    shown = {k: str(v) if v is None or isinstance(v, list) else v for k, v in settings.items()}
    api.hparams(shown, trial_id=trial)
    for role, found in metrics.items():
        for name in FIGURES:
            tf.summary.scalar(f"final/{role}_{name}", getattr(found, name))


def _first_inputs(examples: Examples, count: int) -> np.ndarray:
    """The first inputs [n, ...], read from the records: the same on every cache level."""
    return examples.loader.load(examples.numbers[:count])


def _write_samples(data: Data, train: Examples) -> None:
    """The first training examples: pictures, the beginnings of texts, or rows of a table."""
    schema, numbers = data.schema, train.numbers[:_SAMPLES]
    if schema.modality == IMAGE:
        tf.summary.image("inputs", _first_inputs(train, _SAMPLES), max_outputs=_SAMPLES)
        return
    rows: Iterable[Iterable[Any]]
    if schema.modality == TABULAR:
        values = _first_inputs(train, _SAMPLES)[:, :_COLUMNS]
        names = list(schema.feature_names or map(str, range(values.shape[1])))[:_COLUMNS]
        rows = ([f"{value:.4g}" for value in row] for row in values)
    else:
        names, rows = ["first words"], ([text] for text in _first_words(data, train, numbers))
    classes = [schema.class_names[label] for label in train.split_labels[numbers]]
    lines = [["class", *names], ["---"] * (1 + len(names))]
    lines += [[name, *row] for name, row in zip(classes, rows, strict=False)]
    table = "\n".join(f"| {' | '.join(map(escape_cell, line))} |" for line in lines)
    tf.summary.text("inputs", table)


def _first_words(data: Data, train: Examples, numbers: np.ndarray) -> list[str]:
    """The first words of texts; their ids where the set stores no vocabulary."""
    rows = train.loader.parse(numbers, train.loader.read(numbers))
    if data.schema.modality == TOKENS:
        vocabulary = data.schema.vocabulary()
        # Text i is ids[starts[i] : starts[i + 1]].
        ids, starts = rows
        texts = [ids[a : min(b, a + _WORDS)] for a, b in itertools.pairwise(starts)]
        words = [[vocabulary[i] if vocabulary else str(i) for i in text] for text in texts]
    else:
        found = split_words(tf.constant(rows, tf.string))[:, :_WORDS].to_list()
        words = [[word.decode(errors="replace") for word in text] for text in found]
    return [" ".join(text) + " ..." for text in words]
