"""Command line: many settings of a model, each cross-validated inside the training split.

    python -m train.sweep --dataset fetal_health/kaggle --model mlp_report --trials 88

The split test is never read. Every setting that is named stays as it is; the others of
`train.search.spaces` are searched. The same command goes on where an interrupted one was. With
`--storage` it may be started many times, on one machine or several: all draw from one study.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from records.system.command import run_as_command
from records.system.json_file import read_json, write_json
from records.system.writing import check_output
from train.measures.metrics import CHOSEN_BY, MONITORED
from train.settings.config import RESULT_FIELDS, TrainConfig
from train.settings.flags import add_flags, parse_settings
from train.settings.sets import folder_name

if TYPE_CHECKING:
    import optuna

    from train.search.trial import TrialRunner

_POLL_S = 1.0  # between looks at the other workers' last trials
_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A sweep."""

    fixed: TrainConfig  # settings of all trials
    named: tuple[str, ...]  # names of the settings that the command line gave: not searched
    trials: int  # how many, stopped ones included
    sampler: str  # `tpe` (guided: Bergstra et al. 2011) or `random`
    # Of the validation examples, mean over the folds; losses and errors are made small, others
    # large. None: by the task.
    metric: str | None
    prune: bool  # stop trials that are worse than the median of the others at the same epoch
    folder: Path  # where everything goes
    # Where the study lies, for workers of several machines; None: in the folder.
    storage: str | None = dataclasses.field(default=None, repr=False)  # may hold a password


