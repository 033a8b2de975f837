"""One trial of a sweep: settings from the search space, trained on every fold."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from records.opened import open_set
from train.devices.strategy import make_cluster, set_up_devices
from train.engine.whole_run import train_and_evaluate
from train.measures.metrics import Metrics, metrics_from_logits
from train.search.folds_at_once import can_train_together, train_folds
from train.settings.command_line import RUN, format_command
from train.settings.config import TrainConfig
from train.settings.prepare import prepare
from train.settings.resolve import resolve
from train.settings.spaces import SPACES, Draws

if TYPE_CHECKING:
    import optuna

# Of every fold, kept with the trial.
FIGURES = ("loss", "accuracy", "weighted_f1")
# The pruner compares trials at so many points of their training, whatever their epochs: a
# falling learning rate makes 20 of 20 epochs another thing than 20 of 40.
POINTS = 20


class TrialRunner:
    """Trains trials on one set.

    Attributes:
      fixed: settings of all trials, resolved.
      opened: the set.
      metric: one of `FIGURES`, told to the pruner.
    """

    def __init__(self, fixed: TrainConfig, named: tuple[str, ...], folder: Path, metric: str):
        """Opens the set.

        Raises:
          ValueError: settings that do not fit it.
          FileNotFoundError: it is not there.
        """
        set_up_devices(fixed.cpu_devices, fixed.deterministic)
        self._cluster = make_cluster(fixed.strategy, fixed.cpu_devices)
        directory = prepare(fixed.dataset, fixed.data_dir, fixed.manual_dir)
        self.opened = open_set(directory, feature=fixed.feature)
        self.fixed = resolve(fixed, self.opened.schema)
        self._asked, self._named, self._folder, self.metric = fixed, named, folder, metric

    def settings(self, trial: optuna.Trial) -> tuple[TrainConfig, TrainConfig]:
        """The settings that a trial draws: as one would ask for them, and resolved."""
        named = {name: getattr(self.fixed, name) for name in self._named}
        drawn = SPACES[str(self.fixed.model)](Draws(trial, named))
        free = {name: value for name, value in drawn.items() if name not in named}
        trial.set_user_attr("drawn", free)
        config = dataclasses.replace(self._asked, model=self.fixed.model, **drawn)
        return config, resolve(config, self.opened.schema)

    def run(self, trial: optuna.Trial) -> dict[str, list[float]]:
        """Trains a trial on every fold.

        Returns:
          The figures of `FIGURES`, one number per fold.

        Raises:
          optuna.TrialPruned: it is worse than others at the same point.
          Diverged: the loss is no number any more.
        """
        asked, config = self.settings(trial)
        trial.set_user_attr("settings", config.to_json())
        again = format_command(RUN, json.loads(asked.to_json()), ("folds", "fold"))
        trial.set_user_attr("command", again)
        if can_train_together(config, self.opened.schema):
            found = self._run_together(config, trial)
        else:
            # Resolved ones would be resolved again, and defaults taken for what was asked for.
            found = self._run_apart(asked, trial)
        return {name: [float(getattr(m, name)) for m in found] for name in FIGURES}

    def _run_together(self, config: TrainConfig, trial: optuna.Trial) -> list[Metrics]:
        def report(epoch: int, found: list[Metrics]) -> None:
            self._report(trial, epoch, int(config.epochs or 1), found)

        pairs = train_folds(config, self.opened, self._cluster, report)
        return [metrics_from_logits(logits, labels) for labels, logits in pairs]

    def _run_apart(self, config: TrainConfig, trial: optuna.Trial) -> list[Metrics]:
        """Each fold as a run of its own, one after the other; what they print goes to a log."""
        found: list[Metrics] = []
        folder = self._folder / "runs" / str(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "log.txt", "a", encoding="utf-8") as log:
            for i in range(int(config.folds or 0)):
                one = dataclasses.replace(config, fold=i, run_dir=str(folder / f"fold-{i}"))
                try:
                    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                        metrics = train_and_evaluate(one)["validation"]
                finally:  # the settings make it anew; it may be large
                    shutil.rmtree(one.run_dir or "", ignore_errors=True)
                confusion = np.array(metrics["confusion_matrix"])
                figures = {name: metrics[name] for name in FIGURES}
                found.append(Metrics(**figures, recall=(), confusion=confusion))
                self._report(trial, i + 1, int(config.folds or 1), found)
        return found

    def _report(self, trial: optuna.Trial, done: int, of: int, found: list[Metrics]) -> None:
        """Tells the mean so far at each new one of the `POINTS`."""
        import optuna

        point = done * POINTS // of
        if point == (done - 1) * POINTS // of:
            return
        trial.report(float(np.mean([getattr(m, self.metric) for m in found])), point)
        if trial.should_prune():
            raise optuna.TrialPruned
