"""Command line: many settings of a model, each cross-validated inside the training split.

    python -m train.sweep --dataset fetal_health/kaggle --model mlp_report --trials 88

The split test is never read. Every setting that is named stays as it is; the others of
`train.search.spaces` are searched. The same command goes on where an interrupted one was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from records.system.command import run_as_command
from records.system.json_file import read_json
from records.system.writing import check_output, write_atomically
from train.measures.metrics import FIGURES
from train.settings.config import RESULT_FIELDS, TrainConfig
from train.settings.flags import add_flags, parse_settings

if TYPE_CHECKING:
    import optuna

    from train.search.trial import TrialRunner

SAMPLERS = ("tpe", "random")
_FOLDS = 5
_NEVER_STOPPED_BEFORE = 4  # of the points of train.search.trial
_STARTUP_TRIALS = 10  # drawn at random before the guided ones, and never stopped early


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A sweep.

    Attributes:
      fixed: settings of all trials.
      named: names of the settings that the command line gave: not searched.
      trials: how many, stopped ones included.
      sampler: `tpe` (guided: Bergstra et al. 2011) or `random`.
      metric: of the validation examples, mean over the folds; the loss is made small, others large.
      prune: stop trials that are worse than the median of the others at the same epoch.
      folder: where everything goes.
    """

    fixed: TrainConfig
    named: tuple[str, ...]
    trials: int
    sampler: str
    metric: str
    prune: bool
    folder: Path


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
    add("--sampler", choices=SAMPLERS, default="tpe", help="guided or random (default: tpe)")
    add(
        "--metric",
        choices=FIGURES,
        default="weighted_f1",
        help="what is made best, mean over the folds (default: weighted_f1)",
    )
    add(
        "--prune",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="stop trials that are worse than the median of the others (default: on)",
    )
    add("--sweep-dir", metavar="FOLDER", help="default: sweeps/<set>-<model>-<sampler>")
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
    name = fixed.dataset.strip("/").replace("/", "-")
    folder = own["sweep_dir"] or f"sweeps/{name}-{fixed.model or 'default'}-{own['sampler']}"
    return SweepConfig(
        fixed, named, own["trials"], own["sampler"], own["metric"], own["prune"], Path(folder)
    )


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
      ValueError: settings that do not fit the data, or a folder of another sweep, or one in which
        another process works.
      FileNotFoundError: the set is not there.
    """
    import optuna

    from train.engine.console import print_data
    from train.folders.lock import FolderLock
    from train.search.leaderboard import write_leaderboard
    from train.search.trial import TrialRunner

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    check_output(config.folder, "sweep", "--sweep-dir", is_folder=True)
    runner = TrialRunner(config.fixed, config.named, config.folder, config.metric)
    config.folder.mkdir(parents=True, exist_ok=True)
    # Before anything in it is touched: the folds of a sweep that is at work lie there.
    lock = FolderLock(config.folder, "--sweep-dir")
    _claim(config, runner)
    # A database in the folder: every trial is kept as soon as it is told, however the sweep ends.
    study = optuna.create_study(
        storage=f"sqlite:///{config.folder / 'study.db'}",
        study_name="sweep",
        direction="minimize" if config.metric == "loss" else "maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_STARTUP_TRIALS, n_warmup_steps=_NEVER_STOPPED_BEFORE)
        if config.prune
        else optuna.pruners.NopPruner(),
    )
    # A trial removes its folds' folders at their end: what is here was left by a killed sweep.
    for killed in config.folder.glob("runs/*/fold-*"):
        shutil.rmtree(killed)
    done = _clean(study)
    print_data(runner.fixed.model, runner.opened.schema)
    print(
        f"  {config.trials} trials of {runner.fixed.folds} folds, {done} done before; sampler "
        f"{config.sampler}, {config.metric} -> {config.folder}",
        flush=True,
    )
    began = time.perf_counter()
    for number in range(done, config.trials):
        study.sampler = _make_sampler(config, number)
        run_trial(study, runner)
        spent = time.perf_counter() - began
        # By the trials of this start alone: those before may have run on another machine.
        left = spent / (number + 1 - done) * (config.trials - number - 1)
        _print_trial(study, number + 1, config, left)
        write_leaderboard(study, config.folder, config.metric, plots=False)
    write_leaderboard(study, config.folder, config.metric, plots=True)
    lock.release()
    print(f"{time.perf_counter() - began:.0f} s. Leaderboard, plots: {config.folder}")


def run_trial(study: optuna.Study, runner: TrialRunner) -> None:
    """Asks for settings, trains them and tells what they are worth."""
    import optuna

    from train.step.objective import Diverged

    trial = study.ask()
    began = time.perf_counter()
    try:
        found = runner.run(trial)
    except (optuna.TrialPruned, Diverged) as end:
        trial.set_user_attr("seconds", time.perf_counter() - began)
        trial.set_user_attr("diverged", isinstance(end, Diverged))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    trial.set_user_attr("seconds", time.perf_counter() - began)
    for name, values in found.items():
        trial.set_user_attr(name, values)
    values = found[runner.metric]
    study.tell(trial, sum(values) / len(values))


def _make_sampler(config: SweepConfig, number: int) -> Any:
    """A sampler whose draws depend on seed and number alone: a resumed sweep draws the same."""
    import optuna

    from records.ordering.order import mix64

    seed = mix64(config.fixed.seed, number) % 2**32
    if config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=_STARTUP_TRIALS, multivariate=True, group=True
    )


def _clean(study: optuna.Study) -> int:
    """Takes trials that an end cut short for failed; the number of the others."""
    import optuna

    # Failed ones do not count: the trial that was cut short is drawn anew, with the same seed.
    states = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
    return len(study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED)))


def _claim(config: SweepConfig, runner: TrialRunner) -> None:
    """Writes `sweep.json`, or checks that the folder belongs to this sweep.

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
        differing = [key for key in asked if stored.get(key) != asked[key]]
        if differing:
            raise ValueError(
                f"sweep: {config.folder} expected a sweep with the same "
                f"{', '.join(differing)}, received another one's folder. Choose another --sweep-dir"
            )
        return
    write_atomically(file, (json.dumps(asked, indent=2) + "\n").encode())


def _print_trial(study: optuna.Study, done: int, config: SweepConfig, left: float) -> None:
    import optuna

    trials = study.get_trials(deepcopy=False)
    ended = optuna.trial.TrialState.COMPLETE
    value = f"{trials[-1].value:.4f}" if trials[-1].state == ended else "stopped"
    best = f"{study.best_value:.4f}" if any(t.state == ended for t in trials) else "-"
    print(
        f"  {done}/{config.trials}  {config.metric} {value}  best {best}  "
        f"{trials[-1].user_attrs['seconds']:.1f} s, {left / 60:.1f} min left",
        flush=True,
    )


def run_command() -> int:
    """`main` as a command: SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return main()


if __name__ == "__main__":
    sys.exit(run_command())
