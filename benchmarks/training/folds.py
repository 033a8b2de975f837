"""Cross-validation: all folds trained in one batched network, beside one fold after the other.

A sample is one trial of a sweep, as `train.sweep` runs it: five folds opened, built, traced,
compiled, trained and validated after every epoch. One after the other is what other tools do: each
fold a run of its own, with its checkpoints and files, in the same process.
"""

import contextlib
import dataclasses
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.measuring.comparison import DURATION, OURS, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Work
from records.opened import open_set
from records.sets.schema import TABULAR
from train.devices.strategy import make_cluster
from train.engine.whole_run import train_and_evaluate
from train.search.folds_at_once import train_folds
from train.settings.config import TrainConfig
from train.settings.resolve import resolve

FOLDS = 5
APART = "one by one"
_MODELS = ("mlp_report_best", "mlp_small")
_EPOCHS = 40


def measure_folds(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Times trials on a table; [] for other sets: their folds are always trained one by one.

    Quick runs leave it out: five runs take half a minute.
    """
    if work.schema.modality != TABULAR or not effort.thorough:
        return []
    return [_measure(work, model, effort, progress) for model in _MODELS]


def _measure(work: Work, model: str, effort: Effort, show: Progress) -> Comparison:
    fields: dict[str, Any] = {"model": model, "epochs": _EPOCHS, "early_stopping": 0}
    asked = TrainConfig(
        dataset=work.schema.directory,
        folds=FOLDS,
        strategy="one_device",
        deterministic=False,  # else it stays on for the parts that follow in this process
        **fields,
    )
    cluster = make_cluster("one_device")
    settings = resolve(asked, work.schema, cluster)

    def together(seed: int) -> None:
        one = dataclasses.replace(settings, seed=seed)
        # Opening the set is a part of a trial.
        opened = open_set(work.schema.directory)
        pairs = train_folds(one, opened, cluster, lambda epoch, found: None)
        _check(sum(len(labels) for labels, _ in pairs), work)

    def apart(seed: int) -> None:
        count = 0
        for fold in range(FOLDS):
            # A folder of its own: else a run would go on from the checkpoint of the one before.
            with tempfile.TemporaryDirectory() as folder, _silent():
                one = dataclasses.replace(asked, seed=seed, fold=fold, run_dir=f"{folder}/run")
                found = train_and_evaluate(one)
            # The confusion matrix counts each validated example once.
            count += sum(map(sum, found["validation"]["confusion_matrix"]))
        _check(count, work)

    systems = {OURS: _timed(together, work), APART: _timed(apart, work)}
    samples = alternate(systems, effort.repetitions, lambda text: show(f"folds, {model}: {text}"))
    return Comparison(
        suite="folds",
        dataset=work.schema.name,
        question=f"{model}, a trial of {FOLDS} folds",
        samples=samples,
        quantity=DURATION,
        note=f"{_EPOCHS} epochs of each fold, batch {settings.global_batch_size}, opening, "
        "compiling and validation included",
        details=fields | {"folds": FOLDS, "fingerprint": work.fingerprint},
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _check(validated: int, work: Work) -> None:
    """Raises ValueError unless every example was validated in one fold."""
    if validated != work.num_examples:
        raise ValueError(
            f"benchmark: {work.schema.name}: {work.num_examples} validated examples "
            f"expected over all folds, received {validated}"
        )


def _timed(trial: Callable[[int], None], work: Work) -> Callable[[], Sample]:
    """Trials with the seeds 0, 1, ...: each builds and compiles anew."""
    seeds = itertools.count()

    def run() -> Sample:
        began = time.perf_counter()
        trial(next(seeds))
        seconds = time.perf_counter() - began
        # Every fold trains on all parts but its own.
        return Sample((FOLDS - 1) * work.num_examples * _EPOCHS, seconds)

    return run
