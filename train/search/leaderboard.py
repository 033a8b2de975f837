"""What a sweep found: a table like the report's, TensorBoard's HPARAMS page, plots."""

import csv
import functools
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from records.system.json_file import write_json
from records.system.writing import write_atomically
from train.measures.metrics import FIGURES, MONITORED, SMALL_IS_GOOD
from train.measures.plots import draw_safely
from train.search.places import DRAWN

_SHOWN = 10


def write_leaderboard(study: optuna.Study, folder: Path, metric: str, plots: bool) -> None:
    """Writes `leaderboard.csv`, `best.json` and, at the end, the plots and TensorBoard's page.

    `plots`: also the figures, which take seconds.
    """
    trials = sorted_trials(study, metric)
    figures = _figures(trials)
    rows = [_row(trial, figures) for trial in trials]
    text = io.StringIO()
    # Trials may have drawn other settings: the columns are those of all of them.
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "leaderboard.csv", text.getvalue().encode())
    if not trials or trials[0].state != optuna.trial.TrialState.COMPLETE:
        return
    best = json.loads(trials[0].user_attrs["settings"])
    write_json(folder / "best.json", best)
    if plots:
        print(format_table(rows[:_SHOWN], figures))
        print(f"the best again: {trials[0].user_attrs['command']}")
        _write_plots(study, folder)
        _write_hparams(trials, folder, figures)


def sorted_trials(study: optuna.Study, metric: str) -> list[optuna.trial.FrozenTrial]:
    """Finished trials, the best first, those that were stopped last."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False, states=states)
    sign = 1 if metric in SMALL_IS_GOOD else -1

    def key(trial: optuna.trial.FrozenTrial) -> tuple[bool, float, int]:
        # A pruned trial has the value of its last report, which is not of all folds and epochs.
        value = trial.value if trial.state == states[0] else None
        return value is None, 0.0 if value is None else sign * value, trial.number

    return sorted(trials, key=key)


def _figures(trials: list[optuna.trial.FrozenTrial]) -> list[str]:
    """Those of the trials' task, in their order."""
    found = [name for name in MONITORED if any(name in t.user_attrs for t in trials)]
    return found or list(FIGURES)


def _row(trial: optuna.trial.FrozenTrial, names: list[str]) -> dict[str, Any]:
    """One line: id, state, seconds, mean and deviation over the folds of every figure, settings."""
    row: dict[str, Any] = {
        "id": trial.number,
        "state": "diverged" if trial.user_attrs.get("diverged") else trial.state.name.lower(),
        "seconds": f"{trial.user_attrs.get('seconds', float('nan')):.1f}",
    }
    for name in names:
        values = trial.user_attrs.get(name)
        row[name] = "" if values is None else f"{np.mean(values):.4f}"
        row[f"{name}_deviation"] = "" if values is None else f"{np.std(values):.4f}"
    return row | trial.user_attrs[DRAWN]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def format_table(rows: list[dict[str, Any]], names: list[str]) -> str:
    """The first columns of the leaderboard, aligned."""
    titles = (name.replace("_", " ").replace("f1", "F1") for name in names)
    header = ("id", "seconds", *titles, "settings")
    lines = [header]
    shown = ("id", "state", "seconds", *names, *(f"{name}_deviation" for name in names))
    for row in rows:
        figures = [f"{row[n]} ± {row[f'{n}_deviation']}" if row[n] else row["state"] for n in names]
        settings = ", ".join(f"{k} {_text(v)}" for k, v in row.items() if k not in shown)
        lines.append((str(row["id"]), row["seconds"], *figures, settings))
    widths = [max(len(line[i]) for line in lines) for i in range(len(header) - 1)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]])
        for line in lines
    )


def _write_plots(study: optuna.Study, folder: Path) -> None:
    """`history.png` and, of two finished trials or more that differ, `importance.png`."""
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as draw

    states = (optuna.trial.TrialState.COMPLETE,)
    complete = study.get_trials(deepcopy=False, states=states)
    figures: dict[str, Any] = {"history": draw.plot_optimization_history}
    searched = _searched(complete)
    # Without any difference there is nothing that a setting could explain.
    if len({t.value for t in complete}) > 1 and len(searched) > 1:
        figures["importance"] = functools.partial(draw.plot_param_importances, params=searched)
    for name, plot in figures.items():

        def save(plot: Any = plot) -> bytes:
            plot(study)
            picture = io.BytesIO()
            plt.savefig(picture, format="png", dpi=120, bbox_inches="tight")
            return picture.getvalue()

        file = f"{name}.png"
        draw_safely(file, save, functools.partial(write_atomically, folder / file))
        plt.close()


def _searched(trials: list[optuna.trial.FrozenTrial]) -> list[str]:
    """What every trial drew, and not all alike."""
    common = set.intersection(*(set(t.params) for t in trials)) if trials else set()
    return sorted(n for n in common if len({t.params[n] for t in trials}) > 1)


def _write_hparams(trials: list[optuna.trial.FrozenTrial], folder: Path, names: list[str]) -> None:
    """A run per trial for TensorBoard's HPARAMS page, written anew."""
    import tensorflow as tf

    from train.engine.tensorboard_files import write_hparams

    pages = folder / "tensorboard"
    # A writer would add a second events file to a trial of the page before.
    shutil.rmtree(pages, ignore_errors=True)
    for trial in trials:
        if trial.user_attrs.get(names[0]) is None:
            continue
        with tf.summary.create_file_writer(str(pages / str(trial.number))).as_default(step=0):
            drawn = trial.user_attrs[DRAWN].items()
            shown = {k: v if isinstance(v, int | float) else _text(v) for k, v in drawn}
            write_hparams(shown, str(trial.number))
            for name in names:
                tf.summary.scalar(f"validation/{name}", np.mean(trial.user_attrs[name]))
