"""`make demo`: the demo of `train.demo`, and a short comparison with other libraries.

python -m benchmarks.demo --data-dir data --run-dir runs/demo
"""

import argparse
import json
import sys
from pathlib import Path

from train.commands import python_command, run_command
from train.demo import demonstrate, make_parser
from train.settings.flags import normalise_flags

# Beside `tfds.load` and Keras `fit` alone: all suites take minutes. Suite -> (file of its result,
# set).
_SUITES = {
    "readers": ("benchmarks.json", "brain_tumor_mri/synthetic"),
    "fit": ("benchmarks-fit.json", "fetal_health/synthetic"),
}
# Questions that one short repetition answers. Of an epoch from a cache, which takes some
# milliseconds, ratios of a third of the real one were seen.
_ANSWERED = ("cold epoch", "first batch", "mlp, batch 32")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = make_parser(
        "benchmarks.demo", "Builds generated sets, trains a model on each and benchmarks briefly."
    )
    parser.add_argument(
        "--benchmarks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare briefly with tfds.load and Keras fit (default: on)",
    )
    return parser.parse_args(normalise_flags(arguments))


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo; returns the exit code: 0 only if every command worked."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)

    def compare() -> list[str]:
        _benchmark(options.data_dir, options.run_dir)
        return comparison_lines(options.run_dir)

    asked = {"compare": compare} if options.benchmarks else {}
    return demonstrate(options.data_dir, options.run_dir, **asked)


def _benchmark(data_dir: Path, run_dir: Path) -> None:
    """Measures, in a process for each suite; their files go to `run_dir`."""
    flags = ["--quick", "--repeats", "1", "--data-dir", str(data_dir)]
    for suite, (file, name) in _SUITES.items():
        more = ["--suite", suite, "--dataset", name, "--output", str(run_dir / file)]
        command = python_command("benchmarks.run", *flags, *more)
        log = run_dir / "logs" / f"benchmarks-{suite}.log"
        run_command(f"benchmarking briefly, {suite}", command, log, fork=True)


def comparison_lines(run_dir: Path) -> list[str]:
    """The comparisons of the files in `run_dir`: ours, the best other system, the ratio."""
    files = [run_dir / name for name, _ in _SUITES.values()]
    texts = [f.read_text(encoding="utf-8") for f in files if f.exists()]
    found = [one for text in texts for one in json.loads(text)["comparisons"]]
    comparisons = [one for one in found if one["question"] in _ANSWERED]
    lines = ["", "benchmark, one short repetition (for figures: make bench)"]
    lines += [f"  {'set':16}{'question':34}{'ours':>12}{'best other':>12}{'ratio':>8}"]
    for one in comparisons:
        systems, best = one["systems"], one["reference"]
        ours, other = systems["ours"]["median"], systems[best]["median"]
        text = f"  {one['dataset'].split('/')[0]:16}{one['question'][:33]:34}{ours:12,.0f}"
        lines.append(f"{text}{other:12,.0f}{one['ratio']:8.2f}  {one['quantity']}, {best}")
    lines.append("  ratio: speed of ours over the best other; below 1 the other is faster")
    return lines


if __name__ == "__main__":
    sys.exit(main())
