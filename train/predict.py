"""Command line: what a finished run says about rows of a CSV, pictures or texts.

    python -m train.predict RUN INPUT --output predictions.csv

What cannot be predicted is reported and left out. The exit code is 1 where nothing is left, with
--strict where anything was left out.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from records.system.command import run_as_command, with_home
from records.system.quiet import native_lines
from records.system.table_file import listed
from records.system.writing import as_text, check_output, write_atomically

if TYPE_CHECKING:
    from train.folders.finished_run import FinishedRun
    from train.folders.model_input import ModelInput
    from train.measures.class_threshold import Threshold
    from train.measures.worst_errors import WorstErrors
    from train.serving.labelled import Labelled

SEPARATOR = ";"  # of several classes at once
_BATCH = 64


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.predict",
        description="Predicts with a finished run: a CSV by a table's columns, a folder of "
        "pictures (or one), a text file of one text per line, a table with a column of texts, or "
        "a folder of *.txt files; of a converted set the same files as its build.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder")
    add("input", metavar="INPUT", help="what to predict")
    add("--output", default="predictions.csv", help="the CSV to write (default: predictions.csv)")
    add("--column", help="texts: the column of a table (default: the converted one, else text)")
    add("--strict", action="store_true", help="exit code 1 where anything is left out")
    add(
        "--threshold",
        metavar="CLASS=P",
        help="decide for this class from the probability P on, such as train.evaluate "
        "--least-recall finds",
    )
    return parser.parse_args(with_home(arguments))


def main(arguments: list[str] | None = None) -> int:
    """Predicts, writes and reports; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(
        lambda: predict(
            options.run,
            Path(options.input),
            Path(options.output),
            options.column,
            options.threshold,
            options.strict,
        )
    )


def predict(
    path: str | Path,
    source: Path,
    output: Path,
    column: str | None = None,
    threshold: str | None = None,
    strict: bool = False,
) -> int:
    """Predicts the items of `source`, writes `output` and reports what was left out.

    The columns of `output` are `input`, the name or the number of the item; `predicted`, a class;
    and `probability_<class>` for each class. Of several classes at once `predicted` has all that
    reach their thresholds, parted by ";"; of numbers there is `predicted_<name>` alone. With a
    threshold, "CLASS=P", that class is predicted where its probability is P at least.

    Returns:
      0, or 1 where no item could be predicted, and nothing is written, or where `strict` and one
      was left out.

    Raises:
      ValueError: no finished run, an input of another kind, an output that is the input, or a
        prediction that is not a number.
      OSError: there is no such input, or the output cannot be written.
    """
    from train.folders.finished_run import open_run
    from train.serving.read_inputs import read_raw

    check_output(output, "predict")
    check_not_read(output, source, Path(path))
    run = open_run(path)
    items = read_raw(source, run.input, column)
    unusable: list[tuple[str, str]] = []
    found = usable_items(items, run.input, unusable)
    pairs = ((name, value) for name, _, value in found)
    names, limit = run.input.class_names, _read_threshold(threshold, run.input)
    text, chosen = _write_table(predict_items(run, pairs), run.input, limit)
    count = len(chosen)
    total = count + len(unusable)
    if count:
        # At the end: the file appears whole or not at all.
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, text.encode())
        print(f"{output}: {count:,} of {total:,} predicted by {run.settings.model} of {run.place}")
        if run.input.task == SINGLE_LABEL:
            _print_accuracy(chosen, names, shlex.join([str(path), str(source)]))
    print_left_out(unusable, total)
    if not count:
        print(f"error: predict: {source}: nothing in it could be predicted", file=sys.stderr)
    return 1 if not count or (strict and unusable) else 0


def _read_threshold(threshold: str | None, wanted: ModelInput) -> Threshold | None:
    from train.measures.class_threshold import Threshold, parse_threshold
    from train.measures.target_metrics import check_one_class

    if not threshold:
        return None
    check_one_class(wanted.task, "predict: --threshold")
    return Threshold(*parse_threshold(threshold, wanted.class_names, "--threshold"))


