"""Command line: every figure of a finished run on one split, with intervals and what went wrong.

    python -m train.evaluate RUN
    python -m train.evaluate RUN --split test

Reading the test split is a deliberate act: without --split it is the validation examples.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from records.stores.flags import add_cache_flags
from records.system.command import run_as_command, with_home
from records.system.writing import check_output, write_atomically
from train.measures.evaluation_summary import print_summary
from train.settings.config import ON_CORRUPT

if TYPE_CHECKING:
    from records.examples import Examples
    from records.roles import Data
    from train.folders.finished_run import FinishedRun
    from train.measures.scores import Bootstrap


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Measures a finished run on a split of the set that it was trained on, and "
        "writes RUN/evaluation-<split>/.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder")
    add(
        "--split",
        default="validation",
        help="validation (default), train, test, or another split of the set; settings are chosen "
        "by validation, and test is read once, when they are",
    )
    add("--data-dir", help="where prepared sets lie (default: as train.run)")
    add_cache_flags(parser)
    add(
        "--on-corrupt",
        choices=ON_CORRUPT,
        default="error",
        help="at a damaged record: stop and name it (default), or leave damaged ones out",
    )
    add(
        "--least-recall",
        metavar="CLASS=R",
        help="also decide for this class from the highest probability on at which validation "
        "finds the share R of its examples, such as pathological=0.95",
    )
    add("--resamples", type=int, default=2000, metavar="N", help="of the bootstrap (default: 2000)")
    add("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    add("--percent", type=float, default=95.0, metavar="X", help="of an interval (default: 95)")
    add("--errors", type=int, default=25, metavar="N", help="worst errors shown (default: 25)")
    options = parser.parse_args(with_home(arguments))
    expected = {
        "--resamples": ("1 or more", options.resamples >= 1, options.resamples),
        "--percent": ("a number between 0 and 100", 0 < options.percent < 100, options.percent),
        "--errors": ("0 or more", options.errors >= 0, options.errors),
        "--seed": ("0 or more", options.seed >= 0, options.seed),
    }
    for flag, (wanted, is_right, received) in expected.items():
        if not is_right:
            parser.error(f"{flag} expected {wanted}, received {received}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Evaluates and writes; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _evaluate(options))


def _evaluate(options: argparse.Namespace) -> None:
    from train.measures.scores import Bootstrap

    evaluate(
        options.run,
        options.split,
        options.data_dir,
        Bootstrap(options.resamples, options.seed, options.percent),
        options.errors,
        options.least_recall,
        skip_damaged=options.on_corrupt == "skip",
    )


def evaluate(
    path: str | Path,
    split: str,
    data_dir: str | None,
    bootstrap: Bootstrap,
    num_errors: int,
    least_recall: str | None = None,
    *,
    skip_damaged: bool = False,
) -> dict[str, Any]:
    """Measures a run on a split, prints a summary and writes `evaluation-<split>` in its folder.

    With `least_recall`, "CLASS=R", the figures also of a decision for that class at a threshold
    chosen on validation.

    Returns:
      What `evaluation.json` holds.

    Raises:
      ValueError: no finished run, no such split, or other data than the run's.
      FileNotFoundError: the set is not there.
    """
    from train.assembly.predictions import predict_split
    from train.folders.finished_run import open_run
    from train.measures.class_threshold import choose_threshold, measure_decision, parse_threshold

    run = open_run(path)
    folder, wanted = run.path / f"evaluation-{split}", None
    check_output(folder, "evaluate", "RUN", is_folder=True)
    if least_recall:
        wanted = parse_threshold(least_recall, run.input.class_names, "--least-recall")
    print(f"{run.settings.model} of {run.path} on {run.input.dataset}, split {split}", flush=True)
    data, examples, probability = predict_split(run, split, data_dir, skip_damaged=skip_damaged)
    found = _measure(run, split, data, examples, probability, bootstrap)
    if wanted:
        # Always on validation: a threshold chosen on the examples it is measured on would look too
        # good.
        _, chosen_on, of_them = predict_split(
            run, "validation", data_dir, skip_damaged=skip_damaged
        )
        limit = choose_threshold(of_them, chosen_on.subset_labels, *wanted)
        decision = measure_decision(limit, probability, examples.subset_labels)
        found["decision"] = {"least_recall": least_recall} | decision
    # Only now: an evaluation that fails leaves no folder that train.results would read.
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "evaluation.json", (json.dumps(found, indent=2) + "\n").encode())
    _write(folder, found, run.input.class_names, examples, probability, num_errors)
    print_summary(found, folder)
    return found


def _measure(
    run: FinishedRun,
    split: str,
    data: Data,
    examples: Examples,
    probability: np.ndarray,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """What `evaluation.json` holds."""
    from sklearn.metrics import confusion_matrix

    from train.measures import scores

    labels, names = examples.subset_labels, run.input.class_names
    # Examples of a group, such as an artist's songs, are alike: drawn one by one they would make
    # the intervals too narrow.
    groups = examples.index.group[examples.numbers] if data.schema.group_name else None
    ranges = scores.intervals(probability, labels, bootstrap, groups)
    classes, predicted = range(len(names)), probability.argmax(1)
    calibration = scores.calibration_bins(probability, labels)
    drawn = f"groups ({data.schema.group_name})" if data.schema.group_name else "examples"
    return {
        "dataset": run.input.dataset,
        "data_fingerprint": run.fingerprint,
        "split": split,
        "examples": len(labels),
        "metrics": scores.to_json(scores.score(probability, labels), names),
        "intervals": scores.to_json(ranges, names),
        "bootstrap": {
            "resamples": bootstrap.resamples,
            "seed": bootstrap.seed,
            "percent": bootstrap.percent,
            "method": "percentile",
            "drawn": drawn,
            "units": len(labels if groups is None else np.unique(groups)),
        },
        "confusion_matrix": confusion_matrix(labels, predicted, labels=classes).tolist(),
        "calibration": {k: scores.to_json({k: v}, names)[k] for k, v in calibration.items()},
    }


def _write(
    folder: Path,
    found: dict[str, Any],
    names: tuple[str, ...],
    examples: Examples,
    probability: np.ndarray,
    num_errors: int,
) -> None:
    """The figures, and the errors of which the model was most certain."""
    from train.measures import plots, scores
    from train.measures.worst_errors import write_errors

    split = found["split"]
    confusion = np.array(found["confusion_matrix"])
    bins = scores.calibration_bins(probability, examples.subset_labels)
    pictures = {
        "confusion_matrix.png": lambda: plots.draw_confusion(confusion, names, split),
        "calibration.png": lambda: plots.draw_calibration(bins, split),
    }
    for name, draw in pictures.items():
        plots.draw_safely(name, draw, functools.partial(write_atomically, folder / name))
    write_errors(folder, examples, probability, names, num_errors)


if __name__ == "__main__":
    sys.exit(main())
