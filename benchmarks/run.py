"""Command line: which questions, which sets, how long; a table and a JSON file come out.

python -m benchmarks.run --quick
python -m benchmarks.run --suite input --dataset fetal_health --data-dir FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.child import ChildError
from records.quiet import import_tensorflow_quietly
from train.config import normalise_flags

if TYPE_CHECKING:
    from benchmarks.timing import Comparison

# The parts of each suite, in the order they run.
SUITES = {
    "input": ("readers", "peers", "engine", "accelerators", "growth"),
    "train": ("fit", "step", "target", "scaling"),
    "build": ("builders",),
}
# Module and function of each part: (work, effort, progress) -> comparisons. Imported when asked
# for, because they import TensorFlow.
PARTS = {
    "readers": ("benchmarks.input", "measure_input"),
    "peers": ("benchmarks.libraries", "measure_libraries"),
    "engine": ("benchmarks.engine", "measure_engine"),
    "accelerators": ("benchmarks.accelerators", "measure_accelerators"),
    "growth": ("benchmarks.growth", "measure_growth"),
    "fit": ("benchmarks.training", "measure_training"),
    "step": ("benchmarks.steps", "measure_steps"),
    "target": ("benchmarks.target", "measure_target"),
    "scaling": ("benchmarks.scaling", "measure_scaling"),
    "builders": ("benchmarks.builders", "measure_builders"),
    "choices": ("benchmarks.choices", "measure_choices"),
}
_DATASETS = "fetal_health brain_tumor_mri song_lyrics"
_OUTPUT = Path(__file__).resolve().parent / "results" / "latest.json"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Measures this system beside tfds.load and Keras fit on the same data in the "
        "same run, prints a table with ratios and writes every repetition as JSON.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--suite",
        choices=(*SUITES, "all", *PARTS),
        default="all",
        help="which questions, or one part of a suite by its name; choices, the table behind "
        "`auto`, belongs to no suite (default: all)",
    )
    add("--quick", action="store_true", help="short repetitions, small parts of the large sets")
    add("--data-dir", metavar="FOLDER", help="where prepared sets lie (default: as tfds)")
    add(
        "--dataset",
        nargs="+",
        metavar="NAME",
        default=_DATASETS.split(),
        help="name[/config] or prepared directory, several with spaces or commas; a bare name of "
        "ours means kaggle where that is prepared, else synthetic (default: the three sets)",
    )
    add("--repeats", type=int, metavar="N", help="repetitions per system (default: 5; quick: 3)")
    add("--output", metavar="FILE", type=Path, default=_OUTPUT, help=f"default: {_OUTPUT.name}")
    found = parser.parse_args(normalise_flags(arguments))
    found.dataset = [name for value in found.dataset for name in value.split(",") if name]
    if found.repeats is not None and found.repeats < 1:
        parser.error(f"--repeats expected 1 or more, received {found.repeats}")
    if not found.dataset:
        parser.error("--dataset expected at least one name")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs what the flags ask for; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(given)
    try:
        check_output(options.output)
        import_tensorflow_quietly()
        run(options, given)
    except (ValueError, OSError, ChildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace, arguments: list[str]) -> list[Comparison]:
    """Measures, prints the table and writes the JSON file."""
    # TFDS warns of its own deprecated attribute at every partial decoding.
    logging.getLogger("absl").setLevel(logging.ERROR)
    # Not at module top: they import TensorFlow, which `main` does first, and quietly.
    from benchmarks import table, timing, work

    started = time.perf_counter()
    environment = timing.describe_environment()
    effort = work.QUICK if options.quick else work.FULL
    if options.repeats is not None:
        effort = dataclasses.replace(effort, repetitions=options.repeats)
    works = [work.open_work(work.choose_set(n, options.data_dir)) for n in options.dataset]
    comparisons: list[Comparison] = []
    measures = {part: _measure_function(part) for part in choose_parts(options.suite)}
    for one in works:
        progress = _progress(one.schema.name, started)
        for measure in measures.values():
            with work.view(one) as fresh:
                comparisons += measure(fresh, effort, progress)
    seconds = time.perf_counter() - started
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(f"\n{table.format_tables(comparisons)}")
    for note in _notes(environment, works, comparisons):
        print(note)
    content = {
        "format": 1,
        "arguments": arguments,
        "effort": dataclasses.asdict(effort),
        "environment": environment,
        "seconds": seconds,
        "comparisons": [c.to_dict() for c in comparisons],
    }
    write_json(options.output, content)
    print(f"{seconds:.0f} s in all. Every repetition: {options.output}")
    return comparisons


def choose_parts(suite: str) -> list[str]:
    """The parts that a suite, `all` or the name of a part stands for."""
    if suite in PARTS:
        return [suite]
    return [part for name in SUITES if suite in (name, "all") for part in SUITES[name]]


def _measure_function(part: str) -> Callable[..., list[Comparison]]:
    module, function = PARTS[part]
    return getattr(importlib.import_module(module), function)


def _notes(environment: dict[str, Any], works: list[Any], found: list[Comparison]) -> list[str]:
    """What must be said beside the table."""
    hardware = ", ".join(environment["gpus"]) or "no GPU"
    versions = environment["versions"]
    notes = [
        f"{environment['processor']}, {environment['processors']} processors, {hardware}; "
        f"TensorFlow {versions['tensorflow']}, Keras {versions['keras']}, TFDS "
        f"{versions['tensorflow-datasets']}, commit {versions['commit']}"
    ]
    generated = [w.schema.name for w in works if w.schema.metadata.get("generated")]
    if generated:
        notes.append(f"Generated data: {', '.join(generated)}.")
    noisy = sum(c.noisy for c in found)
    if noisy:
        notes.append(f"This run was noisy in {noisy} of {len(found)} questions.")
    return notes + [note for note in (environment["busy"],) if note]


def _progress(name: str, started: float) -> Callable[[str], None]:
    """Shows what runs now: a line that is rewritten on a terminal, else one per question."""
    previous = ""

    def show(text: str) -> None:
        nonlocal previous
        line = f"[{time.perf_counter() - started:4.0f} s] {name}: {text}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            return
        step = text.rpartition(":")[0] or text
        if step != previous:  # one line per question, not one per repetition
            print(line, file=sys.stderr, flush=True)
        previous = step

    return show


def check_output(file: Path) -> None:
    """Raises OSError, before minutes are spent, if the result could not be written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise OSError(
            f"benchmarks/run: --output expected a file in a folder that can be written, received "
            f"{file}"
        )


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Writes the file atomically."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, file)


if __name__ == "__main__":
    sys.exit(main())
