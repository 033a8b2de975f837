"""Command line: a table, pictures or texts as a prepared set, without a builder of one's own.

    python -m builders.convert adult.csv --name adult --data_dir data
    python -m builders.convert photos --name photos --data_dir data --max_side 1024
    python -m builders.convert reviews.jsonl --data_dir data --text review --label stars

It prints what it found before it writes; --dry_run writes nothing.
"""

import argparse
import contextlib
import dataclasses
import io
import re
import shlex
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from builders.convert.source import KINDS, Conversion, Options
from records.decoding.picture_files import MAX_SIDE
from records.decoding.table_columns import parse_number
from records.sets.find import (
    default_data_dir,
    default_place,
    describe_place,
    is_run_folder,
    name_from_path,
    sets_below,
)
from records.sets.origin import make_origin
from records.sets.target import TASKS
from records.stores.address import is_address, parse_output
from records.system.command import run_as_command, with_home
from records.system.places import check_local

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SHOWN = 30  # classes
_HOW = ("source", "overwrite", "dry_run", "beam_pipeline_options")  # no part of what is made
_FEWEST_SIDE = 16


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m builders.convert",
        description="Makes a prepared set of a table (CSV, TSV, JSON lines, Parquet), of pictures "
        "or of texts (a folder for each class, or <split>/<class>; or a table that names them). "
        "Flags may be written with - or with _.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a file or a folder")
    add("--name", help="the set's name: a-z, 0-9 and _ (default: made of the path)")
    add("--data_dir", help="where prepared sets lie (default: as train.run)")
    add("--overwrite", action="store_true", help="replace a set of that name")
    add("--dry_run", action="store_true", help="print what is found, and write nothing")
    add("--kind", choices=KINDS, help="what SOURCE holds (default: guessed)")
    add("--group", metavar="COLUMN", help="its equal values stay in one split (a patient)")
    add("--split", metavar="COLUMN", help="names the split: train, validation or test")
    several = {"nargs": "+", "action": "extend", "default": []}
    text = "the column of the classes, or the columns of the numbers to predict (default: guessed)"
    add("--label", metavar="COLUMN", help=text, **several)  # type: ignore[arg-type]
    text = "one class, several classes at once (a list in a cell, or columns of 0 and 1), numbers"
    add("--task", choices=TASKS, help=f"{text} (default: guessed)")
    add("--drop", metavar="COLUMN", help="leave columns out", **several)  # type: ignore[arg-type]
    for kind in ("numeric", "categorical"):
        add(f"--{kind}", metavar="COLUMN", help=f"columns that are {kind}", **several)  # type: ignore[arg-type]
    add("--missing", metavar="TEXT", help="more spellings of a missing value", **several)  # type: ignore[arg-type]
    add("--text", metavar="COLUMN", help="the column of texts to train on, alone")
    add("--path_column", metavar="COLUMN", help="the column that names the pictures' files")
    parts = (",", ";", "tab", "|")
    add("--separator", choices=parts, help="what parts the columns (default: guessed)")
    add("--test_share", type=float, default=0.2, help="share of the split test (default: 0.2)")
    add("--max_side", type=int, metavar="N", help="scale larger pictures down to N pixels")
    text = "files that cannot be read: stop and name them, or leave them out"
    add("--on_corrupt", choices=("error", "skip"), default="error", help=text)
    text = "runner and options, parted by commas as in `tfds build`: convert on Apache Beam"
    add("--beam_pipeline_options", metavar="OPTIONS", help=text)
    found = parser.parse_args(_normalise(with_home(arguments)))
    if found.beam_pipeline_options and found.dry_run:
        parser.error("--beam_pipeline_options expected without --dry_run, which writes nothing")
    if not 0 <= found.test_share < 1:
        parser.error(f"--test_share expected a share in [0, 1), received {found.test_share}")
    if found.max_side is not None and not _FEWEST_SIDE <= found.max_side <= MAX_SIDE:
        parser.error(f"--max_side expected {_FEWEST_SIDE} to {MAX_SIDE}, received {found.max_side}")
    found.name = found.name or name_from_path(Path(found.source))
    if not _NAME.fullmatch(found.name):
        parser.error(f"--name expected a-z, 0-9 and _, a letter first, received {found.name!r}")
    return found


