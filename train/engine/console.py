"""What a run prints: lines while it trains, and a table at its end."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models import check_model
from records.examples import AnyOrder, Examples
from records.mixed import MixedSet
from records.opened import OpenedSet
from records.ordering.splits import class_counts
from records.sets.schema import Schema
from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from records.system.progress import clock
from train.devices.strategy import Cluster
from train.engine.callbacks import NO_FIGURES
from train.folders.run_folder import RunFolder
from train.measures.metrics import FIGURES_OF
from train.settings.resolved import Settings

_MOST_CLASSES = 10  # named one by one
_SHOWN_CLASSES = 30  # of which each one's recall is printed
_LEAST_FALL = 0.005  # nats: a loss that falls by less is as good as it gets


def print_dataset_note(schema: Schema) -> None:
    """Says plainly when the data are generated."""
    if schema.metadata.get("generated"):
        name = schema.name.split("/")[0]
        print(
            f"{schema.name} is GENERATED data: its figures say nothing about the real task.\n"
            f"  Real data: --dataset {name}/kaggle --manual-dir FOLDER_OF_THE_DOWNLOADED_FILES"
        )


def print_data(model: str, schema: Schema) -> None:
    """What is trained on what: the set, its splits, the input and the class."""
    counts = ", ".join(f"{k} {v:,}" for k, v in schema.split_counts.items())
    numbers = "1 number" if schema.num_classes == 1 else f"{schema.num_classes} numbers"
    classes = numbers if schema.task == REGRESSION else f"{schema.num_classes} classes"
    print(f"{model} on {schema.name} ({counts}; {classes})")
    what = {SINGLE_LABEL: "class", MULTI_LABEL: "several classes at once", REGRESSION: "numbers"}
    print(
        f"  input {schema.input_name!r} ({schema.modality}), {what[schema.task]} "
        f"{schema.label_name!r}",
        flush=True,
    )
    if schema.names_note:
        print(f"  note: {schema.names_note}", flush=True)


def print_set(model: str, opened: OpenedSet, global_batch_size: int) -> None:
    """As `print_data`, with the shares of a mixture."""
    print_data(model, opened.schema)
    if isinstance(opened, MixedSet):
        for line in opened.describe(global_batch_size):
            print(f"  {line}")


def print_header(
    settings: Settings, opened: OpenedSet, cluster: Cluster, folder: RunFolder
) -> None:
    """One paragraph: what is trained, on what, where it is written."""
    print_set(settings.model, opened, settings.global_batch_size)
    print_run(settings, cluster, folder)


def print_arrays(model: str, data: tuple[Any, ...], examples: Mapping[str, Examples]) -> None:
    """As `print_data`, of arrays: `data` is (x, y, ...)."""
    x, y = (tf.nest.map_structure(np.asarray, part) for part in data[:2])
    shapes = [f"{a.dtype} [{', '.join(map(str, a.shape[1:]))}]" for a in tf.nest.flatten(x)]
    names = [f"{name!r} " for name in sorted(x)] if isinstance(x, dict) else [""] * len(shapes)
    inputs = ", ".join(map("{}{}".format, names, shapes))
    print(f"{model} on arrays\n  input {inputs}, target {y.dtype} {list(y.shape[1:])}")
    print(f"  cache device: they lie there\n{_name_roles(examples)}", flush=True)


def print_steps(order: AnyOrder) -> None:
    """How long an epoch is."""
    print(f"  {order.steps_per_epoch:,} steps of {order.global_batch_size} examples an epoch")


def print_run(settings: Settings, cluster: Cluster, folder: RunFolder) -> None:
    """Where it is trained and written, and when it ends."""
    compiled = "XLA" if settings.xla else "no XLA"
    print(
        f"  {cluster.name}, {cluster.num_replicas} replica{'s' * (cluster.num_replicas > 1)} on "
        f"{'GPU' if cluster.accelerator else 'CPU'}, {settings.precision}, {compiled}, "
        f"seed {settings.seed} -> {folder.place}"
    )
    if folder.is_stored:
        print(f"  written to {folder.path} first; checkpoints and the end are uploaded")
    first = settings.stages()[0]
    stops = f"ends after {first.early_stopping} without a better validation {first.monitor}"
    epochs = "1 epoch" if first.epochs == 1 else f"{first.epochs} epochs"
    print(f"  at most {epochs}" + f"; {stops}" * bool(first.early_stopping))
    if cluster.note:
        print(f"  {cluster.note}")
    if settings.freeze:
        print("  backbone frozen: its features are computed once (not augmented)")


def print_roles(examples: Mapping[str, Examples], class_names: tuple[str, ...]) -> None:
    """How many examples train and how many validate, and the classes that have too few."""
    print(_name_roles(examples))
    for role, fewest in (("train", 2), ("validation", 1)):
        labels = examples[role].subset_labels
        if labels.ndim == 1:
            counts = class_counts(labels, len(class_names))
        elif examples[role].schema.task == REGRESSION:
            continue
        else:
            counts = labels.sum(0).astype(int)
        few = [f"{class_names[i]} {counts[i]}" for i in np.flatnonzero(counts < fewest)]
        if few:
            more = f" and {len(few) - _MOST_CLASSES:,} more" if len(few) > _MOST_CLASSES else ""
            said = ", ".join(few[:_MOST_CLASSES]) + more
            print(f"  too few examples in {role} to say anything of the class: {said}")


def _name_roles(examples: Mapping[str, Examples]) -> str:
    roles = ", ".join(f"{role} {found.num_examples:,}" for role, found in examples.items())
    return f"  examples: {roles}"


def print_epoch(row: dict[str, Any], epochs: int, history: list[dict[str, Any]]) -> None:
    """The progress line of an epoch; time left if every epoch is trained."""
    steady = history[1:] or history  # the first epoch also traces and compiles
    mean = sum(r["seconds"] for r in steady) / len(steady)
    # Early stopping may end the run before.
    left = mean * (epochs - row["epoch"])
    said = {name: value for name, value in row.items() if name not in NO_FIGURES}
    train = {name: value for name, value in said.items() if not name.startswith("val_")}
    train.pop("learning_rate")
    train.pop("weighted_f1", None)  # of our own models: of validation alone
    validation = {k.removeprefix("val_"): v for k, v in said.items() if k.startswith("val_")}
    print(
        f"epoch {row['epoch']:3d}/{epochs}  {_name_figures(train)}"
        + f"validation: {_name_figures(validation)}" * bool(validation)
        + f"{row['examples_per_s']:>9,.0f} examples/s  at most {clock(left)} left"
        + (f"  {row['damaged']:,} damaged left out" if row.get("damaged") else "")
        + (f"  {row['skipped_steps']:,} steps skipped" if row.get("skipped_steps") else ""),
        flush=True,
    )


def _name_figures(figures: Mapping[str, Any]) -> str:
    """One after the other; a metric may have several numbers."""
    named = {"F1" if k == "weighted_f1" else k: np.ravel(v) for k, v in figures.items()}
    return "".join(f"{k} {' '.join(f'{x:.4f}' for x in v)}  " for k, v in named.items())


def describe_course(history: list[dict[str, Any]], settings: Settings) -> str:
    """How the validation loss went, in a line, and what to try; of the last stage's `history`."""
    losses = [row["val_loss"] for row in history]
    epochs, last = len(losses), losses[-1]
    best = min(range(epochs), key=losses.__getitem__)
    # Where the last quarter of the epochs began.
    before = losses[max(0, epochs - 1 - max(1, epochs // 4))]
    longer = "--fine-tune-epochs" if settings.unfreeze_from else "--epochs"
    if best == epochs - 1 and before - last > max(0.01 * last, _LEAST_FALL):
        return (
            f"the validation loss is still falling ({before:.4f} to {last:.4f} at the end): try "
            f"{longer} {2 * epochs}"
        )
    said = f"the validation loss was best at epoch {history[best]['epoch']}: {losses[best]:.4f}"
    if last <= 1.01 * losses[best]:
        return f"{said}, {last:.4f} at the end"
    kept = "the model has the weights of the best epoch"
    if settings.early_stopping and settings.monitor != "loss":
        kept += f" by {settings.monitor} (--monitor loss takes this one)"
    if not settings.early_stopping:
        kept = "the model has the last weights: --early-stopping 10 --monitor loss keeps the best"
    # 1,200 lyrics of 3 genres, accuracy on test: gru 0.56 and 0.58, TF-IDF 0.66.
    is_text = check_model(settings.model).modality == "text"
    beside = "; on few texts TF-IDF may be ahead: train.baseline measures it" * is_text
    return f"{said}, {last:.4f} at the end; {kept}{beside}"


def print_trace(trace: dict[str, Any] | None, steps: tuple[int, int]) -> None:
    """What the trace of `--profile` says; `steps` are those that were asked for."""
    if trace is None:
        first, last = steps
        said = f"no step of --profile {first},{last} was run: nothing was traced"
    elif trace["input_share"] is None:
        said = trace["conclusion"]
    else:
        said = (
            f"{100 * trace['input_share']:.1f} % of the traced steps waited for input "
            f"({trace['calls']} calls, {trace['call_ms']:.2f} ms each, {trace['input_ms']:.2f} ms "
            "of it input)"
        )
    print(f"profile: {said}")


def _format_recall(recall: dict[str, float | None]) -> str:
    """Of each class; of many classes the least ones."""
    shown, more = list(recall.items()), ""
    if len(shown) > _SHOWN_CLASSES:
        shown = sorted((x for x in shown if x[1] is not None), key=lambda x: x[1] or 0.0)[:5]
        more = f", the least of {len(recall):,}"
    # "-": a class without examples has no recall.
    return ", ".join(f"{k} {'-' if v is None else format(v, '.3f')}" for k, v in shown) + more


def _format_arithmetic(found: dict[str, Any]) -> str:
    """Of `metrics.json`: FLOPs of an example, FLOP/s, and the share of the devices' peak."""
    text = f"arithmetic: {_with_prefix(found['flops_per_example'])}FLOP an example"
    if found["flops_per_s"] is not None:
        text += f", {_with_prefix(found['flops_per_s'])}FLOP/s"
    if found["peak_share"] is not None:
        text += f", {100 * found['peak_share']:.3g} % of the peak"
    return text


def _with_prefix(number: float) -> str:
    """Three digits and a prefix: 8.2e9 is "8.2 G"."""
    power = min(max(int(np.log10(max(number, 1)) // 3), 0), 5)
    return f"{number / 1000**power:.3g} {['', 'k', 'M', 'G', 'T', 'P'][power]}"


def _print_table(task: str, roles: dict[str, Any]) -> None:
    if task == SINGLE_LABEL:
        print(f"\n{'':12}{'loss':>9}{'accuracy':>10}{'F1':>9}   recall per class")
        for role, m in roles.items():
            recall = _format_recall(m["recall"])
            print(
                f"{role:12}{m['loss']:9.4f}{m['accuracy']:10.4f}{m['weighted_f1']:9.4f}   {recall}"
            )
        return
    names = FIGURES_OF[task]
    width = max(11, *(len(name) + 2 for name in names))
    said = "F1 of each class" if task == MULTI_LABEL else "R2 of each number"
    print(
        f"\n{'':12}"
        + "".join(f"{name.replace('_', ' '):>{width}}" for name in names)
        + f"   {said}"
    )
    for role, m in roles.items():
        of_each = {k: v["f1" if task == MULTI_LABEL else "r2"] for k, v in m["of_each"].items()}
        cells = "".join(f"{m[name]:{width}.5g}" for name in names)
        print(f"{role:12}{cells}   {_format_recall(of_each)}")


def print_summary(
    found: dict[str, Any], path: Path | str, data_dir: str | None, again: bool = False
) -> None:
    """The closing table.

    `again`: the run was finished before. `data_dir` is named to `train.evaluate` again.
    """
    if again:
        print(f"{path} is a finished run of these settings. To train anew, remove it.")
    task = found.get("task", SINGLE_LABEL)
    _print_table(task, {role: found[role] for role in ("validation", "test") if role in found})
    if "course" in found:
        print(found["course"])
    s = found["seconds"]
    print(
        f"time: setup {s['setup']:.1f} s, input {s['input']:.2f} s, steps {s['step']:.1f} s, "
        f"rest {s['rest']:.1f} s; the devices waited for input {100 * found['input_share']:.1f} % "
        "of the training time"
    )
    if found.get("flops_per_example"):
        print(_format_arithmetic(found))
    picture = {SINGLE_LABEL: "confusion_matrix", MULTI_LABEL: "classes", REGRESSION: "predicted"}
    print(f"more: {path}/curves.png, {path}/{picture[task]}.png")
    print(f"      tensorboard --logdir {shlex.quote(f'{path}/tensorboard')}")
    arguments = [str(path), *(["--data-dir", data_dir] if data_dir else [])]
    if found.get("damaged"):
        arguments += ["--on-corrupt", "skip"]
    evaluate = f"python -m train.evaluate {shlex.join(arguments)}"
    print(f"      {evaluate}   intervals, worst errors; test by --split test")
