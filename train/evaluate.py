"""Command line: every figure of a finished run on one split, with intervals and what went wrong.

    python -m train.evaluate RUN
    python -m train.evaluate RUN --split test
    python -m train.evaluate RUN FOLDER_OR_TABLE --map glioma=glioma_tumor
    python -m train.evaluate RUN --on OTHER_SET

Reading the test split is a deliberate act: without --split it is the validation examples.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from records.sets.find import name_from_path
from records.sets.target import SINGLE_LABEL
from records.stores.flags import add_cache_flags
from records.system.command import run_as_command, with_home
from records.system.table_file import listed
from records.system.writing import check_output, write_atomically
from train.measures.evaluation_summary import print_summary
from train.settings.config import ON_CORRUPT

_COPY = "Copy the run to where its results can be written, and name that folder"

if TYPE_CHECKING:
    from train.folders.finished_run import FinishedRun
    from train.folders.model_input import ModelInput
    from train.measures.scores import Bootstrap
    from train.measures.target_scores import Classes, Numbers
    from train.serving.labelled import Labelled


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Measures a finished run on a split of the set that it was trained on, and "
        "writes RUN/evaluation-<split>/; or on labelled files or another set, and writes "
        "RUN/measured-<name>/.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder")
    _add_elsewhere(parser)
    add(
        "--split",
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
    _check_place(parser, options)
    return options


def _add_elsewhere(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="labelled files to measure on: a folder with a folder for each class, or a table "
        "with a column of classes",
    )
    add("--on", metavar="SET", help="another prepared set to measure on (default: all its splits)")
    add(
        "--map",
        metavar="FOUND=CLASS",
        nargs="+",
        action="extend",
        default=[],
        help="SOURCE, --on: what a class is called there, and in the run; FOUND= leaves it out",
    )
    add(
        "--label",
        metavar="COLUMN",
        nargs="+",
        help="SOURCE: the column of the classes, or those of the numbers (default: of a converted "
        "table the run's own, else label)",
    )
    add("--column", help="SOURCE: the column of a table's texts, or of its pictures' files")


def _check_place(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the command for flags of another place than the one that is measured on."""
    if options.source and (options.on or options.split):
        parser.error(f"--{'on' if options.on else 'split'} expected without SOURCE")
    if options.map and not (options.source or options.on):
        parser.error("--map expected with SOURCE or --on: the run's own set has its classes")
    for flag in ("label", "column"):
        if getattr(options, flag) and not options.source:
            parser.error(f"--{flag} expected with SOURCE")


