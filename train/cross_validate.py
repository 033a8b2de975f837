"""Command line: one model's cross-validation beside scikit-learn's, on the same folds.

    python -m train.cross_validate --dataset fetal_health/kaggle --pool-splits --seeds 0 1 2

Settings are those of train.run. Without --pool-splits the folds are cut from the split train; with
it from all splits, which is for settings that were chosen before and are not changed after it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import itertools
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from records.sets.target import MULTI_LABEL, SINGLE_LABEL
from records.system.command import run_as_command
from records.system.json_file import write_json
from records.system.progress import Progress
from records.system.writing import check_output
from train.measures.folds_table import EACH, FIGURES, format_table, title
from train.measures.metrics import CHOSEN_BY
from train.settings.config import TrainConfig
from train.settings.flags import add_flags, parse_settings
from train.settings.sets import folder_name

if TYPE_CHECKING:
    from records.opened import OpenedSet
    from records.roles import Data
    from train.devices.strategy import Cluster
    from train.settings.resolved import Settings


class Predicted(NamedTuple):
    """What was predicted for one fold's validation."""

    labels: np.ndarray  # int [n], or [n, C]
    said: np.ndarray  # float64 [n, C], probabilities or numbers
    numbers: np.ndarray  # int64 [n], of the records
    # [C], of numbers among the fold's training examples; None of classes.
    deviation: np.ndarray | None = None


# (name, predictions by fold, seconds of all folds)
System = tuple[str, list[Predicted], float]


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """What is cross-validated."""

    config: TrainConfig  # settings with folds
    seeds: tuple[int, ...]  # each names initial weights, order and folds
    output: Path  # where the result goes
    baselines: bool = True  # whether scikit-learn's models are fitted, too


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

    Returns what the file holds: the settings, and per system an entry for each seed and fold.

    Raises:
      ValueError: settings that do not fit the data.
      FileNotFoundError: the set is not there.
    """
    from train.devices.strategy import make_cluster, set_up_devices
    from train.engine.console import print_data
    from train.engine.whole_run import prepare_and_open
    from train.settings.resolve import resolve

    asked, output = plan.config, plan.output
    check_output(output, "cross-validation")
    check_output(_folds_folder(output), "cross-validation", is_folder=True)
    set_up_devices(asked.cpu_devices, asked.deterministic)
    cluster = make_cluster(asked.strategy, asked.cpu_devices)
    opened = prepare_and_open(asked, cluster)
    # Opened and resolved once; a seed changes the order, the weights and the folds, not the data.
    settings, schema = resolve(asked, opened.schema, cluster), opened.schema
    print_data(settings.model, schema)
    seeds = f"seed{'s' * (len(plan.seeds) > 1)} {', '.join(map(str, plan.seeds))}"
    print(f"  {settings.folds} folds, {seeds} -> {output}", flush=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in plan.seeds:
        seeded = dataclasses.replace(settings, seed=seed)
        found, seconds = _train(seeded, opened, cluster, output)
        ours = settings.model, found, seconds
        others = _fit_baselines(seeded, opened, ours) if plan.baselines else ()
        for name, predicted, took in itertools.chain([ours], others):
            of_one = _rows(predicted, seeded, took, schema)
            rows.setdefault(name, []).extend(of_one)
            figure = CHOSEN_BY[schema.task]
            mean = np.mean([row[figure] for row in of_one])
            print(f"  seed {seed}: {name}: {title(figure)} {mean:.4f}", flush=True)
        gc.collect()  # likewise
    result = {
        "dataset": schema.name,
        "data_fingerprint": opened.fingerprint,
        "settings": settings.to_dict(),
        "seeds": list(plan.seeds),
        "systems": rows,
    }
    write_json(output, result)
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
    from train.measures.metrics import say
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
            Predicted(labels, say(opened.schema.task, logits), of_fold)
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
        finished = open_run(run)
        _, examples, said = predict_split(finished, "validation", settings.data_dir)
        deviation = np.array(finished.input.scale[1]) if finished.input.scale else None
        of_fold = np.asarray(examples.numbers)
        found.append(Predicted(examples.subset_labels, said, of_fold, deviation))
        # The model of a finished fold stays, for train.evaluate; its checkpoints serve nobody.
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        gc.collect()  # models refer to themselves, and hold the files and examples of their fold
    return found, seconds


def _fit_baselines(settings: Settings, opened: OpenedSet, ours: System) -> Iterator[System]:
    """Each of scikit-learn's models, and the mean of what ours and the first of them say."""
    from train.baseline import make_baselines
    from train.search.folds_at_once import open_folds

    schema = opened.schema
    parts = open_folds(settings, opened)
    make = functools.partial(make_baselines, schema.modality, settings.seed, schema.task)
    for name in make():
        began, pairs = time.perf_counter(), []
        with Progress(len(parts), f"seed {settings.seed}: {name}", "folds") as line:
            for part in parts:  # a new model for each
                pairs.append(_fit(make()[name], part))
                line.add(1)
        seconds = time.perf_counter() - began
        yield name, pairs, seconds
        if name == next(iter(make())):
            yield f"mean of {ours[0]} and {name}", average(ours[1], pairs), ours[2] + seconds


def average(some: list[Predicted], others: list[Predicted]) -> list[Predicted]:
    """The means of what two systems say of the same folds."""
    return [
        one._replace(said=(one.said + other.said) / 2)
        for one, other in zip(some, others, strict=True)
    ]


def _fit(baseline: Any, part: Data) -> Predicted:
    """The predictions of a scikit-learn model, fitted on a fold's training examples."""
    from train.assembly.training import target_scale
    from train.baseline import fit_alone, say

    train, validation = part.examples("train").without_damaged(), part.examples("validation")
    fit_alone(baseline, np.asarray(train.inputs)[train.numbers], train.subset_labels)
    rows, schema = np.asarray(validation.inputs)[validation.numbers], part.schema
    said = say(baseline, rows, schema.task, schema.num_classes)
    deviation = scale[1] if (scale := target_scale(part)) else None
    return Predicted(validation.subset_labels, said, np.asarray(validation.numbers), deviation)


def _rows(
    found: list[Predicted], settings: Settings, seconds: float, schema: Any
) -> list[dict[str, Any]]:
    """One entry per fold; the seconds are the mean of the seed's folds."""
    from train.measures import scores
    from train.measures.target_scores import Classes, Numbers

    rows, task = [], schema.task
    for fold, (labels, said, numbers, deviation) in enumerate(found):
        if deviation is not None:
            score = Numbers(said, labels, deviation.tolist()).score()
        elif task == MULTI_LABEL:
            # At 0.5: thresholds of this fold's own would be chosen on what they are measured on.
            score = Classes(said, labels, (0.5,) * schema.num_classes).score()
        else:
            score = scores.score(said, labels)
        figures = scores.to_json(score, schema.class_names, (EACH[task],))
        row = {name: figures[name] for name in (*FIGURES[task], EACH[task])}
        if settings.pool_splits and task == SINGLE_LABEL:
            # By split: where test differs in kind from train, the pooled mean would hide it.
            row["right"] = _count_right(said.argmax(1) == labels, numbers, schema)
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


if __name__ == "__main__":
    sys.exit(main())
