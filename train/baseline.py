"""Command line: scikit-learn on the very examples that a run of ours sees.

    python -m train.baseline --dataset fetal_health/kaggle --data-dir data --seed 0
    python -m train.baseline --dataset song_lyrics/kaggle --data-dir data --mean-with runs/lyrics

Tables: gradient boosting and logistic regression. Texts: TF-IDF of single words and of pairs of
neighbours, and logistic regression. Pictures: logistic regression on 32 x 32 pixels and on the
features of the frozen EfficientNet-Lite0. Settings are fixed here, not tuned.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS
from records.stores.flags import add_cache_flags
from records.system.command import run_as_command
from records.system.json_file import write_json
from records.system.writing import check_output
from train.settings.config import ON_CORRUPT
from train.settings.flags import normalise_flags

if TYPE_CHECKING:
    from records.examples import Examples
    from records.roles import Data
    from records.sets.schema import Schema
    from train.folders.finished_run import FinishedRun

_SIZES = ("image_size", "max_pixels", "sequence_length", "vocab_size")


def make_baselines(modality: str, seed: int, task: str = SINGLE_LABEL) -> dict[str, Any]:
    """The scikit-learn pipelines for a modality and a task, by name.

    Several classes at once: one classifier for each, against the rest. Numbers: one regressor each.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    name, linear = _make_linear(task, LogisticRegression(max_iter=2000))
    if modality == "tabular":
        boosting = _make_linear(task, HistGradientBoostingClassifier(random_state=seed))[1]
        if task == REGRESSION:
            boosting = MultiOutputRegressor(HistGradientBoostingRegressor(random_state=seed))
        return {"gradient boosting": boosting, name: make_pipeline(StandardScaler(), linear)}
    if modality == "image":
        small = FunctionTransformer(_flat_pixels)
        weak = _make_linear(task, LogisticRegression(max_iter=300, C=1e-3), 1e4)[1]
        return {f"{name}, pixels": make_pipeline(small, StandardScaler(), weak)}
    # The very ids that our models read, each as a word of its own: the same cleaning and the same
    # vocabulary on both sides, so only the models differ.
    words = FunctionTransformer(_write_ids)
    tfidf = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), min_df=2, token_pattern=r"\S+", lowercase=False
    )
    return {f"TF-IDF, {name}": make_pipeline(words, tfidf, linear)}


def _make_linear(task: str, classifier: Any, penalty: float = 1.0) -> tuple[str, Any]:
    """(name, model): `classifier` itself or one of each class; of numbers ridge regression."""
    from sklearn.linear_model import Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if task == REGRESSION:
        return "ridge regression", Ridge(penalty)
    if task == MULTI_LABEL:
        return "logistic regression, one against the rest", OneVsRestClassifier(classifier)
    return "logistic regression", classifier


