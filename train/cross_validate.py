"""Command line: one model's cross-validation beside scikit-learn's, on the same folds.

    python -m train.cross_validate --dataset fetal_health/kaggle --pool-splits --seeds 0 1 2

Settings are those of train.run. Without --pool-splits the folds are cut from the split train; with
it from all splits, which is for settings that were chosen before and are not changed after it.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from records.system.command import run_as_command
from records.system.progress import Progress
from records.system.writing import check_output, escape_cell, write_atomically
from train.measures.metrics import FIGURES
from train.settings.config import TrainConfig
from train.settings.flags import add_flags, parse_settings
from train.settings.sets import folder_name

if TYPE_CHECKING:
    from records.opened import OpenedSet
    from records.roles import Data
    from train.devices.strategy import Cluster
    from train.settings.resolved import Settings

_FIGURES = (*FIGURES, "calibration_error")
# (labels int [n], probabilities float64 [n, C], record numbers int64 [n]) of one fold's validation.
Predicted = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """What is cross-validated.

    Attributes:
      config: settings with folds.
      seeds: each names initial weights, order and folds.
      output: where the result goes.
      baselines: whether scikit-learn's models are fitted, too.
    """

    config: TrainConfig
    seeds: tuple[int, ...]
    output: Path
    baselines: bool = True


def parse_arguments(arguments: list[str]) -> CrossValidation:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.cross_validate",
        description="Cross-validates a model and scikit-learn's baselines on the same folds.",
        allow_abbrev=False,
    )
    group = parser.add_argument_group("cross-validation")
    group.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2"
    )
    group.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: cross_validation/<set>-<model>.json",
    )
    group.add_argument(
        "--no-baselines",
        dest="baselines",
        action="store_false",
        help="leave scikit-learn's models out: the file of another model on the same folds has "
        "them, and train.results makes one table of both",
    )
    add_flags(parser)
    given, found = parse_settings(parser, arguments, own=("fold", "seed"))
    seeds, output = tuple(found["seeds"]), found["output"]
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        parser.error(
            f"--seeds expected different numbers from 0 to 2^32 - 1, received "
            f"{' '.join(map(str, seeds))}"
        )
    if given.keys() & {"fold", "seed"}:
        parser.error(
            "all folds are trained, with every one of --seeds: --fold and --seed do not belong here"
        )
    try:
        # Five folds, as train.sweep has: settings found there are judged on parts of the same size.
        config = TrainConfig(**({"folds": 5} | given), given=frozenset(given))
    except ValueError as error:
        parser.error(str(error))
    name = f"{folder_name(config.dataset)}-{config.model or 'default'}"
    return CrossValidation(
        config, seeds, output or Path("cross_validation", f"{name}.json"), found["baselines"]
    )


def main(arguments: list[str] | None = None) -> int:
    """Cross-validates; returns the exit code."""
    plan = parse_arguments(sys.argv[1:] if arguments is None else arguments)

    def work() -> None:
        cross_validate(plan)

    return run_as_command(work)


def cross_validate(plan: CrossValidation) -> dict[str, Any]:
    """Trains every fold with every seed, fits the baselines, prints the table and writes it.

    Returns what the file holds: the settings, and per system a list
    of one entry per seed and fold.

    Raises:
      ValueError: settings that do not fit the data.
      FileNotFoundError: the set is not there.
    """
    from train.devices.strategy import make_cluster, set_up_devices
    from train.engine.console import print_data
    from train.engine.whole_run import prepare_and_open
    from train.measures.target_metrics import check_one_class
    from train.settings.resolve import resolve

    asked, output = plan.config, plan.output
    check_output(output, "cross-validation")
    check_output(_folds_folder(output), "cross-validation", is_folder=True)
    set_up_devices(asked.cpu_devices, asked.deterministic)
    cluster = make_cluster(asked.strategy, asked.cpu_devices)
    opened = prepare_and_open(asked, cluster)
    # Opened and resolved once; a seed changes the order, the weights and the folds, not the data.
    settings, schema = resolve(asked, opened.schema, cluster), opened.schema
    check_one_class(schema.task, "cross-validation")
    print_data(settings.model, schema)
    seeds = f"seed{'s' * (len(plan.seeds) > 1)} {', '.join(map(str, plan.seeds))}"
    print(f"  {settings.folds} folds, {seeds} -> {output}", flush=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in plan.seeds:
        seeded = dataclasses.replace(settings, seed=seed)
        found, seconds = _train(seeded, opened, cluster, output)
        ours = settings.model, _rows(found, seeded, seconds, schema)
        others = _fit_baselines(seeded, opened) if plan.baselines else ()
        for name, of_one in itertools.chain([ours], others):
            rows.setdefault(name, []).extend(of_one)
            mean = np.mean([row["weighted_f1"] for row in of_one])
            print(f"  seed {seed}: {name}: weighted F1 {mean:.4f}", flush=True)
        gc.collect()  # likewise
    result = {
        "dataset": schema.name,
        "data_fingerprint": opened.fingerprint,
        "settings": settings.to_dict(),
        "seeds": list(plan.seeds),
        "systems": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, (json.dumps(result, indent=2) + "\n").encode())
    print(format_table(result))
    print(f"every fold: {output}")
    return result


def _folds_folder(output: Path) -> Path:
    """Where the runs of the folds lie, beside the file."""
    return output.with_suffix("") if output.suffix else output.with_name(f"{output.name}-folds")


def _train(
    settings: Settings, opened: OpenedSet, cluster: Cluster, output: Path
) -> tuple[list[Predicted], float]:
    """The predictions for every fold's validation examples, and the seconds of all folds."""
    from train.assembly.predictions import predict_split
    from train.engine.whole_run import train_settings
    from train.folders.finished_run import open_run
    from train.measures.metrics import probabilities
    from train.search.folds_at_once import can_train_together, open_folds, train_folds

    # A table's step is so short that its fixed cost is most of it: all folds in one step share it.
    if can_train_together(settings, opened.schema):
        began = time.perf_counter()
        label = f"seed {settings.seed}: {settings.folds} folds at once"
        with Progress(settings.epochs, label, "epochs") as line:
            pairs = train_folds(settings, opened, cluster, lambda epoch, found: line.add(1))
        seconds = time.perf_counter() - began
        numbers = [
            np.asarray(part.examples("validation").numbers) for part in open_folds(settings, opened)
        ]
        return [
            (labels, probabilities(logits), of_fold)
            for (labels, logits), of_fold in zip(pairs, numbers, strict=True)
        ], seconds
    assert settings.folds is not None
    found, seconds = [], 0.0
    for fold in range(settings.folds):
        run = _folds_folder(output) / f"seed-{settings.seed}-fold-{fold}"
        one = dataclasses.replace(settings, fold=fold, run_dir=str(run))
        metrics = train_settings(one, opened, cluster, time.perf_counter())
        # Those of the run itself: one that was finished before took them then.
        seconds += sum(metrics["seconds"].values())
        _, examples, probability = predict_split(open_run(run), "validation", settings.data_dir)
        found.append((examples.subset_labels, probability, np.asarray(examples.numbers)))
        # The model of a finished fold stays, for train.evaluate; its checkpoints serve nobody.
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        gc.collect()  # models refer to themselves, and hold the files and examples of their fold
    return found, seconds


