"""What a finished run predicts for the examples of a split."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from records.examples import Examples
from records.opened import open_set
from records.roles import Data
from records.sets.find import default_data_dir, find_directory
from records.stores.address import is_address
from records.stores.mirror import place_of
from train.assembly.data import open_context, print_damage
from train.devices.strategy import make_cluster, set_up_devices
from train.folders.finished_run import FinishedRun
from train.step.predictor import Predictor


def predict_split(
    run: FinishedRun, split: str, data_dir: str | None, *, skip_damaged: bool = False
) -> tuple[Data, Examples, np.ndarray]:
    """The data, the examples of a split, and what the run says of them: float64 [n, C].

    That is as `FinishedRun.say` has it: probabilities, or numbers.

    `data_dir` is the data folder, or the set's own directory; None where the run's data are where
    they were when it began, or in TFDS's own data folder.

    With `skip_damaged` examples whose records are damaged are left out, and named.

    Raises:
      ValueError: no such split, or other data than the run's.
      FileNotFoundError: the set is not there.
    """
    settings = run.settings
    set_up_devices(None, settings.deterministic)
    directory = _find_data(run, data_dir)
    opened = open_set(
        directory, feature=settings.feature, task=settings.task, skip_damaged=skip_damaged
    )
    if opened.fingerprint != run.fingerprint:
        raise ValueError(
            f"evaluate: {place_of(directory)} expected the data that {run.path} was trained on "
            f"(fingerprint {run.fingerprint[:12]}), received others "
            f"({opened.fingerprint[:12]}). Name the folder of theirs with --data-dir, or train "
            "again on these"
        )
    opened = opened.choose(settings.classes)
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
    return data, examples, run.say(predictor.outputs(f"predicting {split}"))


def _find_data(run: FinishedRun, data_dir: str | None) -> str:
    """The directory of the set that a run was trained on.

    Raises:
      FileNotFoundError: it is in none of the places where it may be.
    """
    # As it was given to the run: a name, or a path that may be relative to another folder.
    named = run.settings.dataset
    places = [data_dir] if data_dir else [run.directory, named]
    for place in places:
        if place and is_address(place) and not data_dir:
            return place
        if place and (Path(place) / "dataset_info.json").is_file():
            return place
    for name in (run.input.dataset, named):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return find_directory(name, data_dir)
    if data_dir and is_address(data_dir):
        return find_directory(data_dir)
    lay = f", which lay in {run.directory}" if run.directory else ""
    raise FileNotFoundError(
        f"evaluate: {run.path} expected its data set {run.input.dataset}{lay}, received none there "
        f"or in {default_data_dir(data_dir)}. Name the folder that holds the set with --data-dir"
    )
