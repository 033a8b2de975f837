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
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from records.sets.find import name_from_path
from records.sets.target import SINGLE_LABEL
from records.stores.flags import add_cache_flags
from records.system.command import run_as_command, with_home
from records.system.json_file import write_json
from records.system.table_file import listed
from records.system.writing import check_output, write_atomically
from train.measures.evaluation_summary import print_summary
from train.settings.config import ON_CORRUPT

_COPY = "Copy the run to where its results can be written, and name that folder"

if TYPE_CHECKING:
    from train.folders.finished_run import FinishedRun
    from train.measures.scores import Bootstrap
    from train.measures.worst_errors import WorstErrors
    from train.serving.labelled import Labelled


class _Predicted(NamedTuple):
    """What a run says of examples whose targets are known."""

    folder: Path  # for what is measured
    where: dict[str, Any]  # the examples, for `evaluation.json`
    called: str  # the same, for people
    labels: np.ndarray  # int [n], or [n, C]
    probability: np.ndarray  # float64 [n, C], or numbers
    # [n], what is drawn together, and the name of that feature; None: each by itself.
    groups: np.ndarray | None
    group_name: str | None


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
    """Measures, writes `evaluation.json`, its figures and the worst errors, prints a summary."""
    from train.folders.finished_run import open_run
    from train.folders.stored_config import TIMES_READ, times_read
    from train.measures.class_threshold import parse_threshold
    from train.measures.scores import Bootstrap
    from train.measures.target_metrics import check_one_class
    from train.measures.target_scores import LargestLosses
    from train.measures.worst_errors import WorstErrors

    run = open_run(options.run)
    bootstrap = Bootstrap(options.resamples, options.seed, options.percent)
    names, is_single = run.input.class_names, run.input.task == SINGLE_LABEL
    if options.least_recall:  # a slip in it is told before the work
        check_one_class(run.input.task, "evaluate: --least-recall")
        parse_threshold(options.least_recall, names, "--least-recall")
    most = options.errors
    errors = WorstErrors(names, most) if is_single else LargestLosses(run.input, most)
    predict = _predict_elsewhere if options.source or options.on else _predict_split
    said = predict(run, options, errors)
    found = {"dataset": run.input.dataset, "data_fingerprint": run.fingerprint} | said.where
    decided = {"decision": _decide(run, options, said)} if options.least_recall else {}
    # From here on files are written: what fails before leaves no folder for train.results to read.
    found |= (_measure_classes if is_single else _measure_target)(run, said, bootstrap) | decided
    write_json(said.folder / TIMES_READ, {"times_read": times_read(said.folder) + 1})
    write_json(said.folder / "evaluation.json", found)
    errors.write(said.folder)
    print_summary(found, said.folder, said.called)
    lacking = [name for number, name in enumerate(names) if number not in said.labels]
    if lacking and is_single and "measured_on" in found:
        print(f"note: no example of {listed(lacking)}: what is undefined for a class stands as -")
    run.keep(said.folder)


def _predict_split(
    run: FinishedRun, options: argparse.Namespace, errors: WorstErrors
) -> _Predicted:
    """What a run says of a split of its own set; the largest of its `errors`."""
    from train.assembly.predictions import predict_split

    split = options.split or "validation"
    folder = run.path / f"evaluation-{split}"
    check_output(folder, "evaluate", "RUN", is_folder=True, mend=_COPY)
    print(f"{run.settings.model} of {run.place} on {run.input.dataset}, split {split}", flush=True)
    data, examples, probability = predict_split(
        run, split, options.data_dir, skip_damaged=options.on_corrupt == "skip"
    )
    errors.add_split(examples, probability)
    name = data.schema.group_name
    groups = examples.index.group[examples.numbers] if name else None
    where, labels = {"split": split}, examples.subset_labels
    return _Predicted(folder, where, f"split {split}", labels, probability, groups, name)


