"""One trial of a sweep: settings from the search space, trained on every fold."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from records.sets.target import MULTI_LABEL, SINGLE_LABEL
from train.devices.strategy import make_cluster, set_up_devices
from train.engine.whole_run import prepare_and_open, train_settings
from train.folders.lock import FolderLock
from train.measures.metrics import CHOSEN_BY, FIGURES_OF, AnyMetrics, metrics_from_logits
from train.measures.target_metrics import check_monitor, metrics_of_classes
from train.search.folds_at_once import can_train_together, train_folds
from train.search.places import DRAWN
from train.search.spaces import SPACES, Draws
from train.settings.command_line import RUN, format_command
from train.settings.config import TrainConfig
from train.settings.resolve import OF_ONE_CLASS, resolve
from train.settings.resolved import Settings

if TYPE_CHECKING:
    import optuna

# The pruner compares trials at so many points of their training, whatever their epochs: a
# falling learning rate makes 20 of 20 epochs another thing than 20 of 40.
POINTS = 20
_Figures = dict[str, float]


class TrialRunner:
    """Trains trials on one set."""

    def __init__(
        self, asked: TrainConfig, named: tuple[str, ...], folder: Path, metric: str | None = None
    ):
        """Opens the set; without `metric` it is `CHOSEN_BY` of the task.

        `named` are the settings that are not searched; `asked` has what all trials have in common,
        with `folds`.

        Raises:
          ValueError: settings that do not fit it.
          FileNotFoundError: it is not there.
        """
        set_up_devices(asked.cpu_devices, asked.deterministic)
        self._cluster = make_cluster(asked.strategy, asked.cpu_devices)
        self.opened = prepare_and_open(asked, self._cluster)
        task = self.opened.schema.task
        # One of the task's `FIGURES_OF`, told to the pruner.
        self.metric = metric or CHOSEN_BY[task]
        check_monitor(task, self.metric, "--metric")
        self.fixed = resolve(asked, self.opened.schema, self._cluster)
        # What is refused with other targets is not drawn.
        refused = OF_ONE_CLASS if task != SINGLE_LABEL else ()
        self._named, self._folder = (*named, *refused), folder

    def settings(self, trial: optuna.Trial) -> Settings:
        """The settings that a trial draws."""
        named = {name: getattr(self.fixed, name) for name in self._named}
        drawn = SPACES[self.fixed.model](Draws(trial, named))
        free = {name: value for name, value in drawn.items() if name not in named}
        trial.set_user_attr(DRAWN, free)
        # Resolved like any run's: what was drawn is checked, too.
        asked = dataclasses.replace(self.fixed.asked, model=self.fixed.model, **drawn)
        return resolve(asked, self.opened.schema, self._cluster)

    def run(self, trial: optuna.Trial) -> dict[str, list[float]]:
        """Trains a trial on every fold.

        Returns:
          The task's figures, one number per fold.

        Raises:
          optuna.TrialPruned: it is worse than others at the same point.
          Diverged: the loss is NaN or infinite.
        """
        settings = self.settings(trial)
        trial.set_user_attr("settings", json.dumps(settings.to_dict(), indent=2, sort_keys=True))
        again = format_command(
            RUN, settings.asked.to_dict(), omit=("folds", "fold"), data_dir=settings.data_dir
        )
        trial.set_user_attr("command", again)
        together = can_train_together(settings, self.opened.schema)
        try:
            found = (self._run_together if together else self._run_apart)(settings, trial)
        finally:
            gc.collect()  # models refer to themselves, and hold the files and rows of their folds
        return {name: [float(one[name]) for one in found] for name in found[0]}

    def _run_together(self, settings: Settings, trial: optuna.Trial) -> list[_Figures]:
        def report(epoch: int, found: list[AnyMetrics]) -> None:
            self._report(trial, epoch, settings.epochs, [one.figures for one in found])

        pairs = train_folds(settings, self.opened, self._cluster, report)
        several = self.opened.schema.task == MULTI_LABEL
        measure: Any = metrics_of_classes if several else metrics_from_logits
        return [measure(logits, labels).figures for labels, logits in pairs]

    def _run_apart(self, settings: Settings, trial: optuna.Trial) -> list[_Figures]:
        """Each fold as a run of its own, one after the other; what they print goes to a log."""
        assert settings.folds is not None
        found: list[_Figures] = []
        folder = self._folder / "runs" / str(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder, "--sweep-dir")  # its folds are nobody else's to remove
        with open(folder / "log.txt", "a", encoding="utf-8") as log, lock:
            for i in range(settings.folds):
                run_dir = str(folder / f"fold-{i}")
                one = dataclasses.replace(settings, fold=i, run_dir=run_dir)
                try:
                    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                        began = time.perf_counter()
                        run = train_settings(one, self.opened, self._cluster, began)
                finally:  # the settings make it anew; it may be large
                    shutil.rmtree(run_dir, ignore_errors=True)
                    gc.collect()
                names = FIGURES_OF[self.opened.schema.task]
                found.append({name: run["validation"][name] for name in names})
                self._report(trial, i + 1, settings.folds, found)
        return found

    def _report(self, trial: optuna.Trial, done: int, of: int, found: list[_Figures]) -> None:
        """Tells the mean so far at each new one of the `POINTS`."""
        import optuna

        point = done * POINTS // of
        if point == (done - 1) * POINTS // of:
            return
        trial.report(float(np.mean([one[self.metric] for one in found])), point)
        if trial.should_prune():
            raise optuna.TrialPruned
