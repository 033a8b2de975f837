"""Command line: a finished run as a SavedModel that takes raw inputs and needs none of our code.

    python -m train.export RUN --output saved_model

The signature `serving_default` takes `features` float32 [B, F] (float64 where the set stores whole
numbers of 32 bits and more, or float64), `picture` string [B] (the bytes of JPEG or PNG files) or
`text` string [B] (UTF-8, as it comes), and gives `probabilities` float32 [B, C], `classes` string
[C] and `label` string [B]. Models of pictures and tables also give `usable` bool [B]: false where a
picture cannot be decoded or a row holds NaN or infinity; its probabilities are 0 and its label is
empty. Text models need `import tensorflow_text` before they are loaded, and have a second signature
`token_ids`: int32 [B, T] as the model reads.

    python -m train.export RUN --format litert --int8

writes RUN/model.tflite for small devices. It takes one example that is ready: `features` float32
[1, F], `picture` uint8 [1, S, S, C] or `token_ids` int32 [1, T]. Its accuracy on the validation
examples is printed beside the run's own.
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

import numpy as np

from records.sets.schema import IMAGE
from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from records.stores.address import is_address
from records.system.command import run_as_command, with_home
from records.system.places import check_utf8
from records.system.writing import check_output, write_atomically

if TYPE_CHECKING:
    from records.examples import Examples
    from train.folders.finished_run import FinishedRun
    from train.folders.model_input import ModelInput

_BATCH = 64
_CALIBRATION = 200  # examples: ranges settle with 100 to 500
_PATTERN = re.compile(r"[*?\[\\]")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.export",
        description="Writes a finished run as a SavedModel with a signature for raw inputs, or as "
        "a LiteRT file for small devices.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder")
    add("--output", help="what to write (default: RUN/saved_model, with litert RUN/model.tflite)")
    add(
        "--format",
        choices=("savedmodel", "litert"),
        default="savedmodel",
        help="a SavedModel of raw inputs (default), or a .tflite file of one ready input",
    )
    add("--int8", action="store_true", help="litert: whole numbers of 8 bits, chosen by train")
    add("--data-dir", help="litert: where the run's data lie (default: as train.run)")
    add("--check", metavar="INPUT", help="compare with train.predict on this input, as it takes it")
    add("--column", help="texts: the column of a table to check (default: as train.predict)")
    options = parser.parse_args(with_home(arguments))
    if options.column is not None and options.check is None:
        parser.error("--column expected with --check INPUT, received without it")
    if is_address(options.run) and options.output is None:
        parser.error(
            "--output expected with a RUN in a store: an export is written to this machine"
        )
    is_small = options.format == "litert"
    if not is_small and (options.int8 or options.data_dir):
        parser.error("--int8 and --data-dir expected with --format litert, received without it")
    if is_small and options.check is not None:
        parser.error("--check expected with --format savedmodel, received with litert")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Exports and, if asked to, checks; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _export(options))


def _export(options: argparse.Namespace) -> None:
    from train.folders.finished_run import open_run

    if options.format == "litert":
        output = Path(options.output or Path(options.run) / "model.tflite")
        check_output(output, "export")
        run = open_run(options.run)
        export_small(run, output, options.data_dir, is_int8=options.int8)
        return
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
    most = f"; pictures of up to {run.input.max_pixels:,} pixels" * (run.input.modality == IMAGE)
    print(
        f"{output}: {run.settings.model} of {run.place}, {', '.join(run.input.class_names)}{most}"
    )


def export_small(
    run: FinishedRun, output: Path, data_dir: str | None = None, *, is_int8: bool = False
) -> dict[str, float]:
    """Writes the LiteRT file, whole or not at all, and measures it on the validation examples.

    With `is_int8` ranges are chosen by examples of the split train.

    Returns:
      `examples` of validation; `accuracy` of the run, and `small_accuracy` of the file, on them; of
      several classes at once `macro_f1`, at the thresholds, of numbers `rmse` instead;
      `same_label`, the share for which both choose the same; not of numbers.

    Raises:
      ValueError: the model cannot be converted, or the data are others than the run's.
      FileNotFoundError: the data are not there.
      OSError: the file cannot be written.
    """
    from train.assembly.predictions import predict_split
    from train.serving.small_model import convert, input_name, predict_small

    data, examples, probability = predict_split(run, "validation", data_dir)
    calibration = None
    if is_int8:
        trained = data.examples("train").without_damaged()
        chosen = np.linspace(0, trained.num_examples - 1, _CALIBRATION).astype(np.int64)
        calibration = _inputs(trained, np.unique(chosen))
    content = convert(run.load_model(), run.input, calibration)
    positions = np.array_split(np.arange(len(probability)), -(-len(probability) // _BATCH))
    parts = [predict_small(content, _inputs(examples, some)) for some in positions]
    received, labels = np.concatenate(parts), examples.subset_labels
    name = {MULTI_LABEL: "macro_f1", REGRESSION: "rmse"}.get(run.input.task, "accuracy")
    own, small = (_figure(run.input, said, labels) for said in (probability, received))
    result = {"examples": float(len(labels)), name: own, f"small_{name}": small}
    same, form = "", ".6g" if run.input.task == REGRESSION else ".4f"
    if run.input.task != REGRESSION:
        both = _decide(run.input, received) == _decide(run.input, probability)
        result["same_label"] = float(both.mean())
        same = f"; the same label for {100 * result['same_label']:.3f} %"
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, content)
    print(
        f"{output}: {len(content):,} bytes, {'int8' if is_int8 else 'float32'}, input "
        f"{input_name(run.input)}; {name.replace('_', ' ')} on {len(labels):,} validation examples "
        f"{small:{form}}, of the run {own:{form}}{same}"
    )
    return result


def _figure(wanted: ModelInput, said: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy, macro F1 at the thresholds, or RMSE of what was said [n, C]."""
    from train.measures.target_metrics import metrics_of_numbers, score_classes

    if wanted.scale is not None:
        return metrics_of_numbers(said, labels, np.array(wanted.scale[1])).figures["rmse"]
    if wanted.task == MULTI_LABEL:
        return score_classes(said, labels, said >= np.array(wanted.thresholds))[0]["macro_f1"]
    return float((said.argmax(1) == labels).mean())