def _write_table(
    items: Iterator[tuple[str, np.ndarray]], wanted: ModelInput, limit: Threshold | None
) -> tuple[str, list[tuple[str, str]]]:
    """(the CSV, the name and the class of each item in it)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names, chosen = wanted.class_names, list[tuple[str, str]]()
    shown_names = [as_text(name) for name in names]
    of_each = [f"probability_{name}" for name in names]
    if wanted.task == REGRESSION:
        writer.writerow(["input", *(f"predicted_{name}" for name in names)])
    else:
        writer.writerow(["input", "predicted", *of_each])
    for name, row in items:
        if wanted.task == REGRESSION:
            writer.writerow([as_text(name), *(f"{number:.15g}" for number in row)])
            chosen.append((name, ""))
            continue
        if wanted.task == MULTI_LABEL:
            reached = zip(shown_names, row, wanted.thresholds, strict=True)
            said = SEPARATOR.join(shown for shown, p, least in reached if p >= least)
            chosen.append((name, said))
        else:
            number = limit.decide(row[None])[0] if limit else row.argmax()
            said = shown_names[number]
            chosen.append((name, names[number]))
        writer.writerow([as_text(name), said, *(f"{p:.8f}" for p in row)])
    return text.getvalue(), chosen


def _print_accuracy(chosen: list[tuple[str, str]], names: tuple[str, ...], both: str) -> None:
    """Of a folder whose folders are classes: how many items are of the one that was predicted.

    `chosen` are name and class of each item; `both` are run and folder, as a shell takes them.
    """
    pairs = [(name.split("/")[0], found) for name, found in chosen if "/" in name]
    folders = {folder for folder, _ in pairs}
    if not folders & set(names):
        return
    measure = f"python -m train.evaluate {both}"
    if others := sorted(folders - set(names)):
        pairs_of_flag = shlex.join(f"{name}={names[0]}" for name in others)
        print(
            f"no class of the run: the folders {listed(others)}. To measure, say what they are: "
            f"{measure} --map {pairs_of_flag}"
        )
        return
    right = sum(folder == found for folder, found in pairs)
    print(
        f"accuracy {right / len(pairs):.4f}: {right:,} of {len(pairs):,} are of the class that "
        f"their folder names. More: {measure}"
    )


def usable_items(
    items: Iterable[tuple[str, Any]], wanted: ModelInput, unusable: list[tuple[str, str]]
) -> Iterator[tuple[str, Any, np.ndarray]]:
    """(name, as it was read, input of the model) of each item that can be predicted.

    `items` are those of `train.serving.read_inputs.read_raw`. The name of any other, and why, is
    added to `unusable`. What libraries in C say of a picture is printed with its name.

    Raises: as `items` do, and `train.serving.read_inputs.make_preparation`.
    """
    from train.serving.read_inputs import Unusable, make_preparation

    prepare = make_preparation(wanted)
    for name, raw in items:
        with native_lines() as said:
            value = raw if isinstance(raw, Unusable) else prepare(raw)
        if isinstance(value, Unusable):
            unusable.append((name, value.reason))
            continue
        for line in said:  # libjpeg and libpng name no file
            print(f"{shown(name)}: {line}", file=sys.stderr)
        yield name, raw, value


def print_left_out(unusable: list[tuple[str, str]], total: int) -> None:
    """Says which items could not be predicted, and why."""
    if unusable:
        print(f"{len(unusable):,} of {total:,} were left out:")
        for name, reason in unusable:
            print(f"  {shown(name)}: {reason}")


def check_not_read(output: Path, source: Path, run: Path) -> None:
    """Raises ValueError where writing `output` would replace `source` or a file of the run."""
    own = [path for path in run.glob("*") if path.suffix != ".csv" or path.name == "history.csv"]
    for read, what in (
        (source, "the input itself"),
        *((path, "a file of the run") for path in own),
    ):
        if output.is_file() and read.exists() and output.samefile(read):
            raise ValueError(
                f"predict: --output {output} is {what}, which would be lost. Choose another "
                "--output, such as --output predicted.csv"
            )


def shown(name: str) -> str:
    """A name in one line: what would move a terminal's cursor stands as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def predict_items(
    run: FinishedRun, items: Iterator[tuple[str, np.ndarray]]
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, what `FinishedRun.say` gives float64 [C]) of each (name, input of the model)."""
    from train.serving.read_inputs import pad

    call: Any = None
    while batch := list(itertools.islice(items, _BATCH)):
        call = call or run.make_call()  # an input of another kind is an error before the model
        outputs = call(pad([value for _, value in batch])).numpy()
        for (name, _), row in zip(batch, run.say(outputs), strict=True):
            if not np.isfinite(row).all():
                what = "numbers" if run.input.task == REGRESSION else "probabilities"
                raise ValueError(
                    f"predict: {shown(name)}: expected {what}, received {row.tolist()}. "
                    "The model's weights or this input lead to numbers beyond its range: train "
                    "again with --clip-norm 1, or leave this input out"
                )
            yield name, row


def predict_labelled(
    run: FinishedRun, labelled: Labelled, read: Callable[[Any], Any], errors: WorstErrors
) -> tuple[np.ndarray, np.ndarray, list[str], dict[str, int]]:
    """What a run says about the examples that have a target, and how many were left out.

    Args:
      read: of `train.serving.labelled.make_reader`.

    Returns:
      Labels int [n] or [n, C], probabilities or numbers float64 [n, C], names, counts by reason.

    Raises:
      ValueError: there is none.
    """
    unusable: list[tuple[str, str]] = []
    values: dict[str, tuple[Any, np.ndarray]] = {}

    def usable() -> Iterator[tuple[str, np.ndarray]]:
        for name, raw, value in usable_items(labelled.items, run.input, unusable):
            values[name] = raw, value
            yield name, value

    labels, rows, kept, left_out = [], [], [], Counter[str]()
    # All of them, so that batches, and with them the last bits, are those of train.predict.
    for name, row in predict_items(run, usable()):
        raw, value = values.pop(name)
        of = labelled.target_of(name)
        label = None if of is None else read(of)
        if label is None:
            left_out[labelled.no_target if of is None else f"--map {of}="] += 1
            continue
        errors.add(name, label, row, raw, value)
        labels.append(label)
        rows.append(row)
        kept.append(name)
    print_left_out(unusable, len(unusable) + len(labels) + left_out.total())
    for reason, count in left_out.items():
        print(f"left out: {count:,} ({reason})")
    # One with no file in it is told, too.
    found_in = {labelled.target_of(name) for name in (*kept, *(name for name, _ in unusable))}
    folders = labelled.targets.values() if labelled.is_folder else ()
    if empty := sorted({str(of) for of in folders if read(of) is not None} - found_in):
        print(f"note: nothing in {listed(empty)}")
    if unusable:
        left_out["cannot be read"] = len(unusable)
    if not labels:
        raise ValueError(
            f"evaluate: {labelled.about} expected examples with a class, received none"
        )
    return np.array(labels), np.stack(rows), kept, dict(left_out)


if __name__ == "__main__":
    sys.exit(main())
