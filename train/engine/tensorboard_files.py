"""A run's pages in TensorBoard: scalars, hyperparameters, figures, samples of the inputs.

Below `tensorboard/`: `train` and `validation` hold the same tags, those of Keras's callback, so
that one chart shows both, and runs of `fit` beside them; `test` has one point of each; `final`
holds the settings, and what validation said at the end.
"""

import functools
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from records.decoding.decode import split_words
from records.examples import Examples
from records.roles import Data
from records.sets.schema import IMAGE, TABULAR, TOKENS
from records.sets.target import REGRESSION, SINGLE_LABEL
from records.system.writing import escape_cell, markdown_table
from train.engine.activations import draw_activations
from train.measures.metrics import MONITORED, AnyMetrics

_SAMPLES = 8
# Enough to see that ids stand for words; never a whole lyric, which is its author's.
_WORDS = 12
_FEATURES = 100


# One open file of each kind per run: each new writer would begin another events file.
@functools.lru_cache(maxsize=5)
def _writer(folder: str) -> Any:
    return tf.summary.create_file_writer(folder)


def write_scalars(run_dir: Path, row: dict[str, Any]) -> None:
    """Writes the figures of an epoch, such as `learning_rate` and `examples_per_s`.

    Raises:
      tf.errors.OpError: they cannot be written.
    """
    figures: dict[str, dict[str, float]] = {"train": {}, "validation": {}}
    for name, value in row.items():
        if not isinstance(value, int | float):
            continue  # a metric of several numbers
        if f"val_{name}" in row or name in (*MONITORED, "learning_rate"):
            figures["train"][f"epoch_{name}"] = value
        elif name.startswith("val_"):
            figures["validation"][f"epoch_{name.removeprefix('val_')}"] = value
        elif name != "epoch":
            figures["train"][name] = value
    for part, values in figures.items():
        _write_figures(run_dir, part, row["epoch"], values)


def _write_figures(run_dir: Path, part: str, epoch: int, values: dict[str, float]) -> None:
    """Writes scalars of `epoch`, from 1, at the step where Keras has it: it counts from 0."""
    writer = _writer(str(run_dir / "tensorboard" / part))
    with writer.as_default(step=epoch - 1):
        for name, value in values.items():
            tf.summary.scalar(name, value)
    writer.flush()


def write_weights(run_dir: Path, model: keras.Model, epoch: int) -> None:
    """Writes a histogram of every weight after `epoch`, from 1, and after the first the graph.

    Raises:
      tf.errors.OpError: they cannot be written.
    """
    writer = _writer(str(run_dir / "tensorboard" / "train"))
    with writer.as_default(step=epoch - 1):
        for weight in model.weights:
            tf.summary.histogram(weight.path, weight.value)
        if epoch == 1:
            specs = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
            graph = tf.function(lambda *x: model(x if len(x) > 1 else x[0], training=False))
            tf.summary.graph(graph.get_concrete_function(*specs).graph)
    writer.flush()


def write_pages(
    run_dir: Path,
    settings: dict[str, Any],
    metrics: Mapping[str, AnyMetrics],
    model: keras.Model,
    data: Data,
    outcome: bytes | None,
    epochs: int,
) -> None:
    """Writes what is known at the end of a run of so many epochs.

    `outcome` is the picture of the predictions as PNG, where there is one; `settings` are those
    that it used.
    """
    for role, found in metrics.items():
        values = found.figures
        if role == "validation":
            # A run of its own: the HPARAMS page shows all figures that stand beside the settings.
            with _writer(str(run_dir / "tensorboard" / "final")).as_default(step=0):
                write_hparams(settings, run_dir.name)
            final = {f"validation_{name}": value for name, value in values.items()}
            _write_figures(run_dir, "final", 1, final)
        else:  # no column there: nothing is to be chosen by it
            points = {f"epoch_{name}": value for name, value in values.items()}
            _write_figures(run_dir, role, epochs, points)
    writer = _writer(str(run_dir / "tensorboard"))
    with writer.as_default(step=0):
        if outcome is not None:
            name = "confusion_matrix" if data.schema.task == SINGLE_LABEL else "predictions"
            tf.summary.image(name, tf.io.decode_png(outcome, channels=4)[None])
        try:
            _write_samples(data, data.examples("train").without_damaged())
            if data.schema.modality == IMAGE:
                picture = _first_inputs(data.examples("validation"), 1)
                for layer, image in draw_activations(model, picture).items():
                    tf.summary.image(f"activations/{layer}", image[None])
        except OSError as error:  # nothing else needs the records any more
            print(f"no sample inputs for TensorBoard: {error}", file=sys.stderr)
    writer.flush()


def write_hparams(settings: dict[str, Any], trial: str) -> None:
    """Settings, the columns by which the HPARAMS page compares runs, to the current writer.

    The page finds columns, types and what differs by itself; a list of columns in the log
    (`hparams_config`) would take types and differences away.
    """
    from tensorboard.plugins.hparams import api

    # The page shows the first five: what differs, then by name, capitals first. The plugin takes
    # numbers, texts and truth values only.
    first = {"learning_rate": "Learning rate", "model": "Model"}
    shown = {
        first.get(k, k): v if isinstance(v, int | float | str) else str(v)
        for k, v in settings.items()
    }
    api.hparams(shown, trial_id=trial)


def _first_inputs(examples: Examples, count: int) -> np.ndarray:
    """The first inputs [n, ...], read from the records: the same on every cache level."""
    return examples.loader.load(examples.numbers[:count])


def _write_samples(data: Data, train: Examples) -> None:
    """The first training examples: pictures, the beginnings of texts, or rows of a table."""
    schema, numbers = data.schema, train.numbers[:_SAMPLES]
    if schema.modality == IMAGE:
        tf.summary.image("inputs", _first_inputs(train, _SAMPLES), max_outputs=_SAMPLES)
        return
    classes = [schema.describe_label(label) for label in train.split_labels[numbers]]
    if schema.modality == TABULAR:
        # A row for each feature: a table of a hundred columns would be too wide for any screen.
        values = _first_inputs(train, _SAMPLES).T[:_FEATURES]
        names = schema.feature_names or map(str, range(len(values)))
        head = [schema.label_name if schema.task == REGRESSION else "class", *classes]
        rows = [[name, *(f"{v:.4g}" for v in row)] for name, row in zip(names, values)]
    else:
        head, texts = ["class", "first words"], _first_words(data, train, numbers)
        rows = [[name, text] for name, text in zip(classes, texts, strict=True)]
    table = markdown_table([list(map(escape_cell, row)) for row in (head, *rows)])
    tf.summary.text("inputs", "\n".join(table))


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