def _flat_pixels(pictures: np.ndarray) -> np.ndarray:
    """Every S / 32-th pixel: uint8 [n, S, S, C] -> float32 [n, 32 * 32 * C]."""
    step = max(1, pictures.shape[1] // 32)
    return pictures[:, ::step, ::step].reshape(len(pictures), -1).astype(np.float32)


def _write_ids(ids: np.ndarray) -> list[str]:
    """int32 [n, T] as n texts of numbers, without padding."""
    # 0 is padding, in every set.
    return [" ".join(map(str, row[row > 0])) for row in ids]


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.baseline",
        description="Fits scikit-learn's models on the very examples that train.run sees.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--dataset", required=True, help="name[/config] of a prepared set, or its directory")
    add("--data-dir", help="where prepared sets lie (default: as tfds)")
    add_cache_flags(parser)
    add("--feature", help="the input feature, where the set has several")
    add("--task", choices=TASKS, help="what is predicted (default: as train.run)")
    add(
        "--on-corrupt",
        choices=ON_CORRUPT,
        default="error",
        help="at a damaged record: stop and name it (default), or leave damaged ones out",
    )
    add("--classes", nargs="+", metavar="CLASS", help="as of train.run (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="names the validation cut (default: 0)")
    add("--image-size", type=int, metavar="N", help="pictures: pixels (default: 224)")
    add("--max-pixels", type=int, metavar="N", help="pictures: at most (default: 16777216)")
    add("--sequence-length", type=int, metavar="N", help="texts: ids of each (default: 200)")
    add("--vocab-size", type=int, metavar="N", help="texts: ids in use (default: 20000)")
    add(
        "--mean-with",
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs on the same set: the mean of what each of them and the first model say, too",
    )
    add("--output", type=Path, metavar="FILE", help="also written as JSON, for train.results")
    found = parser.parse_args(normalise_flags(arguments))
    if not 0 <= found.seed < 2**32:  # as scikit-learn has it
        parser.error(f"--seed expected 0 to 2^32 - 1, received {found.seed}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Fits on train, prints validation and test metrics; returns the exit code."""
    config = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _fit_all(config))


def _fit_all(config: argparse.Namespace) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from records.decoding.input_config import InputConfig
    from records.opened import open_set
    from records.roles import Data
    from records.sets.schema import IMAGE
    from train.assembly.predictions import predict_split
    from train.settings.resolve import check_kind

    if config.output:
        check_output(config.output, "baseline")
    given = {name: getattr(config, name) for name in _SIZES if getattr(config, name) is not None}
    sizes = InputConfig(**given, feature=config.feature)
    opened = open_set(
        config.dataset,
        config.data_dir,
        feature=config.feature,
        task=config.task,
        skip_damaged=config.on_corrupt == "skip",
    ).choose(config.classes)
    check_kind(given, opened.schema)
    data = Data(opened, sizes, config.seed)
    # Parts of test, such as `test_new`, get figures of their own beside the whole.
    parts = [part for part, whole in data.schema.parts.items() if whole == "test"]
    examples = {r: data.examples(r).without_damaged() for r in (*data.roles(), *parts)}
    schema = data.schema
    runs = [_open_run(folder, schema, config.classes) for folder in config.mean_with]
    if len({_called(run) for run in runs}) < len(runs):
        raise ValueError(
            "baseline: --mean-with expected runs of different models or seeds, received two alike: "
            f"{', '.join(map(_called, runs))}. Measure them one after the other"
        )
    skips = config.on_corrupt == "skip"
    print(f"{schema.name}, input {schema.input_name!r} ({schema.modality}), seed {config.seed}")
    found = {}
    models = make_baselines(data.schema.modality, config.seed, schema.task)
    for name, model in models.items():
        found[name] = _measure(name, model, data, examples)
    for run in runs:
        name, model = next(iter(models.items()))
        said = functools.partial(predict_split, data_dir=config.data_dir, skip_damaged=skips)
        found[f"mean of {_called(run)}, and {name}"] = _measure_mean(run, model, said, examples)
    if data.schema.modality == IMAGE:
        features = _frozen_features(data, examples)
        name, linear = _make_linear(schema.task, LogisticRegression(max_iter=2000, C=1e-2), 1e2)
        name = f"{name}, frozen features"
        found[name] = _measure(name, make_pipeline(StandardScaler(), linear), data, features)
    if config.output:
        result: dict[str, Any] = {"dataset": data.schema.name, "seed": config.seed}
        result |= {"classes": config.classes, "command": _format_command(config), "systems": found}
        write_json(config.output, result)


def fit_alone(model: Any, rows: np.ndarray, labels: np.ndarray) -> None:
    """Fits a scikit-learn model on one OpenMP thread.

    Gradient boosting forks and joins thousands of times, and `records.system.quiet` lets OpenMP's
    threads sleep in between: on 2 cores a fold of fetal_health took 7.0 s with two threads, 0.45 s
    with one.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="openmp"):
        model.fit(rows, labels)


def _measure(
    name: str, model: Any, data: Data, examples: dict[str, Examples]
) -> dict[str, dict[str, float]]:
    """Fits on train; by role, train included, accuracy and weighted F1, or the task's figures."""
    train = examples["train"]
    began = time.perf_counter()
    fit_alone(model, np.asarray(train.inputs)[train.numbers], train.subset_labels)
    found: dict[str, dict[str, float]] = {"seconds": {"fit": time.perf_counter() - began}}
    for role, part in examples.items():
        rows = np.asarray(part.inputs)[part.numbers]
        if data.schema.task != SINGLE_LABEL:
            found[role] = _measure_target(model, rows, part.subset_labels, data.schema.task)
            said = "  ".join(f"{key} {value:.4f}" for key, value in found[role].items())
            print(f"  {name:36} {role:11} {said}", flush=True)
            continue
        found[role] = _score(name, role, part.subset_labels, model.predict(rows))
    return found


def _score(name: str, role: str, labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy and weighted F1 of classes int [n], printed too."""
    from sklearn.metrics import accuracy_score, f1_score

    accuracy = float(accuracy_score(labels, predicted))
    f1 = float(f1_score(labels, predicted, average="weighted", zero_division=0))
    print(f"  {name:36} {role:11} accuracy {accuracy:.4f}  F1 {f1:.4f}", flush=True)
    return {"accuracy": accuracy, "weighted_f1": f1}


def _format_command(config: argparse.Namespace) -> str:
    """What repeats the figures, given where the sets lie."""
    words = ["python", "-m", "train.baseline", "--dataset", config.dataset]
    for name in ("feature", "task", *_SIZES, "classes", "mean_with"):
        if (value := getattr(config, name)) not in (None, []):
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join([*words, *(["--seed", str(config.seed)] * bool(config.seed))])


def _open_run(folder: str, schema: Schema, classes: list[str] | None) -> FinishedRun:
    """A finished run on the set, for the mean with it."""
    from train.folders.finished_run import open_run

    run = open_run(folder)
    if run.input.dataset != schema.name or schema.task != SINGLE_LABEL:
        raise ValueError(
            f"baseline: --mean-with expected runs that tell one class of {schema.name}, received "
            f"{folder}, a run on {run.input.dataset}; the task here is {schema.task}"
        )
    if list(run.settings.classes or ()) != list(classes or ()):
        asked = " ".join(run.settings.classes or ("(none)",))
        raise ValueError(
            f"baseline: --mean-with expected runs with the same --classes, received {folder}, "
            f"which had {asked}"
        )
    return run


def _called(run: FinishedRun) -> str:
    return f"{run.settings.model}, seed {run.settings.seed}"


def _measure_mean(
    run: FinishedRun, model: Any, predict: Callable[..., Any], examples: dict[str, Examples]
) -> dict[str, dict[str, float]]:
    """As `_measure`, of the mean of what a run and a fitted model say.

    `predict` is called as `predict_split(run, role)`.
    """
    found: dict[str, dict[str, float]] = {"seconds": {"fit": 0.0}}
    for role, part in examples.items():
        _, theirs, probability = predict(run, role)
        if not np.array_equal(theirs.numbers, part.numbers):
            raise ValueError(
                f"baseline: --mean-with expected a run on the same examples, received {run.place}, "
                f"whose {role} has others. Give --seed {run.settings.seed}, as there"
            )
        rows = np.asarray(part.inputs)[part.numbers]
        said = probability + say(model, rows, SINGLE_LABEL, probability.shape[1])
        found[role] = _score(f"mean with {_called(run)}", role, part.subset_labels, said.argmax(1))
    return found


def say(model: Any, rows: np.ndarray, task: str, width: int) -> np.ndarray:
    """Probabilities or numbers float64 [n, C] that a fitted model gives of rows [n, ...]."""
    if task == REGRESSION:
        return np.asarray(model.predict(rows), np.float64).reshape(len(rows), width)
    probability = np.asarray(model.predict_proba(rows), np.float64)
    if task == MULTI_LABEL:
        return probability
    # A class without a training example is unknown to scikit-learn: its column is 0.
    found = np.zeros((len(rows), width))
    found[:, model.classes_] = probability
    # Of float32 features they add up to 1 in float32 only.
    return found / found.sum(1, keepdims=True)


def _measure_target(
    model: Any, rows: np.ndarray, labels: np.ndarray, task: str
) -> dict[str, float]:
    """The figures of `train.run`, without the loss, of a fitted model on rows [n, ...]."""
    from train.measures.target_metrics import metrics_of_numbers, score_classes

    said = say(model, rows, task, labels.shape[1])
    if task == MULTI_LABEL:
        return score_classes(said, labels, said >= 0.5)[0]
    figures = metrics_of_numbers(said, labels, np.ones(labels.shape[1])).figures
    return {name: value for name, value in figures.items() if name != "loss"}


def _frozen_features(data: Data, examples: dict[str, Examples]) -> dict[str, Examples]:
    """The features float32 [N, 1280] that the frozen EfficientNet-Lite0 gives."""
    from models import ModelConfig, build_model, split_frozen
    from train.devices.strategy import make_cluster
    from train.step.features import extract_features

    cluster = make_cluster("one_device")
    config = ModelConfig("efficientnet_lite0")
    model = build_model(config, data.spec, data.schema.num_classes, seed=0)
    # Head and seed do not matter: only the pretrained backbone, which is the same for every seed,
    # gives the features.
    backbone, _ = split_frozen(model)
    return extract_features(backbone, examples, data.content_key(), cluster, "memory", 32)


if __name__ == "__main__":
    sys.exit(main())