def parse_config(arguments: list[str]) -> SweepConfig:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.sweep",
        description="Searches settings of a model by cross-validation inside the split train. "
        "Flags of train.run fix a setting; the others of train/search/spaces.py are searched.",
        allow_abbrev=False,
    )
    group = parser.add_argument_group("sweep")
    add = group.add_argument
    add("--trials", type=int, default=88, metavar="N", help="how many (default: 88)")
    add(
        "--sampler",
        choices=("tpe", "random"),
        default="tpe",
        help="guided or random (default: tpe)",
    )
    add(
        "--metric",
        choices=MONITORED,
        help="what is made best, mean over the folds (default, one class / several / numbers: "
        f"{' / '.join(CHOSEN_BY.values())})",
    )
    add(
        "--prune",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="stop trials that are worse than the median of the others (default: on)",
    )
    add("--sweep-dir", metavar="FOLDER", help="default: sweeps/<set>-<model>-<sampler>")
    add(
        "--storage",
        metavar="URL",
        help="a database (postgresql://USER@HOST/NAME, sqlite:////FOLDER/FILE) or journal:FILE, in "
        "which several workers, started with the same command, share the trials",
    )
    add_flags(parser)
    given, own = parse_settings(parser, arguments, own=("fold", "pool_splits"))
    named = tuple(name for name in RESULT_FIELDS if given.get(name) is not None)
    if own["trials"] < 1:
        parser.error(f"--trials expected 1 or more, received {own['trials']}")
    if "fold" in given or given.get("pool_splits"):
        parser.error(
            "--fold and --pool-splits expected without train.sweep, which trains all folds "
            "of the split train"
        )
    try:
        fixed = TrainConfig(**({"folds": _FOLDS} | given), given=frozenset(given))
    except ValueError as error:
        parser.error(str(error))
    name = folder_name(fixed.dataset)
    folder = own["sweep_dir"] or f"sweeps/{name}-{fixed.model or 'default'}-{own['sampler']}"
    return SweepConfig(
        fixed, named, own["trials"], own["sampler"], own["metric"], own["prune"], Path(folder),
        own["storage"],
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Sweeps; returns the exit code."""
    config = parse_config(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(
        lambda: sweep(config),
        interrupted="interrupted; the same command goes on with the trial it was at",
    )


def sweep(config: SweepConfig) -> None:
    """Runs the trials that are left and writes the folder.

    Raises:
      ValueError: settings that do not fit the data, or a folder or a study of another sweep, or a
        folder in which another process works, or a storage that does not answer.
      FileNotFoundError: the set is not there.
    """
    import optuna

    from train.engine.console import print_data
    from train.folders.lock import FolderLock
    from train.search.study import failures_named
    from train.search.trial import TrialRunner

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    check_output(config.folder, "sweep", "--sweep-dir", is_folder=True)
    runner = TrialRunner(config.fixed, config.named, config.folder, config.metric)
    config = dataclasses.replace(config, metric=runner.metric)
    (config.folder / "runs").mkdir(parents=True, exist_ok=True)
    # Before anything in it is touched: the folds of a sweep that is at work lie there.
    with (
        FolderLock(config.folder, "--sweep-dir", shared=config.storage is not None),
        failures_named(config.storage),
    ):
        study = _make_study(config, _claim(config, runner))
        _remove_leftovers(config.folder)
        print_data(runner.fixed.model, runner.opened.schema)
        began = time.perf_counter()
        _run_trials(study, runner, config)
        _write(study, config, plots=True)
    print(f"{time.perf_counter() - began:.0f} s. Leaderboard, plots: {config.folder}")


def _make_study(config: SweepConfig, asked: dict[str, Any]) -> optuna.Study:
    """The study, or the one that is there already."""
    from train.search.places import fail_running
    from train.search.study import make_study

    # A database in the folder: every trial is kept as soon as it is told, however the sweep ends.
    study = make_study(
        config.storage or f"sqlite:///{config.folder / 'study.db'}",
        config.folder.resolve().name if config.storage else "sweep",
        metric=str(config.metric),
        sampler=config.sampler,
        prune=config.prune,
        seed=config.fixed.seed,
    )
    if not config.storage:
        fail_running(study)  # nobody else works in the folder: what runs was cut short
    elif stored := study.user_attrs.get("asked"):
        _check_same(f"the study {study.study_name!r} of --storage", asked, stored)
    else:
        study.set_user_attr("asked", asked)
    return study


def _run_trials(study: optuna.Study, runner: TrialRunner, config: SweepConfig) -> None:
    """Trains until no trial is left, of this worker or another."""
    from train.search.places import SilentTrials, count_done, take

    before = done = count_done(study, config.trials)
    where = ", shared with other workers" if config.storage else ""
    print(
        f"  {config.trials} trials of {runner.fixed.folds} folds, {done} done before; sampler "
        f"{config.sampler}, {config.metric} -> {config.folder}{where}",
        flush=True,
    )
    began, silent = time.perf_counter(), SilentTrials()
    while done < config.trials:
        for number in silent.fail(study) if config.storage else ():
            print(f"  trial {number}: its worker is silent; it begins anew", flush=True)
        trial = take(study, config.trials)
        if trial is None:
            time.sleep(_POLL_S)
        elif run_trial(study, trial, runner):
            done = count_done(study, config.trials)
            spent = time.perf_counter() - began
            # By the trials of this start alone: those before may have run on another machine.
            left = spent / max(1, done - before) * (config.trials - done)
            _print_trial(study, trial.number, done, config, left)
            _write(study, config, plots=False)
        done = count_done(study, config.trials)


def run_trial(study: optuna.Study, trial: optuna.Trial, runner: TrialRunner) -> bool:
    """Draws settings, trains them and tells what they are worth.

    Returns:
      False where another worker took this one for dead meanwhile and began the trial anew.
    """
    import optuna

    from train.search.places import beating
    from train.step.objective import Diverged

    states = optuna.trial.TrialState
    began, value = time.perf_counter(), None
    try:
        with beating(trial):
            try:
                found = runner.run(trial)
            except (optuna.TrialPruned, Diverged) as end:
                trial.set_user_attr("diverged", isinstance(end, Diverged))
            else:
                for name, values in found.items():
                    trial.set_user_attr(name, values)
                value = sum(found[runner.metric]) / len(found[runner.metric])
            trial.set_user_attr("seconds", time.perf_counter() - began)
        study.tell(trial, value, state=states.PRUNED if value is None else states.COMPLETE)
    except KeyboardInterrupt:
        study.tell(trial, state=states.FAIL, skip_if_finished=True)  # others need not wait for it
        raise
    except optuna.exceptions.UpdateFinishedTrialError:
        print(f"  trial {trial.number} was given to another worker, as this one seemed dead")
        return False
    return True


def _write(study: optuna.Study, config: SweepConfig, plots: bool) -> None:
    """Writes the leaderboard; workers that share a folder do so one after the other."""
    from train.folders.lock import FolderLock
    from train.search.leaderboard import write_leaderboard

    with FolderLock(config.folder / "runs", "--sweep-dir", wait=True):
        write_leaderboard(study, config.folder, str(config.metric), plots=plots)


def _remove_leftovers(folder: Path) -> None:
    """Removes the folds of killed workers; a trial removes its own at their end."""
    from train.folders.lock import FolderLock

    for fold in folder.glob("runs/*/fold-*"):
        with contextlib.suppress(ValueError), FolderLock(fold.parent, "--sweep-dir"):
            shutil.rmtree(fold)


def _claim(config: SweepConfig, runner: TrialRunner) -> dict[str, Any]:
    """Writes `sweep.json`, or checks that the folder belongs to this sweep; what it holds.

    Raises:
      ValueError: it belongs to another; names what differs.
    """
    asked = {
        "settings": config.fixed.to_dict(),
        "named": list(config.named),
        "sampler": config.sampler,
        "metric": config.metric,
        "prune": config.prune,
        "data_fingerprint": runner.opened.fingerprint,
    }
    file = config.folder / "sweep.json"
    if file.exists():
        try:
            stored = dict(read_json(file))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"sweep: {file} expected the settings of a sweep, received something else "
                f"({error}). Choose another --sweep-dir"
            ) from error
        _check_same(str(config.folder), asked, stored)
    else:
        write_json(file, asked)
    return asked


def _check_same(where: str, asked: dict[str, Any], stored: dict[str, Any]) -> None:
    differing = [
        f"{key}: {old.get(key)!r}, now {value!r}"
        for new, old in ((asked, stored), (asked["settings"], stored.get("settings")))
        for key, value in new.items()
        if key != "settings" and isinstance(old, dict) and old.get(key) != value
    ]
    if differing or not isinstance(stored.get("settings"), dict):
        raise ValueError(
            f"sweep: {where} belongs to a sweep with other settings ({', '.join(differing)}). "
            "Choose another --sweep-dir"
        )


def _print_trial(
    study: optuna.Study, number: int, done: int, config: SweepConfig, left: float
) -> None:
    import optuna

    trials = study.get_trials(deepcopy=False)
    ended, this = optuna.trial.TrialState.COMPLETE, trials[number]
    value = f"{this.value:.4f}" if this.state == ended else "stopped"
    best = f"{study.best_value:.4f}" if any(t.state == ended for t in trials) else "-"
    print(
        f"  {done}/{config.trials}  {config.metric} {value}  best {best}  "
        f"{this.user_attrs['seconds']:.1f} s, {left / 60:.1f} min left",
        flush=True,
    )


def run_command() -> int:
    """`main` as a command: SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return main()


if __name__ == "__main__":
    sys.exit(run_command())
