"""Time to a target: from a cold start until the validation accuracy first reaches a fixed value.

| system | what trains |
|---|---|
| ours | a whole `train.run`: its checkpoints, history and TensorBoard files included |
| fit | Keras `fit` as its guides recommend: `tf.data` from memory, several steps a call |
| report | the report's own way: `fit(x, y)` on NumPy arrays at Keras's defaults |

Same model, initial weights, optimizer, constant learning rate, batch size, training and validation
examples. Every repetition is a seed and, for each system, a new process on a fresh copy of the set
without anything kept by earlier runs. The clock starts when the process has imported its modules
(a start takes seconds, the same for all) and runs through decoding, tracing, compiling, features,
every epoch and its validation, until the epoch's row stands in the run's `history.csv`. A frozen
backbone runs once a picture in ours and in fit, in every step in the report's way.

Started with a JSON object, this module is such a process.
"""

import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.measuring.child import start_child, take_request
from benchmarks.measuring.comparison import DURATION, OURS, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Work, view
from records.system.quiet import import_tensorflow_quietly
from train.settings.config import TrainConfig

FIT, REPORT = "fit", "report"
_POLL_SECONDS = 0.005  # epochs take 0.1 s and more; looking costs 20 us


@dataclasses.dataclass(frozen=True)
class Goal:
    """What has to be reached on one set."""

    accuracy: float  # of validation
    settings: dict[str, Any]  # fields of `TrainConfig`
    epochs: int  # after so many a system is given up; its sample is the time until then
    seeds: int = 2  # repetitions at most


_TABLE = {"model": "mlp"}
# Small pictures and short texts: the report's way takes minutes a seed at the sizes of a run.
_PICTURES = {"model": "efficientnet_lite0", "image_size": 64}
_TEXTS = {"model": "gru", "sequence_length": 50}
# Fixed before anything was timed. Real sets: fetal_health between logistic regression (0.895) and
# gradient boosting (0.953), the others what one run of ours had after two or three epochs.
# Generated ones: 95 % of logistic regression's (0.876, 0.551 and 0.810); all of `train.baseline`,
# seed 0, on these sizes.
GOALS = {
    "fetal_health/kaggle": Goal(0.93, _TABLE, 40, seeds=3),
    "brain_tumor_mri/kaggle": Goal(0.72, _PICTURES, 10),
    "song_lyrics/kaggle": Goal(0.35, _TEXTS, 6),
    "fetal_health/synthetic": Goal(0.83, _TABLE, 40, seeds=3),
    "brain_tumor_mri/synthetic": Goal(0.52, _PICTURES, 40),
    "song_lyrics/synthetic": Goal(0.77, _TEXTS, 40),
}


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The end of an epoch: seconds since the start, and the validation accuracy."""

    seconds: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Race:
    """One run of one system."""

    seed: int
    epochs: tuple[Epoch, ...]  # those that were run: to the target, or to the cap
    target: float  # validation accuracy

    @property
    def reached(self) -> bool:
        """Whether the target was."""
        return self.epochs[-1].accuracy >= self.target

    @property
    def seconds(self) -> float:
        """Until the target, or, where it was not reached, until the last epoch."""
        return self.epochs[-1].seconds


def measure_target(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Times all systems on one set; [] for a set without a target of its own.

    Quick runs leave it out: the report's way takes half a minute even on a table.

    Raises:
      ChildError: a run failed.
    """
    goal = GOALS.get(work.schema.name.rpartition("/")[0])
    if goal is None or not effort.thorough:
        return []
    seeds = min(effort.repetitions, goal.seeds)
    return [measure_goal(work, goal, seeds, lambda text: progress(f"target, {text}"))]


def measure_goal(work: Work, goal: Goal, seeds: int, progress: Progress) -> Comparison:
    """Times all systems on the way to one goal.

    Raises:
      ChildError: a run failed.
    """
    races: dict[str, list[Race]] = {system: [] for system in (OURS, FIT, REPORT)}

    def run(system: str, numbers: Iterable[int]) -> Sample:
        race = _race(work, goal, system, next(iter(numbers)))
        races[system].append(race)
        # Of the split: where a set has no validation split, a part of it validates.
        return Sample(work.num_examples * len(race.epochs), race.seconds)

    systems = {system: functools.partial(run, system, itertools.count()) for system in races}
    samples = alternate(systems, seeds, progress)
    return Comparison(
        suite="target",
        dataset=work.schema.name,
        question=f"{goal.settings['model']}, validation accuracy {goal.accuracy:g}",
        samples=samples,
        quantity=DURATION,
        note=describe(races, goal),
        details=_details(races, goal) | {"fingerprint": work.fingerprint},
    )