def _normalise(arguments: list[str]) -> list[str]:
    """`--data-dir` as `--data_dir`."""
    found = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        is_flag = name.startswith("--")
        found.append((f"--{name[2:].replace('-', '_')}" if is_flag else name) + equals + value)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Converts; returns the exit code."""
    asked = parse_arguments(arguments)
    kinds = (ValueError, OSError, RuntimeError)
    return run_as_command(lambda: convert(asked), errors=kinds)


def convert(asked: argparse.Namespace) -> None:
    """Reads the source, prints what is in it and writes the set.

    Raises:
      ValueError: it cannot be understood, or a set of that name is there.
      OSError: the source cannot be read, or the data folder cannot be written.
      RuntimeError: another build of the set is running.
    """
    from builders.convert.kinds import read_source
    from records.verify.upload import check_free

    check_local(asked.source, "SOURCE")
    source, place = Path(asked.source), default_place(asked.data_dir)
    if source.is_dir() and (is_run_folder(source) or sets_below(source)):
        raise ValueError(
            f"convert: {source} expected files to make a set of, received {describe_place(source)}"
        )
    if (Path(__file__).parents[1] / asked.name).is_dir():
        raise ValueError(f"convert: --name {asked.name} is taken by a builder. Choose another one")
    # Before the source is read, which may take long.
    replaces = asked.overwrite or asked.dry_run
    if is_address(place):
        check_free(parse_output(place, "--data_dir") / f"{asked.name}/1.0.0", overwrite=replaces)
    else:
        check_local(place, "--data_dir", is_output=True)
        place = str(default_data_dir(place))
    final = Path(place) / asked.name / "1.0.0"
    if final.is_dir() and not replaces:
        raise ValueError(
            f"convert: {final} is there already. To replace it: --overwrite; to keep it, choose "
            "another --name"
        )
    values: dict[str, Any] = dict(vars(asked))
    names = {field.name for field in dataclasses.fields(Options)}
    values["separator"] = "\t" if asked.separator == "tab" else asked.separator
    options: dict[str, Any] = {
        n: tuple(v) if isinstance(v, list) else v for n, v in values.items() if n in names
    }
    with _workers(asked, _here(place) / asked.name / "1.0.0") as workers:
        # Workers may have another working directory.
        read_from = source.absolute() if workers else source
        found = read_source(read_from, Options(**options), workers)
    print("\n".join([*found.findings, *_summary(found)]), flush=True)
    if asked.test_share and asked.group and "test" not in found.split_counts():
        print(
            "warning: no split test: a group stays whole, and they are too few to cut", flush=True
        )
    if not asked.dry_run:
        _write(asked, found, source, place)


def _here(place: str) -> Path:
    """The data folder of this machine in which the sets of `place` are built."""
    from builders import storage

    return (
        storage.local_copy(parse_output(place, "--data_dir")) if is_address(place) else Path(place)
    )


@contextlib.contextmanager
def _workers(asked: argparse.Namespace, final: Path) -> Iterator[Any]:
    """The `BeamRun` that reads, or None for this machine."""
    if not asked.beam_pipeline_options:
        yield None
        return
    from builders.on_beam import BeamRun

    # A build removes folders of that name, should this one be killed.
    folder = final.with_name(f"incomplete.{uuid.uuid4().hex.upper()}_{final.name}")
    try:
        with BeamRun(_request(asked), folder) as workers:
            yield workers
    finally:
        with contextlib.suppress(OSError):  # it holds another set, or leftovers
            final.parent.rmdir()


def _request(asked: argparse.Namespace) -> Any:
    import tensorflow_datasets as tfds

    from builders.build_request import beam_options

    options = asked.beam_pipeline_options
    return tfds.download.DownloadConfig(
        download_mode=tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS,
        beam_options=beam_options(options) if options else None,
    )


def _write(asked: argparse.Namespace, found: Conversion, source: Path, place: str) -> None:
    import tensorflow_datasets as tfds

    from builders import storage
    from builders.convert.converted_set import ConvertedSet

    # What may be damaged there, before the builder reads it; and what could not be uploaded.
    if asked.overwrite or is_address(place):
        storage.GuardedPath(_here(place) / asked.name / "1.0.0").rmtree(missing_ok=True)
    builder = ConvertedSet(asked.name, found, make_origin(source, _flags(asked)), data_dir=place)
    # In a log each state of a bar would be a line among the findings; and nothing is downloaded.
    tfds.display_progress_bar(sys.stderr.isatty())
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_config=_request(asked))
    again = shlex.join(["--dataset", asked.name, "--data-dir", place])
    print(f"{builder.address or builder.data_dir} is prepared. Train: python -m train.run {again}")


def _alike(names: Iterable[str]) -> str:
    """Classes that differ in capitals only, or in how a number is written."""
    found: dict[object, list[str]] = {}
    for name in names:
        number = parse_number(name)
        found.setdefault(name.casefold() if number is None else number, []).append(name)
    return ", ".join(repr(name) for same in found.values() if len(same) > 1 for name in same)


def _flags(asked: argparse.Namespace) -> list[str]:
    """The flags that make the same set again, for `--overwrite`; the source comes first."""
    out = [asked.source]
    for name, value in vars(asked).items():
        if name in _HOW or value in (None, []):
            continue
        out += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return out


def _summary(found: Conversion) -> list[str]:
    """Classes, splits and what was left out."""
    counts = found.count_classes()
    shown = sorted(counts, key=lambda name: -counts[name])[:_SHOWN]
    width = max(map(len, shown), default=0)
    lines = [f"{len(counts):,} classes"] if counts else _number_lines(found)
    lines += [f"  {name:<{width}}  {counts[name]:,}" for name in shown]
    if len(counts) > len(shown):
        lines.append(f"  ... and {len(counts) - len(shown):,} more")
    if alike := _alike(counts):
        lines.append(f"warning: written differently, taken for different classes: {alike}")
    groups = {(e.group, e.split) for e in found.examples if e.group is not None}
    whole = len({group for group, _ in groups})
    if groups and whole == len(groups):
        lines.append(f"{whole:,} groups, each in one split")
    elif groups:
        lines.append(f"warning: {len(groups) - whole:,} of {whole:,} groups are in several splits")
    splits = found.split_counts()
    lines.append("splits: " + ", ".join(f"{name} {n:,}" for name, n in splits.items()))
    train = found.of_split("train").count_classes()
    if lacking := [name for name in counts if name not in train]:
        lines.append(f"warning: split train holds no example of {', '.join(lacking[:_SHOWN])}")
    lines += [f"left out: {count:,} ({reason})" for reason, count in found.dropped.items()]
    return lines


def _number_lines(found: Conversion) -> list[str]:
    """The range of each number that is to be predicted."""
    columns = zip(*(example.label for example in found.examples), strict=True)
    return [
        f"number {name}: {min(values):.10g} to {max(values):.10g}, "
        f"mean {sum(values) / len(values):.10g}"
        for name, values in zip(found.class_names, columns, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
