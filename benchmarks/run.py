"""Command line: which questions, which sets, how long; tables, a JSON file and a report come out.

python -m benchmarks.run --quick
python -m benchmarks.run --suite input --dataset fetal_health --data-dir FOLDER
"""

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

from benchmarks.measuring.child import ChildError
from records.system.command import run_as_command
from records.system.quiet import import_tensorflow_quietly
from records.system.writing import check_output
from train.settings.flags import normalise_flags

# The parts of each suite, in the order they run.
SUITES = {
    "input": ("readers", "peers", "engine", "limits", "accelerators", "growth"),
    "train": ("fit", "step", "target", "folds", "scaling", "own_model"),
    "build": ("builders",),
}
# Module and function of each part: (work, effort, progress) -> comparisons. Imported when asked
# for, because they import TensorFlow.
PARTS = {
    "readers": ("benchmarks.input.readers", "measure_input"),
    "peers": ("benchmarks.input.libraries", "measure_libraries"),
    "engine": ("benchmarks.input.engine", "measure_engine"),
    "limits": ("benchmarks.input.limits", "measure_limits"),
    "accelerators": ("benchmarks.input.accelerators", "measure_accelerators"),
    "growth": ("benchmarks.input.growth", "measure_growth"),
    "fit": ("benchmarks.training.fit", "measure_training"),
    "step": ("benchmarks.training.steps", "measure_steps"),
    "target": ("benchmarks.training.target", "measure_target"),
    "folds": ("benchmarks.training.folds", "measure_folds"),
    "scaling": ("benchmarks.training.scaling", "measure_scaling"),
    "own_model": ("benchmarks.training.own_model", "measure_own_model"),
    "builders": ("benchmarks.build.builders", "measure_builders"),
    "choices": ("benchmarks.training.choices", "measure_choices"),
}
_DATASETS = "fetal_health brain_tumor_mri song_lyrics"
_FOLDER = Path(__file__).resolve().parent
_OUTPUT = _FOLDER / "results" / "latest.json"
_REQUIREMENTS = _FOLDER / "peers" / "requirements"


def _make_parser() -> argparse.ArgumentParser:
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
    add(
        "--peers",
        nargs="+",
        metavar="NAME",
        default=["all"],
        help="which libraries of benchmarks/peers/requirements are started, by the file's name "
        "without .txt: all that are installed, none, or some (default: all)",
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
    add("--repeats", type=int, metavar="N", help="repetitions per system (default: 5; quick: 2)")
    add(
        "--output",
        metavar="FILE",
        type=Path,
        default=_OUTPUT,
        help="the JSON file; the report lies beside it, with the ending .html; until the end the "
        f"finished parts are in FILE.partial (default: {_OUTPUT.name} of benchmarks/results)",
    )
    add(
        "--step-ms",
        nargs="+",
        type=float,
        metavar="MS",
        default=[],
        help="also emulate accelerators that take these milliseconds a batch of 256",
    )
    return parser


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = _make_parser()
    found = parser.parse_args(normalise_flags(arguments))
    found.dataset = [name for value in found.dataset for name in value.split(",") if name]
    try:
        found.peers = choose_peers([n for value in found.peers for n in value.split(",") if n])
    except ValueError as error:
        parser.error(str(error))
    if found.repeats is not None and found.repeats < 1:
        parser.error(f"--repeats expected 1 or more, received {found.repeats}")
    if found.output.suffix == ".html":
        parser.error(f"--output expected the JSON file, not the report's, received {found.output}")
    if not all(0 < ms < float("inf") for ms in found.step_ms):
        parser.error(f"--step-ms expected milliseconds above 0, received {found.step_ms}")
    if not found.dataset:
        parser.error("--dataset expected at least one name")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs what the flags ask for; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(given)
    partial = options.output.with_name(f"{options.output.name}.partial")

    def work() -> int:
        check_output(options.output, "benchmark")
        partial.unlink(missing_ok=True)  # of an earlier run
        import_tensorflow_quietly()
        try:
            return run(options, given)
        except KeyboardInterrupt:
            if not partial.exists():
                raise
            said = f"interrupted; the finished parts are in {partial}"
            raise KeyboardInterrupt(said) from None

    return run_as_command(
        work,
        errors=(ValueError, OSError, ChildError),
        interrupted="interrupted; nothing was written",
        tensorflow=False,  # the cheap checks come first
    )


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Measures, prints the tables, writes the JSON file and the report; 1 if a part failed."""
    # TFDS warns of its own deprecated attribute at every partial decoding.
    logging.getLogger("absl").setLevel(logging.ERROR)
    # Not at module top: they import TensorFlow, which `main` does first, and quietly.
    from benchmarks import report
    from benchmarks.measuring import result_file, session, work
    from benchmarks.measuring.environment import describe_environment
    from benchmarks.reports import table

    found_here = describe_environment()  # before anything of ours loads the machine
    effort = dataclasses.replace(
        work.QUICK if options.quick else work.FULL, peers=options.peers, skipped=[]
    )
    if options.repeats is not None:
        effort = dataclasses.replace(effort, repetitions=options.repeats)
    effort = dataclasses.replace(effort, step_ms=tuple(options.step_ms))
    works = [work.open_work(work.choose_set(n, options.data_dir)) for n in options.dataset]
    parts = choose_parts(options.suite)
    settings = dataclasses.asdict(effort)
    settings.pop("skipped")  # has a place of its own, with the part that said so
    header = {"arguments": arguments, "effort": settings, "environment": found_here}
    found = session.Session(options.output, header, pairs=len(works) * len(parts))
    for one in works:
        for part in parts:
            found.measure(part, PARTS[part], one, effort)
    found.end_progress()
    content = found.finish()
    print(f"\n{table.format_tables(found.comparisons)}")
    if generated := [w.schema.name for w in works if w.schema.metadata.get("generated")]:
        print(f"Generated data: {', '.join(generated)}.")
    print(*table.format_notes(found.comparisons, content), sep="\n")
    page = options.output.with_suffix(".html")
    result = result_file.Result(options.output, found.comparisons, content)
    result_file.write_text(page, report.format_page(result))
    print(f"{found.seconds:.0f} s in all. Every repetition: {options.output}; plots: {page}")
    return 1 if found.failures else 0


def choose_parts(suite: str) -> list[str]:
    """The parts that a suite, `all` or the name of a part stands for."""
    if suite in PARTS:
        return [suite]
    return [part for name in SUITES if suite in (name, "all") for part in SUITES[name]]


def known_peers() -> list[str]:
    """Names of the peers that have an environment of their own."""
    return sorted(file.stem for file in _REQUIREMENTS.glob("*.txt"))


def choose_peers(names: list[str]) -> tuple[str, ...] | None:
    """What `--peers` stands for: None is every installed one, () is none.

    Raises:
      ValueError: a name that is not known, or `all` or `none` beside others.
    """
    if names in (["all"], ["none"]):
        return None if names == ["all"] else ()
    wrong = [name for name in names if name not in known_peers()]
    if wrong or not names:
        raise ValueError(
            f"--peers expected all, none, or some of {', '.join(known_peers())}; received "
            f"{', '.join(wrong) or 'nothing'}"
        )
    return tuple(names)


if __name__ == "__main__":
    sys.exit(main())
