"""Command line: RESULTS.md from the files that cross-validations, baselines and runs left.

    python -m train.results --cross-validations cross_validation/*.json \
        --baselines baselines/*.json --runs runs/dcn runs/gru

No figure in it is typed by hand. A run's row holds what `train.evaluate` wrote for its splits; a
split that was not evaluated stays empty.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from records.system.command import run_as_command, with_home
from records.system.json_file import read_json
from records.system.writing import check_output, escape_cell, markdown_table, write_atomically
from train.folders.stored_config import read_metrics, read_settings, times_read
from train.measures.folds_table import format_table
from train.settings.resolved import KEPT_FROM_FIRST_START

_ROLES = ("train", "validation", "test", "test_new")
_HEAD = ["model", "seed", "training accuracy", "validation accuracy, F1", "test accuracy, F1"]
_HEAD += [
    "95 % interval of test accuracy",
    "test, new pictures only",
    "times test was read",
    "minutes",
]


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.results",
        description="Writes RESULTS.md from files that other commands left.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--cross-validations", type=Path, nargs="*", default=[], metavar="FILE")
    add("--baselines", type=Path, nargs="*", default=[], metavar="FILE")
    add("--runs", type=Path, nargs="*", default=[], metavar="RUN")
    add("--output", type=Path, default=Path("RESULTS.md"), metavar="FILE")
    options = parser.parse_args(with_home(arguments))
    if not options.cross_validations and not options.baselines and not options.runs:
        parser.error("expected one of --cross-validations, --baselines and --runs at least")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Writes the page; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _write_page(options))


def _write_page(options: argparse.Namespace) -> None:
    read = [*options.cross_validations, *options.baselines]
    read += [Path(folder) / "metrics.json" for folder in options.runs]
    if any(f.exists() and options.output.exists() and options.output.samefile(f) for f in read):
        raise ValueError(f"results: --output {options.output} is read, and would be lost")
    check_output(options.output, "results")
    page = format_page(
        [_read(file, "cross_validate") for file in options.cross_validations],
        [_read(file, "baseline") for file in options.baselines],
        [_read_run(folder) for folder in options.runs],
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.output, page.encode(errors="backslashreplace"))
    print(f"wrote {options.output}")


def format_page(
    crossed: list[dict[str, Any]], baselines: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> str:
    """The page as Markdown, a part for each set.

    `crossed` and `baselines` are what those commands' files hold; `runs` have, by folder, `config`
    and `metrics` of a run's files, `evaluations` and `times_read`.
    """
    names = [_title(one) for one in (*crossed, *baselines, *runs)]
    lines = [
        "# Results",
        "",
        "Written by `python -m train.results` from the files of the commands below. What the",
        "columns mean, and how settings were chosen:",
        "[docs/notes/results.md](docs/notes/results.md).",
    ]
    for name in dict.fromkeys(names):
        lines += ["", f"## {name}"]
        for same in _same_folds([one for one in crossed if _title(one) == name]):
            lines += _cross_validation(same)
        fixed = [one for one in baselines if _title(one) == name]
        trained = [run for run in runs if _title(run) == name]
        if fixed or trained:
            lines += _runs(fixed, trained)
    return "\n".join(lines) + "\n"


def _title(found: dict[str, Any]) -> str:
    """The set of what a file or a run holds, and its classes where they were chosen."""
    classes = (found.get("settings") or found.get("config") or found).get("classes")
    dataset = found["metrics"]["dataset"] if "metrics" in found else found["dataset"]
    return f"{dataset}, classes {'; '.join(classes)}" if classes else str(dataset)


def _same_folds(crossed: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The cross-validations whose rows can stand in one table, together.

    A model with other settings goes into a table of its own: the name would stand for both.
    """
    tables: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in crossed:
        settings = one["settings"]
        # What decides which examples a fold holds; the last number keeps tables of one key apart.
        key: tuple[Any, ...] = (one["data_fingerprint"], settings["folds"], settings["pool_splits"])
        key += (settings["group_folds"], settings["feature"], tuple(one["seeds"]), 0)
        while settings["model"] in [same["settings"]["model"] for same in tables.get(key, [])]:
            key = (*key[:-1], key[-1] + 1)
        tables.setdefault(key, []).append(one)
    return list(tables.values())


