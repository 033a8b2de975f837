"""Command line: flags to a `TrainConfig`, nothing else.

python -m train.run --strategy mirrored
python -m train.run --dataset fetal_health --manual-dir FOLDER
python -m train.run --dataset houses.csv --label price
"""

import argparse
import signal
import sys
from typing import Any

from records.system.command import run_as_command
from train.settings.config import TrainConfig
from train.settings.flags import add_flags, parse_settings


def parse_config(arguments: list[str]) -> TrainConfig:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.run",
        description="Trains a model on a prepared TFDS set. Without flags it trains on generated "
        "data (fetal_health/synthetic).",
        allow_abbrev=False,
    )
    add_flags(parser)
    group = parser.add_argument_group("a file to convert first (more: python -m builders.convert)")
    several: dict[str, Any] = {"nargs": "+", "metavar": "COLUMN"}
    text = "the column of the classes, or the columns of the numbers to predict (default: guessed)"
    group.add_argument("--label", help=text, **several)
    group.add_argument("--drop", help="columns to leave out", **several)
    text = "its equal values stay in one split (a patient)"
    group.add_argument("--group", metavar="COLUMN", help=text)
    text = "names the split of a row: train, validation or test"
    group.add_argument("--split", metavar="COLUMN", help=text)
    given, found = parse_settings(parser, arguments)
    conversion: list[str] = []
    for name in ("label", "drop", "group", "split"):
        value = found[name]
        words = [value] if isinstance(value, str) else value or []
        conversion += [f"--{name}", *words] if words else []
    try:
        return TrainConfig(**given, given=frozenset(given), conversion=tuple(conversion))
    except ValueError as error:
        parser.error(str(error))


def main(arguments: list[str] | None = None) -> int:
    """Runs the training that the flags describe; returns the exit code."""
    config = parse_config(sys.argv[1:] if arguments is None else arguments)
    again = "interrupted; the same command goes on from the last checkpoint, if there is one, or "
    # A scheduler's SIGTERM ends a run as Ctrl-C does, with a message, also before its first step.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run_as_command(lambda: _train(config), interrupted=f"{again}starts again")
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(config: TrainConfig) -> None:
    # They import TensorFlow: not at the top.
    from train.devices.workers import WorkerDied, end_without_the_others
    from train.engine.loop import Interrupted
    from train.engine.whole_run import train_and_evaluate

    try:
        train_and_evaluate(config)
    except WorkerDied as error:
        end_without_the_others(str(error))
    except Interrupted as error:
        said = "interrupted; the same command goes on from the checkpoint"
        raise KeyboardInterrupt(said) from error


if __name__ == "__main__":
    sys.exit(main())
