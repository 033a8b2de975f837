"""What a finished run predicts for the examples of a split."""

from __future__ import annotations

import dataclasses

import numpy as np

from records.examples import Examples
from records.roles import Data
from records.sets.fingerprint import check_fingerprint
from records.sets.schema import find_directory, read_schema
from train.assembly.data import open_examples, print_damage
from train.devices.strategy import make_cluster, set_up_devices
from train.folders.finished_run import FinishedRun, probabilities
from train.step.predictor import Predictor


def predict_split(
    run: FinishedRun, split: str, data_dir: str | None = None, *, skip_damaged: bool = False
) -> tuple[Data, Examples, np.ndarray]:
    """The data, the examples of a split, and the run's probabilities float64 [n, C] of them.

    With `skip_damaged` examples whose records are damaged are left out, and named.

    Raises:
      ValueError: no such split, or other data than the run's.
      FileNotFoundError: the set is not there.
    """
    set_up_devices(None, run.config.deterministic)
    directory = find_directory(run.config.dataset, data_dir)
    fingerprint = check_fingerprint(directory, skip_damaged=skip_damaged)
    if fingerprint != run.fingerprint:
        raise ValueError(
            f"evaluate: {directory} expected the data that {run.path} was trained on "
            f"(fingerprint {run.fingerprint[:12]}), received others ({fingerprint[:12]}). Name "
            "theirs with --data-dir, or train again on these"
        )
    schema = read_schema(directory, run.config.feature)
    schema = dataclasses.replace(schema, skip_damaged=skip_damaged)
    if split != "validation":  # which may be a part of train
        schema.check_split(split)
    cluster = make_cluster("one_device")
    data, level, roles = open_examples(run.config, schema, cluster)
    examples = (roles[split] if split in roles else data.examples(split)).without_damaged()
    print_damage(schema, data.damage())
    rows, buckets = int(run.config.global_batch_size or 1), run.config.length_buckets
    predictor = Predictor(run.load_model(), examples, cluster, level, rows, buckets)
    return data, examples, probabilities(predictor.outputs(f"predicting {split}"))