def _cross_validation(found: list[dict[str, Any]]) -> list[str]:
    """One table of files with the same folds, and the commands."""
    from train.settings.command_line import CROSS_VALIDATE, format_command

    settings, seeds = found[0]["settings"], found[0]["seeds"]
    systems = {name: rows for one in found for name, rows in one["systems"].items()}
    splits = "all splits together" if settings["pool_splits"] else "the split train"
    if not settings["group_folds"]:
        splits += ", groups parted"
    minutes = sum(r["seconds"] for rows in systems.values() for r in rows) / 60
    lines = [
        "",
        f"{settings['folds']} folds of {splits}, {len(seeds)} seed{'s' * (len(seeds) > 1)}: mean "
        f"± deviation of {len(seeds) * settings['folds']} values. {minutes:.1f} minutes in all.",
        *_epochs_of_folds(found),
        "",
        format_table({"systems": systems}),
        "",
    ]
    for one in found:
        command = format_command(CROSS_VALIDATE, one["settings"], omit=("seed", "fold"))
        flags = f"--seeds {' '.join(map(str, seeds))}"
        if len(one["systems"]) == 1:
            flags += " --no-baselines"
        lines.append(f"    {command} {flags}")
    return lines


def _epochs_of_folds(found: list[dict[str, Any]]) -> list[str]:
    """Which epoch of a fold counts, in words: a line for each rule."""
    rules: dict[str, list[str]] = {}
    for one in found:
        settings = one["settings"]
        rule = "the last epoch counts, so the folds choose nothing."
        if settings["early_stopping"]:
            rule = f"the epoch of the best {settings['monitor']} on the fold counts: it flatters."
        rules.setdefault(rule, []).append(f"`{settings['model']}`")
    return [f"Of {', '.join(models)} {rule}" for rule, models in rules.items()]


def _weights_of_runs(names: list[str], alike: list[list[dict[str, Any]]]) -> list[str]:
    """Which epoch's weights a run is measured with, in words: a line for each rule."""
    rules: dict[str, list[str]] = {}
    for name, same in zip(names, alike, strict=True):
        settings = same[0]["config"]
        rule = "the last epoch."
        if settings["early_stopping"]:
            rule = f"the epoch of the best validation {settings['monitor']}; test chose nothing."
        rules.setdefault(rule, []).append(name)
    if len(rules) == 1:
        return [f"Weights: {next(iter(rules))}"]
    return [f"Weights of {', '.join(runs)}: {rule}" for rule, runs in rules.items()]


def _runs(baselines: list[dict[str, Any]], runs: list[dict[str, Any]]) -> list[str]:
    from train.settings.command_line import RUN, format_command

    rows = [_HEAD]
    for one in baselines:
        for name, roles in one["systems"].items():
            cells = [name, one["seed"], _accuracy(roles["train"]), _pair(roles["validation"])]
            cells += [_pair(roles.get("test")), "", _pair(roles.get("test_new"))]
            cells.append("1" if "test" in roles else "")
            rows.append([*cells, f"{roles['seconds']['fit'] / 60:.1f}"])
    alike = _but_for_seed(runs)
    names = _names(alike)
    for name, same in zip(names, alike, strict=True):
        rows += [[name, run["metrics"]["seed"], *_cells(run)] for run in same]
        if len(same) > 1:
            rows.append([name, "mean", *_mean(same)])
    # A column that is empty for every row of a set is left out.
    used = [i for i in range(len(_HEAD)) if any(row[i] != "" for row in rows[1:])]
    lines = ["", *markdown_table([[row[i] for i in used] for row in rows])]
    for rule in _weights_of_runs(names, alike):
        lines += ["", rule]
    # Files of earlier versions hold no command.
    lines += [
        line for one in baselines if "command" in one for line in ("", f"    {one['command']}")
    ]
    for name, same in zip(names, alike, strict=True):
        for run in same:
            lines += ["", f"    {format_command(RUN, run['config'], omit=('fold',))}"]
        lines += _confusion(name, same[0])
    return lines


