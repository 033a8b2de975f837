"""Command line: flags to a `TrainConfig`, nothing else.

python -m train.run --strategy mirrored
python -m train.run --dataset fetal_health --manual-dir FOLDER
"""

from __future__ import annotations

import argparse
import sys

from records.quiet import import_tensorflow_quietly
from train.config import TrainConfig, add_flags, normalise_flags


def parse_config(arguments: list[str]) -> TrainConfig:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.run",
        description="Trains a model on a prepared TFDS set. Without flags it trains on generated "
        "data (fetal_health/synthetic).",
        allow_abbrev=False,
    )
    add_flags(parser)
    try:
        return TrainConfig(**vars(parser.parse_args(normalise_flags(arguments))))
    except ValueError as error:
        parser.error(str(error))


def main(arguments: list[str] | None = None) -> int:
    """Runs the training that the flags describe; returns the exit code."""
    config = parse_config(sys.argv[1:] if arguments is None else arguments)
    try:
        import_tensorflow_quietly()
        from train.loop import Interrupted, train_and_evaluate  # imports TensorFlow: not at the top
    except KeyboardInterrupt:
        return 130
    try:
        train_and_evaluate(config)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        print("interrupted; the same command goes on from the checkpoint", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("interrupted; the same command starts again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
