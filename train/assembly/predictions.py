"""What a finished run predicts for the examples of a split."""

from __future__ import annotations

import numpy as np

from records.examples import Examples
from records.opened import open_set
from records.roles import Data
from train.assembly.data import open_context, print_damage
from train.devices.strategy import make_cluster, set_up_devices
from train.folders.finished_run import FinishedRun, probabilities
from train.step.predictor import Predictor


def predict_split(
    run: FinishedRun, split: str, data_dir: str | None, *, skip_damaged: bool = False
) -> tuple[Data, Examples, np.ndarray]:
    """The data, the examples of a split, and the run's probabilities float64 [n, C] of them.

    With `skip_damaged` examples whose records are damaged are left out, and named.

    Raises:
      ValueError: no such split, or other data than the run's.
      FileNotFoundError: the set is not there.
    """
    settings = run.settings
    set_up_devices(None, settings.deterministic)
    opened = open_set(
        settings.dataset, data_dir, feature=settings.feature, skip_damaged=skip_damaged
    )
    if opened.fingerprint != run.fingerprint:
        raise ValueError(
            f"evaluate: {opened.schema.directory} expected the data that {run.path} was trained "
            f"on (fingerprint {run.fingerprint[:12]}), received others "
            f"({opened.fingerprint[:12]}). Name theirs with --data-dir, or train again on these"
        )
    if split != "validation":  # which may be a part of train
        opened.schema.check_split(split)
    context = open_context(settings, opened, make_cluster("one_device"))
    data, roles = context.data, context.examples
    examples = (roles[split] if split in roles else data.examples(split)).without_damaged()
    print_damage(data)
    predictor = Predictor(
        run.load_model(),
        examples,
        context.cluster,
        context.level,
        settings.global_batch_size,
        settings.length_buckets,
    )
    return data, examples, probabilities(predictor.outputs(f"predicting {split}"))