def _but_for_seed(runs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of the same settings, the seed apart, together and by seed."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: run["metrics"]["seed"]):
        groups.setdefault(json.dumps(run["config"] | {"seed": None}, sort_keys=True), []).append(
            run
        )
    # In the order in which the runs were named.
    return sorted(groups.values(), key=lambda same: runs.index(same[0]))


def _metrics(run: dict[str, Any], role: str) -> dict[str, Any] | None:
    """The figures of a split, where it was evaluated."""
    found: dict[str, Any] | None = run["evaluations"].get(role, {}).get("metrics")
    return found


def _cells(run: dict[str, Any]) -> list[str]:
    """The cells of a run from training accuracy on."""
    test = run["evaluations"].get("test")
    limits = test["intervals"]["accuracy"] if test else None
    return [
        _accuracy(_metrics(run, "train")),
        _pair(_metrics(run, "validation")),
        _pair(_metrics(run, "test")),
        f"{limits[0]:.3f} to {limits[1]:.3f}" if limits else "",
        _pair(_metrics(run, "test_new")),
        _times_read(run),
        f"{sum(run['metrics']['seconds'].values()) / 60:.1f}",
    ]


def _mean(runs: list[dict[str, Any]]) -> list[str]:
    """The cells of several seeds' mean; empty where one of them was not evaluated."""
    of: dict[str, dict[str, float] | None] = {}
    for role in _ROLES:
        found = [figures for run in runs if (figures := _metrics(run, role))]
        # A mean of some of the seeds would look like one of all.
        if len(found) < len(runs):
            of[role] = None
            continue
        of[role] = {k: sum(f[k] for f in found) / len(found) for k in ("accuracy", "weighted_f1")}
    cells = [_accuracy(of["train"]), _pair(of["validation"]), _pair(of["test"]), ""]
    return [*cells, _pair(of["test_new"]), "", ""]


def _times_read(run: dict[str, Any]) -> str:
    """How often test was read: by `train.run --evaluate-test`, and by `train.evaluate`."""
    return str(("test" in run["metrics"]) + run["times_read"] or "")


def _confusion(name: str, run: dict[str, Any]) -> list[str]:
    """The confusion matrix of test: a row per true class."""
    test = run["evaluations"].get("test")
    if not test:
        return []
    classes = list(test["metrics"]["recall"])
    seed = run["metrics"]["seed"]
    head = f"{name}, seed {seed}, test: rows true, columns predicted"
    rows = [[head, *map(escape_cell, classes), "recall"]]
    for one, counts in zip(classes, test["confusion_matrix"], strict=True):
        recall = test["metrics"]["recall"][one]
        rows.append([escape_cell(one), *counts, "" if recall is None else f"{recall:.3f}"])
    return ["", *markdown_table(rows)]


def _names(alike: list[list[dict[str, Any]]]) -> list[str]:
    """A name for each row: the model, and the flags in which it differs from others of that model.

    With the input feature where it is not the set's usual one.
    """
    from train.settings.command_line import format_flags

    models = [(same[0]["metrics"]["model"], same[0]["config"]["feature"]) for same in alike]
    flags = [format_flags(same[0]["config"], ("seed", "fold", "feature")) for same in alike]
    names = []
    for model, own in zip(models, flags, strict=True):
        others = [flags[i] for i, other in enumerate(models) if other == model]
        apart = [flag for flag in own if not all(flag in other for other in others)]
        # Nothing formats inside a code span, but a "|" would end the cell.
        flagged = " ".join([model[0], *apart]).replace("`", "'").replace("|", r"\|")
        name = f"`{' '.join(flagged.split())}`"
        names.append(f"{name} on {escape_cell(model[1])}" if model[1] else name)
    return names


def _accuracy(metrics: dict[str, Any] | None) -> str:
    return f"{metrics['accuracy']:.4f}" if metrics else ""


def _pair(metrics: dict[str, Any] | None) -> str:
    return f"{metrics['accuracy']:.4f}, {metrics['weighted_f1']:.4f}" if metrics else ""


# What a value of another kind than expected raises where it is written into the page.
_WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError)


def _read(file: Path, command: str) -> dict[str, Any]:
    """What a file of `train.cross_validate` or `train.baseline`, the `command`, holds."""
    try:
        found = dict(read_json(file))
        is_crossed = command == "cross_validate"
        if is_crossed:
            read_settings(found["settings"])
        # Alone, so that what does not fit is known to be of this file.
        format_page([found] * is_crossed, [found] * (not is_crossed), [])
        return found
    except _WRONG as error:
        raise ValueError(
            f"results: {file} expected what train.{command} --output wrote, received something "
            f"else ({type(error).__name__}: {error})"
        ) from error


def _read_run(folder: Path) -> dict[str, Any]:
    from train.folders.finished_run import open_run

    run = open_run(folder)
    # Two runs that asked for the same may still have trained otherwise.
    kept = {name: getattr(run.settings, name) for name in KEPT_FROM_FIRST_START}
    config = run.settings.to_dict() | {"data_fingerprint": run.fingerprint, "resolved": kept}
    found: dict[str, Any] = {"config": config, "metrics": read_metrics(folder), "evaluations": {}}
    found["times_read"] = times_read(folder / "evaluation-test")
    for file in sorted(folder.glob("evaluation-*/evaluation.json")):
        split = file.parent.name.removeprefix("evaluation-")
        try:
            alone = found | {"evaluations": {split: dict(read_json(file))}}
            float(alone["evaluations"][split]["metrics"]["accuracy"])
            _cells(alone)
            _mean([alone])
            _confusion("", alone)
        except _WRONG as error:
            raise ValueError(
                f"results: {file} expected what train.evaluate wrote, received something else "
                f"({type(error).__name__}: {error}). Write it anew: "
                f"python -m train.evaluate {shlex.quote(str(folder))} --split {shlex.quote(split)}"
            ) from error
        found["evaluations"] |= alone["evaluations"]
    return found


if __name__ == "__main__":
    sys.exit(main())