def run_until(
    history: Path, check_runs: Callable[[], None], target: float, most_epochs: int
) -> tuple[Epoch, ...]:
    """Watches a run's history until an epoch reaches the target, or is the last one allowed.

    Args:
      history: the CSV file that grows by a row an epoch, with a column `val_accuracy`.
      check_runs: raises once the run is over.

    Raises:
      ChildError: by `check_runs`, where the run ended before.
    """
    began, epochs = time.perf_counter(), list[Epoch]()
    while True:
        found, now = read_accuracies(history), time.perf_counter()
        for accuracy in found[len(epochs) :]:
            epochs.append(Epoch(now - began, accuracy))
            if accuracy >= target or len(epochs) == most_epochs:
                return tuple(epochs)
        check_runs()
        time.sleep(_POLL_SECONDS)


def read_accuracies(history: Path) -> list[float]:
    """The validation accuracy of each epoch that is written to its end; [] without the file."""
    try:
        text = history.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    # The run may be in the middle of writing a row.
    whole = text[: text.rfind("\n") + 1]
    return [float(row["val_accuracy"]) for row in csv.DictReader(whole.splitlines())]


def describe(races: dict[str, list[Race]], goal: Goal) -> str:
    """What a reader must know: epochs of each system, and who did not arrive."""
    told = "; ".join(f"{n} {_listed(len(r.epochs) for r in of)}" for n, of in races.items())
    missed = [
        f"{name} DID NOT REACH IT in {goal.epochs} epochs with seed {_listed(late)}: that time"
        for name, of in races.items()
        if (late := [r.seed for r in of if not r.reached])
    ]
    note = "from the imports' end to the end of the epoch that reaches it, one process per seed"
    return "; ".join([f"{note}; epochs: {told}", *missed])


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _details(races: dict[str, list[Race]], goal: Goal) -> dict[str, Any]:
    return {
        **goal.settings,
        "target": goal.accuracy,
        "most_epochs": goal.epochs,
        "seeds": [race.seed for race in races[OURS]],
        "epochs": {name: [len(r.epochs) for r in of] for name, of in races.items()},
        "reached": {name: [r.reached for r in of] for name, of in races.items()},
        "first_epoch_seconds": {n: [r.epochs[0].seconds for r in of] for n, of in races.items()},
        "accuracies": {n: [[e.accuracy for e in r.epochs] for r in of] for n, of in races.items()},
    }


def _race(work: Work, goal: Goal, system: str, seed: int) -> Race:
    """Starts a run and stops it at the target."""
    with view(work) as fresh, tempfile.TemporaryDirectory() as folder:
        config = {
            **goal.settings,
            "dataset": fresh.schema.directory,
            "epochs": goal.epochs,
            # A falling rate would depend on the cap, and so on when the target is expected.
            "schedule": "constant",
            # No system stops by itself: the target ends a run, or the cap.
            "early_stopping": 0,
            "seed": seed,
            "run_dir": f"{folder}/run",
        }
        with start_child(
            "benchmarks.training.target", {"system": system, "config": config}
        ) as child:
            child.answer()
            history = Path(folder, "run", "history.csv")
            epochs = run_until(history, child.check_runs, goal.accuracy, goal.epochs)
    return Race(seed, epochs, goal.accuracy)


def main() -> None:
    """In the child: one run of one system."""
    request = take_request()
    import_tensorflow_quietly()
    # They import TensorFlow.
    from benchmarks.peers import keras_target
    from train.engine.whole_run import train_and_evaluate

    config = TrainConfig(**request["config"])
    trains = {
        OURS: train_and_evaluate,
        FIT: keras_target.train_cached,
        REPORT: keras_target.train_arrays,
    }
    # From here on the clock runs, in the process that has started this one.
    print(json.dumps({"ready": True}), flush=True)
    with contextlib.redirect_stdout(sys.stderr):  # nobody reads what a run prints
        trains[request["system"]](config)


if __name__ == "__main__":
    main()