def _fit_baselines(
    settings: Settings, opened: OpenedSet
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(name, entries on the folds of a seed) of each of scikit-learn's models."""
    from train.baseline import make_baselines
    from train.search.folds_at_once import open_folds

    schema = opened.schema
    parts = open_folds(settings, opened)
    for name in make_baselines(schema.modality, settings.seed):
        began, pairs = time.perf_counter(), []
        with Progress(len(parts), f"seed {settings.seed}: {name}", "folds") as line:
            for part in parts:  # a new model for each
                pairs.append(_fit(make_baselines(schema.modality, settings.seed)[name], part))
                line.add(1)
        yield name, _rows(pairs, settings, time.perf_counter() - began, schema)


def _fit(baseline: Any, part: Data) -> Predicted:
    """The predictions of a scikit-learn model, fitted on a fold's training examples."""
    from train.baseline import fit_alone

    train, validation = part.examples("train").without_damaged(), part.examples("validation")
    fit_alone(baseline, np.asarray(train.inputs)[train.numbers], train.subset_labels)
    rows = np.asarray(validation.inputs)[validation.numbers]
    # A class without a training example in this fold is unknown to scikit-learn: its column is 0.
    probability = np.zeros((len(rows), part.schema.num_classes))
    probability[:, baseline.classes_] = baseline.predict_proba(rows)
    # Of float32 features they add up to 1 in float32 only.
    probability /= probability.sum(1, keepdims=True)
    return validation.subset_labels, probability, np.asarray(validation.numbers)


def _rows(
    found: list[Predicted], settings: Settings, seconds: float, schema: Any
) -> list[dict[str, Any]]:
    """One entry per fold; the seconds are the mean of the seed's folds."""
    from train.measures import scores

    rows = []
    for fold, (labels, probability, numbers) in enumerate(found):
        figures = scores.to_json(scores.score(probability, labels), schema.class_names)
        row = {name: figures[name] for name in _FIGURES} | {"recall": figures["recall"]}
        if settings.pool_splits:
            # By split: where test differs in kind from train, the pooled mean would hide it.
            row["right"] = _count_right(probability.argmax(1) == labels, numbers, schema)
        rows.append({"seed": settings.seed, "fold": fold, "seconds": seconds / len(found)} | row)
    return rows


def _count_right(right: np.ndarray, numbers: np.ndarray, schema: Any) -> dict[str, list[int]]:
    """By the split that a record lies in: how many are right, of how many."""
    # With pooled splits the record numbers run on from one split to the next, in this order.
    counts, first = {}, 0
    for split in schema.pooled_splits:
        last = first + schema.split_counts[split]
        of_split = right[(first <= numbers) & (numbers < last)]
        counts[split], first = [int(of_split.sum()), len(of_split)], last
    return counts


def format_table(result: dict[str, Any]) -> str:
    """Mean ± deviation over seeds and folds as a Markdown table.

    Where folds were cut from all splits together, also the share of each split's records that are
    right.
    """
    every = [row for rows in result["systems"].values() for row in rows]
    classes = list(every[0]["recall"])
    header = ["", "weighted F1", "accuracy", "loss", "calibration error"]
    header += [f"recall {escape_cell(name)}" for name in classes]
    splits = list(every[0].get("right", ()))  # with --pool-splits
    header += [f"accuracy on records of {split}" for split in splits] + ["s per fold"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name, rows in result["systems"].items():
        cells = [name]
        for figure in ("weighted_f1", "accuracy", "loss", "calibration_error"):
            values = [row[figure] for row in rows]
            cells.append(f"{np.mean(values):.4f} ± {np.std(values):.4f}")
        for one in classes:
            values = [row["recall"][one] for row in rows if row["recall"][one] is not None]
            cells.append(f"{np.mean(values):.3f}")
        for split in splits:
            right, count = np.sum([row["right"][split] for row in rows], axis=0)
            cells.append(f"{right / count:.4f}")
        cells.append(f"{np.mean([row['seconds'] for row in rows]):.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
