"""Command line: a finished run as a SavedModel that takes raw inputs and needs none of our code.

    python -m train.export RUN --output saved_model

The signature `serving_default` takes `features` float32 [B, F] (float64 where the set stores whole
numbers of 32 bits and more, or float64), `picture` string [B] (the bytes of JPEG or PNG files) or
`text` string [B] (UTF-8, as it comes), and gives `probabilities` float32 [B, C], `classes` string
[C] and `label` string [B]. Models of pictures and tables also give `usable` bool [B]: false where a
picture cannot be decoded or a row holds NaN or infinity; its probabilities are 0 and its label is
empty. Text models need `import tensorflow_text` before they are loaded, and have a second signature
`token_ids`: int32 [B, T] as the model reads.
"""

from __future__ import annotations

import argparse
import itertools
import re
import secrets
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from records.system.command import run_as_command, with_home
from records.system.places import check_utf8
from records.system.writing import check_output

if TYPE_CHECKING:
    from train.folders.finished_run import FinishedRun

_BATCH = 64
_PATTERN = re.compile(r"[*?\[\\]")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.export",
        description="Writes a finished run as a SavedModel with a signature for raw inputs.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder")
    add("--output", help="the folder to write (default: RUN/saved_model)")
    add("--check", metavar="INPUT", help="compare with train.predict on this input, as it takes it")
    add("--column", help="texts: the column of a table to check (default: as train.predict)")
    options = parser.parse_args(with_home(arguments))
    if options.column is not None and options.check is None:
        parser.error("--column expected with --check INPUT, received without it")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Exports and, if asked to, checks; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _export(options))


def _export(options: argparse.Namespace) -> None:
    from train.folders.finished_run import open_run

    output = Path(options.output or Path(options.run) / "saved_model")
    check_output(output.parent, "export", is_folder=True)
    check_output(output, "export", is_folder=True)
    run = open_run(options.run)
    export(run, output)
    if options.check:
        check(run, output, Path(options.check), options.column)


def export(run: FinishedRun, output: Path) -> None:
    """Writes the SavedModel, whole or not at all; takes the place of an earlier one.

    Raises:
      ValueError: something else is there, or the set does not say how its ids were made.
      OSError: it cannot be written.
    """
    import tensorflow as tf

    from train.serving.served_model import Served

    check_utf8(output, "--output")
    if wrong := _PATTERN.findall(str(output.absolute())):
        raise ValueError(
            f"export: --output {output} expected a path without {' '.join(wrong)}, which "
            "TensorFlow takes for a pattern when it loads a model. Choose another --output"
        )
    if output.exists() and not (output / "saved_model.pb").exists():
        raise ValueError(
            f"export: --output {output} expected a new name or an earlier export, received "
            "something else. Choose another --output"
        )
    served = Served(run.load_model(), run.input)
    # Beside the target: a rename works within one file system only.
    temporary = output.with_name(f".{secrets.token_hex(6)}")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        tf.saved_model.save(served, str(temporary), served.signatures())
        # A folder cannot be replaced in one step: for a moment there is no model, but never half of
        # one.
        shutil.rmtree(output, ignore_errors=True)
        temporary.replace(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{output}: {run.settings.model} of {run.path}, {', '.join(run.input.class_names)}")


def check(run: FinishedRun, saved: Path, source: Path, column: str | None) -> dict[str, float]:
    """Compares a SavedModel with `train.predict` on every usable item of an input; prints both.

    What cannot be predicted is named, as `train.predict` does.

    Returns:
      `items` that were compared; `left_out`, those that were not; `largest_difference` of a
      probability; `same_label` and, for texts, `same_ids`, shares of the items.

    Raises: as `train.predict`; ValueError also where there is nothing to compare.
    """
    import numpy as np
    import tensorflow as tf

    from train.folders.finished_run import probabilities
    from train.predict import print_left_out, usable_items
    from train.serving.read_inputs import pad, read_raw

    model, call = tf.saved_model.load(str(saved)), run.make_call()
    unusable: list[tuple[str, str]] = []
    usable = usable_items(read_raw(source, run.input, column), run.input, unusable)
    differences, labels, ids = [], [], []
    while batch := list(itertools.islice(usable, _BATCH)):
        raw = tf.constant([raw for _, raw, _ in batch])
        inputs = pad([value for _, _, value in batch])
        expected = probabilities(call(inputs).numpy())
        received = model.signatures["serving_default"](raw)["probabilities"].numpy()
        differences.append(np.abs(received - expected).max(1))
        labels.append(received.argmax(1) == expected.argmax(1))
        if "token_ids" in model.signatures:
            found = model.signatures["token_ids"](raw)["token_ids"].numpy()
            width = inputs.shape[1]
            # The signature may pad further than the longest text of this batch: with zeros only.
            same = (found[:, :width] == inputs.numpy()).all(1) & ~found[:, width:].any(1)
            ids.append(same)
    count = sum(map(len, differences))
    print_left_out(unusable, count + len(unusable))
    if not differences:
        raise ValueError(f"export: {source}: nothing in it could be read")
    result = {"items": float(count), "left_out": float(len(unusable))}
    result["largest_difference"] = float(np.concatenate(differences).max())
    result["same_label"] = float(np.concatenate(labels).mean())
    if ids:
        result["same_ids"] = float(np.concatenate(ids).mean())
    same_ids = f", the same ids for {100 * result['same_ids']:.3f} %" if ids else ""
    print(
        f"{source}: {count:,} items compared, probabilities within "
        f"{result['largest_difference']:.2g} of train.predict, the same label for "
        f"{100 * result['same_label']:.3f} %{same_ids}"
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