def main(arguments: list[str] | None = None) -> int:
    """Evaluates and writes; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _evaluate(options))


def _evaluate(options: argparse.Namespace) -> None:
    from train.measures.scores import Bootstrap

    bootstrap = Bootstrap(options.resamples, options.seed, options.percent)
    common = {"least_recall": options.least_recall, "skip_damaged": options.on_corrupt == "skip"}
    if options.source or options.on:
        evaluate_elsewhere(options, bootstrap, options.errors, **common)
        return
    split = options.split or "validation"
    evaluate(options.run, split, options.data_dir, bootstrap, options.errors, **common)


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
    from train.measures.class_threshold import parse_threshold
    from train.measures.target_metrics import check_one_class
    from train.measures.worst_errors import write_errors, write_largest_losses

    run = open_run(path)
    folder = run.path / f"evaluation-{split}"
    check_output(folder, "evaluate", "RUN", is_folder=True, mend=_COPY)
    if least_recall:  # a slip in it is told before the work
        check_one_class(run.input.task, "evaluate: --least-recall")
        parse_threshold(least_recall, run.input.class_names, "--least-recall")
    print(f"{run.settings.model} of {run.place} on {run.input.dataset}, split {split}", flush=True)
    data, examples, probability = predict_split(run, split, data_dir, skip_damaged=skip_damaged)
    groups = examples.index.group[examples.numbers] if data.schema.group_name else None
    found: dict[str, Any] = {"dataset": run.input.dataset, "data_fingerprint": run.fingerprint}
    found["split"] = split
    if run.input.task != SINGLE_LABEL:
        how = (bootstrap, groups, data.schema.group_name)
        measure = _measure_target(
            folder, run.input, (probability, examples.subset_labels), how, found, f"split {split}"
        )
        write_largest_losses(folder, examples, measure.decided, measure.losses, num_errors)
        run.keep(folder)
        return found
    found |= _measure(
        run, examples.subset_labels, probability, bootstrap, groups, data.schema.group_name
    )
    if least_recall:
        found["decision"] = _decide(
            run, data_dir, least_recall, probability, examples.subset_labels, skip_damaged
        )
    # Only now: an evaluation that fails leaves no folder that train.results would read.
    _write(folder, found, run.input.class_names, examples.subset_labels, probability)
    write_errors(folder, examples, probability, run.input.class_names, num_errors)
    print_summary(found, folder, f"split {split}")
    run.keep(folder)
    return found


def evaluate_elsewhere(
    options: argparse.Namespace,
    bootstrap: Bootstrap,
    num_errors: int,
    least_recall: str | None = None,
    *,
    skip_damaged: bool = False,
) -> dict[str, Any]:
    """Measures a run on labelled files or on another set, and writes `measured-<name>`.

    The predictions are those of `train.predict` on the same files.

    Args:
      options: `run`, `source`, `on`, `map`, `label`, `column`, `split`, `data_dir`, of the flags.

    Returns, further arguments: as `evaluate`. `measured_on` says what was measured.

    Raises:
      ValueError: no finished run, classes that it does not know, or nothing to measure.
      OSError: there are no such files, or no such set.
    """
    from train.folders.finished_run import open_run
    from train.measures.class_threshold import parse_threshold
    from train.measures.target_metrics import check_one_class
    from train.measures.target_scores import LargestLosses
    from train.measures.worst_errors import WorstErrors, write_rows
    from train.predict import predict_labelled
    from train.serving.labelled import make_reader

    run, source = open_run(options.run), options.source or options.on
    names, is_single = run.input.class_names, run.input.task == SINGLE_LABEL
    if least_recall:
        check_one_class(run.input.task, "evaluate: --least-recall")
        parse_threshold(least_recall, names, "--least-recall")
    labelled, folder = _open_elsewhere(run, options, skip_damaged)
    read = make_reader(run.input, labelled.targets.values(), options.map, source)
    print(f"{run.settings.model} of {run.place} on {source}", flush=True)
    errors = WorstErrors(names, num_errors) if is_single else LargestLosses(run.input, num_errors)
    labels, probability, kept, left_out = predict_labelled(run, labelled, read, errors)
    groups = None if labelled.groups is None else np.array([labelled.groups[n] for n in kept])
    found: dict[str, Any] = {"dataset": run.input.dataset, "data_fingerprint": run.fingerprint}
    found["measured_on"] = labelled.about | {"map": options.map, "left_out": left_out}
    if not is_single:
        how = (bootstrap, groups, labelled.group_name)
        _measure_target(folder, run.input, (probability, labels), how, found, source)
        write_rows(folder, *errors.rows_and_pictures(), "loss")
        run.keep(folder)
        return found
    found |= _measure(run, labels, probability, bootstrap, groups, labelled.group_name)
    if least_recall:
        place = options.data_dir if options.source else None
        found["decision"] = _decide(run, place, least_recall, probability, labels, skip_damaged)
    _write(folder, found, names, labels, probability)
    write_rows(folder, *errors.rows_and_pictures())
    print_summary(found, folder, source)
    if lacking := [name for number, name in enumerate(names) if number not in labels]:
        print(f"note: no example of {listed(lacking)}: what is undefined for a class stands as -")
    run.keep(folder)
    return found


def _measure_target(
    folder: Path,
    wanted: ModelInput,
    pair: tuple[np.ndarray, np.ndarray],
    how: tuple[Bootstrap, np.ndarray | None, str | None],
    found: dict[str, Any],
    measured: str,
) -> Classes | Numbers:
    """Adds to `found` what is measured of (what was said, labels), writes and prints it."""
    from train.measures.target_scores import make_measure, measure_target

    measure = make_measure(wanted, *pair)
    found |= measure_target(folder, wanted, measure, how)
    write_atomically(folder / "evaluation.json", (json.dumps(found, indent=2) + "\n").encode())
    print_summary(found, folder, measured)
    return measure


def _open_elsewhere(
    run: FinishedRun, options: argparse.Namespace, skip_damaged: bool
) -> tuple[Labelled, Path]:
    """(what is measured on, the folder for what is found)."""
    from train.serving.labelled import open_other, read_labelled

    if options.source:
        called = options.source
        labelled = read_labelled(Path(called), run.input, options.column, options.label)
    else:
        labelled = open_other(run, options.on, options.split, options.data_dir, skip_damaged)
        called = re.sub(r"[/.]", "_", labelled.about["set"])
    folder = run.path / f"measured-{name_from_path(Path(called))}"
    check_output(folder, "evaluate", "RUN", is_folder=True, mend=_COPY)
    return labelled, folder


def _decide(
    run: FinishedRun,
    data_dir: str | None,
    least_recall: str,
    probability: np.ndarray,
    labels: np.ndarray,
    skip_damaged: bool,
) -> dict[str, Any]:
    """What a threshold that validation chose does to the decisions."""
    from train.assembly.predictions import predict_split
    from train.measures.class_threshold import choose_threshold, measure_decision, parse_threshold

    wanted = parse_threshold(least_recall, run.input.class_names, "--least-recall")
    # Always on validation: a threshold chosen on the examples it is measured on would look too
    # good.
    _, chosen_on, of_them = predict_split(run, "validation", data_dir, skip_damaged=skip_damaged)
    limit = choose_threshold(of_them, chosen_on.subset_labels, *wanted)
    return {"least_recall": least_recall} | measure_decision(limit, probability, labels)


def _measure(
    run: FinishedRun,
    labels: np.ndarray,
    probability: np.ndarray,
    bootstrap: Bootstrap,
    groups: np.ndarray | None,
    group_name: str | None,
) -> dict[str, Any]:
    """The figures that `evaluation.json` holds."""
    from sklearn.metrics import confusion_matrix

    from train.measures import scores

    names = run.input.class_names
    # Examples of a group, such as an artist's songs, are alike: drawn one by one they would make
    # the intervals too narrow.
    ranges = scores.intervals(probability, labels, bootstrap, groups)
    classes, predicted = range(len(names)), probability.argmax(1)
    calibration = scores.calibration_bins(probability, labels)
    return {
        "examples": len(labels),
        "metrics": scores.to_json(scores.score(probability, labels), names),
        "intervals": scores.to_json(ranges, names),
        "bootstrap": bootstrap.describe(groups, group_name, len(labels)),
        "confusion_matrix": confusion_matrix(labels, predicted, labels=classes).tolist(),
        "calibration": {k: scores.to_json({k: v}, names)[k] for k, v in calibration.items()},
    }


def _write(
    folder: Path,
    found: dict[str, Any],
    names: tuple[str, ...],
    labels: np.ndarray,
    probability: np.ndarray,
) -> None:
    """`evaluation.json` and its figures."""
    from train.measures import plots, scores

    folder.mkdir(exist_ok=True)
    write_atomically(folder / "evaluation.json", (json.dumps(found, indent=2) + "\n").encode())
    title = found.get("split") or folder.name.removeprefix("measured-")
    confusion = np.array(found["confusion_matrix"])
    bins = scores.calibration_bins(probability, labels)
    pictures = {
        "confusion_matrix.png": lambda: plots.draw_confusion(confusion, names, title),
        "calibration.png": lambda: plots.draw_calibration(bins, title),
    }
    for name, draw in pictures.items():
        plots.draw_safely(name, draw, functools.partial(write_atomically, folder / name))


if __name__ == "__main__":
    sys.exit(main())
