"""What a finished run predicts for the examples of a split."""

from __future__ import annotations

import numpy as np

from records.examples import Examples
from records.opened import open_set
from records.roles import Data
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
    feature = run.config.feature
    opened = open_set(run.config.dataset, data_dir, feature=feature, skip_damaged=skip_damaged)
    if opened.fingerprint != run.fingerprint:
        raise ValueError(
            f"evaluate: {opened.schema.directory} expected the data that {run.path} was trained "
            f"on (fingerprint {run.fingerprint[:12]}), received others "
            f"({opened.fingerprint[:12]}). Name theirs with --data-dir, or train again on these"
        )
    if split != "validation":  # which may be a part of train
        opened.schema.check_split(split)
    cluster = make_cluster("one_device")
    data, level, roles = open_examples(run.config, opened, cluster)
    examples = (roles[split] if split in roles else data.examples(split)).without_damaged()
    print_damage(opened, data.damage())
    rows, buckets = int(run.config.global_batch_size or 1), run.config.length_buckets
    predictor = Predictor(run.load_model(), examples, cluster, level, rows, buckets)
    return data, examples, probabilities(predictor.outputs(f"predicting {split}"))