def _inputs(examples: Examples, positions: np.ndarray) -> np.ndarray:
    """Inputs [n, ...] of the examples at these positions of their subset."""
    numbers, inputs = examples.numbers[positions], examples.inputs
    return np.array(examples.loader.load(numbers) if inputs is None else inputs[numbers])


def check(run: FinishedRun, saved: Path, source: Path, column: str | None) -> dict[str, float]:
    """Compares a SavedModel with `train.predict` on every usable item of an input; prints both.

    What cannot be predicted is named, as `train.predict` does.

    Returns:
      `items` that were compared; `left_out`, those that were not; `largest_difference` of a
      probability; `same_label` and, for texts, `same_ids`, shares of the items.

    Raises: as `train.predict`; ValueError also where there is nothing to compare.
    """
    import tensorflow as tf

    from train.predict import print_left_out, usable_items
    from train.serving.read_inputs import pad, read_raw

    model, call = tf.saved_model.load(str(saved)), run.make_call()
    numbers = run.input.task == REGRESSION
    named = "predicted" if numbers else "probabilities"
    unusable: list[tuple[str, str]] = []
    usable = usable_items(read_raw(source, run.input, column), run.input, unusable)
    differences, labels, ids = [], [], []
    while batch := list(itertools.islice(usable, _BATCH)):
        raw = tf.constant([raw for _, raw, _ in batch])
        inputs = pad([value for _, _, value in batch])
        expected = run.say(call(inputs).numpy())
        received = model.signatures["serving_default"](raw)[named].numpy()
        differences.append(np.abs(received - expected).max(1))
        labels.append(_decide(run.input, received) == _decide(run.input, expected))
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
    same_label = f", the same label for {100 * result['same_label']:.3f} %" * (not numbers)
    print(
        f"{source}: {count:,} items compared, {'numbers' if numbers else named} within "
        f"{result['largest_difference']:.2g} of train.predict{same_label}{same_ids}"
    )
    return result


def _decide(wanted: ModelInput, said: np.ndarray) -> np.ndarray:
    """[n]: the class, or all classes as one number, that probabilities or numbers stand for."""
    import numpy as np

    if wanted.task == SINGLE_LABEL:
        return said.argmax(1)
    if wanted.task == REGRESSION:
        return np.zeros(len(said))
    return np.array([row.tobytes() for row in said >= np.array(wanted.thresholds)])


if __name__ == "__main__":
    sys.exit(main())