def _predict_elsewhere(
    run: FinishedRun, options: argparse.Namespace, errors: WorstErrors
) -> _Predicted:
    """The same of labelled files or of another set, as `train.predict` says it of the files."""
    from train.predict import predict_labelled
    from train.serving.labelled import make_reader

    source = options.source or options.on
    labelled, folder = _open_elsewhere(run, options)
    read = make_reader(run.input, labelled.targets.values(), options.map, source)
    print(f"{run.settings.model} of {run.place} on {source}", flush=True)
    labels, probability, kept, left_out = predict_labelled(run, labelled, read, errors)
    groups = None if labelled.groups is None else np.array([labelled.groups[n] for n in kept])
    where = {"measured_on": labelled.about | {"map": options.map, "left_out": left_out}}
    return _Predicted(folder, where, source, labels, probability, groups, labelled.group_name)


def _open_elsewhere(run: FinishedRun, options: argparse.Namespace) -> tuple[Labelled, Path]:
    """(what is measured on, the folder for what is found)."""
    from train.serving.labelled import open_other, read_labelled

    if options.source:
        called = options.source
        labelled = read_labelled(Path(called), run.input, options.column, options.label)
    else:
        skips = options.on_corrupt == "skip"
        labelled = open_other(run, options.on, options.split, options.data_dir, skips)
        called = re.sub(r"[/.]", "_", labelled.about["set"])
    folder = run.path / f"measured-{name_from_path(Path(called))}"
    check_output(folder, "evaluate", "RUN", is_folder=True, mend=_COPY)
    return labelled, folder


def _decide(run: FinishedRun, options: argparse.Namespace, said: _Predicted) -> dict[str, Any]:
    """What a threshold that validation chose does to the decisions."""
    from train.assembly.predictions import predict_split
    from train.measures.class_threshold import choose_threshold, measure_decision, parse_threshold

    wanted = parse_threshold(options.least_recall, run.input.class_names, "--least-recall")
    # Always on validation: a threshold chosen on the examples it is measured on would look too
    # good. --data-dir is that of the other set, with --on.
    data_dir, skips = None if options.on else options.data_dir, options.on_corrupt == "skip"
    _, chosen_on, of_them = predict_split(run, "validation", data_dir, skip_damaged=skips)
    limit = choose_threshold(of_them, chosen_on.subset_labels, *wanted)
    decided = measure_decision(limit, said.probability, said.labels)
    return {"least_recall": options.least_recall} | decided


def _measure_target(run: FinishedRun, said: _Predicted, bootstrap: Bootstrap) -> dict[str, Any]:
    """The figures of several classes at once, or of numbers, and a picture of them."""
    from train.measures.target_scores import make_measure, measure_target

    measure = make_measure(run.input, said.probability, said.labels)
    how = (bootstrap, said.groups, said.group_name)
    return measure_target(said.folder, run.input, measure, how)


def _measure_classes(run: FinishedRun, said: _Predicted, bootstrap: Bootstrap) -> dict[str, Any]:
    """The figures of one class each, and two pictures of them."""
    from sklearn.metrics import confusion_matrix

    from train.measures import plots, scores

    labels, probability, names = said.labels, said.probability, run.input.class_names
    # Examples of a group, such as an artist's songs, are alike: drawn one by one they would make
    # the intervals too narrow.
    ranges = scores.intervals(probability, labels, bootstrap, said.groups)
    confusion = confusion_matrix(labels, probability.argmax(1), labels=range(len(names)))
    bins = scores.calibration_bins(probability, labels)
    found = {
        "examples": len(labels),
        "metrics": scores.to_json(scores.score(probability, labels), names),
        "intervals": scores.to_json(ranges, names),
        "bootstrap": bootstrap.describe(said.groups, said.group_name, len(labels)),
        "confusion_matrix": confusion.tolist(),
        "calibration": {k: scores.to_json({k: v}, names)[k] for k, v in bins.items()},
    }
    title = said.where.get("split") or said.folder.name.removeprefix("measured-")
    said.folder.mkdir(exist_ok=True)
    for name, draw in {
        "confusion_matrix.png": lambda: plots.draw_confusion(confusion, names, title),
        "calibration.png": lambda: plots.draw_calibration(bins, title),
    }.items():
        plots.draw_safely(name, draw, functools.partial(write_atomically, said.folder / name))
    return found


if __name__ == "__main__":
    sys.exit(main())
