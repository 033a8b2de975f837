"""What a finished run predicts for the examples of a split."""

import contextlib
from pathlib import Path

import numpy as np

from records.examples import Examples
from records.mixed import BETWEEN_NAMES, joint_fingerprint, mix_sets
from records.opened import OpenedSet, open_set
from records.roles import Data
from records.sets.find import default_data_dir, find_directory, sets_below
from records.stores.address import is_address
from records.stores.mirror import place_of
from train.assembly.data import open_context, print_damage
from train.devices.strategy import make_cluster, set_up_devices
from train.folders.finished_run import FinishedRun
from train.settings.sets import read_sets, shares_of
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
    set_up_devices(None, run.settings.deterministic)
    return predict_opened(run, split, _open_again(run, data_dir, skip_damaged))


def predict_opened(
    run: FinishedRun, split: str, opened: OpenedSet
) -> tuple[Data, Examples, np.ndarray]:
    """As `predict_split`, of the run's data, opened as for its training."""
    settings = run.settings
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


def _open_again(run: FinishedRun, data_dir: str | None, skip_damaged: bool) -> OpenedSet:
    """Opens the data that a run was trained on; errors as `predict_split`."""
    settings = run.settings
    directories = _find_data(run, data_dir)
    parts = [
        open_set(d, feature=settings.feature, task=settings.task, skip_damaged=skip_damaged)
        for d in directories
    ]
    shares = shares_of(settings.dataset)
    found = joint_fingerprint(parts, shares)
    if found != run.fingerprint:
        raise ValueError(
            f"data set: {' and '.join(map(place_of, directories))} expected the data that "
            f"{run.place} was trained on (fingerprint {run.fingerprint[:12]}), received others "
            f"({found[:12]}). Name the folder of theirs with --data-dir, or train again on these"
        )
    return mix_sets([part.choose(settings.classes) for part in parts], shares, settings.seed)


def _find_data(run: FinishedRun, data_dir: str | None) -> list[str]:
    """The directory of each set that a run was trained on.

    Raises:
      FileNotFoundError: one is in none of the places where it may be.
    """
    # As they were given to the run: names, or paths that may be relative to another folder.
    named = read_sets(run.settings.dataset)
    stored = run.input.dataset.split(BETWEEN_NAMES)
    lay = run.directories or (None,) * len(named)
    sets = zip(named, stored, lay, strict=True)
    return [_find_set(run, data_dir, *one) for one in sets]


def _find_set(
    run: FinishedRun, data_dir: str | None, named: str, stored: str, lay: str | None
) -> str:
    places = [data_dir] if data_dir else [lay, named]
    for place in places:
        if place and is_address(place) and not data_dir:
            return place
        if place and (Path(place) / "dataset_info.json").is_file():
            return place
    for name in (stored, named):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return find_directory(name, data_dir)
    if data_dir and is_address(data_dir):
        return find_directory(data_dir)
    # The folder of its name or config, which holds it alone: whether it is that set is asked later.
    if data_dir and len(below := sets_below(Path(data_dir))) == 1:
        return str(below[0])
    there = f", which lay in {lay}" if lay else ""
    either = " there or" * bool(lay and not data_dir)
    raise FileNotFoundError(
        f"data set: {run.place} expected its set {stored}{there}, received none{either} in "
        f"{default_data_dir(data_dir)}. Name the folder that holds the set with --data-dir"
    )
