"""Builds the generated sets, trains a model on each and prints one summary.

    python -m train.demo --data-dir data --run-dir runs/demo

`make demo` is `benchmarks.demo`, which adds a short comparison with other libraries.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from records.system.command import run_as_command
from train.commands import (
    SETS,
    CommandError,
    prepare_synthetic_sets,
    python_command,
    run_command,
)
from train.settings.flags import normalise_flags

# Long enough to learn the generated sets, short enough for two processors: the epochs of a full
# training are far more (see MODALITY_DEFAULTS in train.settings.defaults).
_SHORT = {
    "fetal_health": ("--epochs", "20"),
    # Of 224 pixels the features of the backbone alone take 20 s.
    "brain_tumor_mri": ("--epochs", "30", "--image-size", "96"),
    "song_lyrics": ("--epochs", "4", "--sequence-length", "64"),
}


def make_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser of the demo's flags, for `python -m module`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, allow_abbrev=False
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="prepared sets (default: data)"
    )
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=Path("runs/demo"),
        help="folder of the run folders; those of an earlier demo are replaced "
        "(default: runs/demo)",
    )
    return parser


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = make_parser("train.demo", "Builds generated sets and trains a model on each.")
    return parser.parse_args(normalise_flags(arguments))


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo; returns the exit code: 0 only if every command worked."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return demonstrate(options.data_dir, options.run_dir)


def demonstrate(data_dir: Path, run_dir: Path, compare: Callable[[], list[str]] = list) -> int:
    """Builds, trains and prints the summary; returns the exit code.

    `compare` runs after the trainings, and gives more lines for the summary.
    """

    def work() -> None:
        start = time.perf_counter()
        print("All data of this demo are GENERATED: its figures say nothing about the real tasks.")
        prepare_synthetic_sets(data_dir, run_dir / "logs" / "build.log")
        for name in SETS:
            _train(name, data_dir, run_dir)
        print("\n".join(summary_lines(run_dir, compare())))
        print(f"demo finished in {time.perf_counter() - start:.0f} s")

    return run_as_command(
        work,
        errors=(CommandError, OSError, ValueError),
        interrupted="\ndemo interrupted; the same command begins again",
        tensorflow=False,  # only the forks that it starts need it
    )


def _train(name: str, data_dir: Path, run_dir: Path) -> None:
    """Trains one model in a fresh run folder."""
    folder = run_dir / name
    # Only a run folder is removed, whatever --run-dir was set to; train.run refuses others.
    if (folder / "config.json").exists():
        shutil.rmtree(folder)
    flags = ["--dataset", f"{name}/synthetic", "--data-dir", str(data_dir)]
    flags += ["--model", SETS[name], "--strategy", "mirrored", *_SHORT[name]]
    # Two replicas also without GPUs; where there are GPUs, they are used and this is ignored.
    # --evaluate-test: the data are generated, so nothing is used up by reading test.
    flags += ["--cpu-devices", "2", "--run-dir", str(folder), "--evaluate-test"]
    command = python_command("train.run", *flags)
    title, log = f"training {SETS[name]} on {name}/synthetic", run_dir / "logs" / f"{name}.log"
    run_command(title, command, log, fork=True)


def summary_lines(run_dir: Path, comparisons: Sequence[str] = ()) -> list[str]:
    """The summary, read from the run folders; with the lines of `comparisons`."""
    runs = {name: _read_run(run_dir / name) for name in SETS}
    lines = ["", "Generated data (not the real sets), short training", ""]
    head = f"{'set, model':36}{'validation':>20}{'test':>20}{'examples/s':>12}"
    lines += [head, f"{'':36}{'accuracy        F1':>20}{'accuracy        F1':>20}"]
    for name, (found, rate) in runs.items():
        cells = "".join(
            f"{found[r]['accuracy']:12.3f}{found[r]['weighted_f1']:8.3f}"
            for r in ("validation", "test")
        )
        lines.append(f"{f'{name}, {SETS[name]}':36}{cells}{rate:12,.0f}")
    lines += ["", f"{'where the time went':36}{'setup':>9}{'input':>9}{'steps':>9}{'rest':>9}"]
    for name, (found, _) in runs.items():
        seconds = found["seconds"]
        cells = "".join(f"{seconds[k]:7.2f} s" for k in ("setup", "input", "step", "rest"))
        share = f"   waited for input {100 * found['input_share']:.1f} % of input + steps"
        lines.append(f"{f'{name}, {SETS[name]}':36}{cells}{share}")
    first = next(iter(runs.values()))[0]
    lines += ["", f"devices: {', '.join(first['devices'])}; {first['strategy']}"]
    lines += [
        "examples/s: median of the epochs after the first; setup: opening, decoding, features of",
        "the frozen backbone; steps: tracing included; rest: validation and files of each epoch",
    ]
    lines += [*comparisons, "", "figures"]
    for name in SETS:
        folder = run_dir / name
        lines += [f"  {folder / 'curves.png'}", f"  {folder / 'confusion_matrix.png'}"]
    tensorboard = os.path.relpath(Path(sys.executable).with_name("tensorboard"))
    lines += ["", f"more: {tensorboard} --logdir {run_dir}", "real data: README.md"]
    return lines


def _read_run(folder: Path) -> tuple[dict[str, Any], float]:
    """A finished run's `metrics.json` and its median examples/s."""
    for figure in ("curves.png", "confusion_matrix.png"):
        if not (folder / figure).exists():
            raise ValueError(f"demo: {folder} expected {figure}, which is missing")
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        rates = [float(row["examples_per_s"]) for row in csv.DictReader(file)]
    # The first epoch holds tracing and compiling.
    return found, statistics.median(rates[1:] or rates)


if __name__ == "__main__":
    sys.exit(main())
