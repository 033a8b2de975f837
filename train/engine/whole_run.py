"""A whole run: prepare the set, open it, resolve, build, train, evaluate, write."""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from records.mixed import mix_sets
from records.opened import OpenedSet, open_set
from records.sets.target import MULTI_LABEL
from records.stores.address import is_address
from records.stores.mirror import place_of
from records.system.writing import check_output
from train.assembly.context import RunContext
from train.assembly.data import open_context, print_damage, resolve_shuffle_block
from train.assembly.predictions import predict_opened
from train.assembly.training import Training, build_fine_tuning, build_training, target_scale
from train.devices.strategy import Cluster, make_cluster, set_up_devices
from train.engine import console
from train.engine.arithmetic import steady_figures
from train.engine.loop import Loop, make_predictor
from train.engine.run_result import RunResult, write_result
from train.engine.state import Progress
from train.folders.finished_run import FinishedRun, open_run
from train.folders.run_folder import HISTORY, RunFolder
from train.folders.stored_config import METRICS
from train.measures.metrics import AnyMetrics, metrics_from_logits, say
from train.measures.plots import draw_safely, outcome
from train.measures.target_metrics import choose_thresholds, metrics_of_classes, metrics_of_numbers
from train.settings.config import TrainConfig
from train.settings.convert_source import convert_source
from train.settings.prepare import prepare
from train.settings.resolve import resolve
from train.settings.resolved import Settings
from train.settings.sets import read_sets, rename_sets, shares_of


def train_and_evaluate(asked: TrainConfig) -> dict[str, Any]:
    """Trains a model on a prepared set and writes the run folder; converts files first.

    The split test is read with `evaluate_test` only: once, after training, with the weights that
    validation chose.

    Returns:
      What `metrics.json` holds.

    Raises:
      FileNotFoundError: the set is not there and cannot be prepared.
      ValueError: settings that do not fit the data, the hardware or the run folder.
      WorkerDied: another worker of the run is gone.
    """
    began = time.perf_counter()
    set_up_devices(asked.cpu_devices, asked.deterministic)
    cluster = make_cluster(asked.strategy, asked.cpu_devices)
    with cluster.workers.watched() if cluster.workers else contextlib.nullcontext():
        flags = [*asked.conversion, *(["--task", asked.task] if asked.task else [])]
        prepared = functools.partial(convert_source, data_dir=asked.data_dir, asked=flags)
        names = _in_turn(cluster, lambda: rename_sets(asked.dataset, prepared))
        asked = dataclasses.replace(asked, dataset=names)
        opened = prepare_and_open(asked, cluster)
        settings = resolve(asked, opened.schema, cluster)
        found = train_settings(settings, opened, cluster, began)
        cluster.exchange(0)  # a worker that ended while another works would be taken for dead
    return found


def prepare_and_open(asked: TrainConfig, cluster: Cluster) -> OpenedSet:
    """Opens the set, or several as one; prepares what is missing.

    Raises:
      FileNotFoundError: a set is not there and cannot be prepared.
      ValueError: its shards are not those that were built, or --classes do not fit it; or several
        sets differ in kind or classes.
    """
    names = read_sets(asked.dataset)
    directories = _in_turn(
        cluster, lambda: [prepare(name, asked.data_dir, asked.manual_dir) for name in names]
    )
    skip = asked.on_corrupt == "skip"
    parts = [
        open_set(directory, feature=asked.feature, task=asked.task, skip_damaged=skip)
        for directory in directories
    ]
    return mix_sets(
        [part.choose(asked.classes) for part in parts], shares_of(asked.dataset), asked.seed
    )


def _in_turn(cluster: Cluster, work: Callable[[], Any]) -> Any:
    """What `work` gives, one worker after the other: the first builds for those beside it."""
    own = 0 if cluster.workers is None else cluster.workers.index
    found = None
    for turn in range(len(cluster.workers.addresses) if cluster.workers else 1):
        if turn == own:
            found = work()
        cluster.exchange(0)
    return found


def train_settings(
    settings: Settings, opened: OpenedSet, cluster: Cluster, began: float
) -> dict[str, Any]:
    """Trains resolved settings on an opened set and writes the run folder.

    `began` is `time.perf_counter()` when the run's setup began.

    Returns, raises: as `train_and_evaluate`.
    """
    known = settings.to_dict()
    # Workers with other settings or data would train something else, or wait for ever.
    cluster.check_same("settings", json.dumps(known))
    cluster.check_same("--evaluate-test", str(settings.evaluate_test))
    cluster.check_same(f"the data of {opened.schema.name}", opened.fingerprint)
    if cluster.workers is not None and is_address(settings.folder):
        raise ValueError(
            "settings: --run-dir expected a folder that all workers share, received "
            f"{settings.folder}: with --strategy multi_worker it cannot be in a store. Name a "
            "shared folder, and copy it when the run has ended"
        )
    with RunFolder(
        settings.folder,
        known,
        opened.fingerprint,
        directories=tuple(map(place_of, opened.directories)),
        is_chief=cluster.is_chief,
    ) as folder:
        finished = _finished(folder, settings, opened, cluster)
        if finished is not None:
            return finished
        context = _open(folder, settings, opened, cluster)
        training = build_training(context)
        if cluster.is_chief:
            console.print_steps(training.order)
        loop = Loop(context.with_settings(settings.stages()[0]), training, folder)
        folder.claim()  # what could go wrong before the first step has not
        setup_seconds = time.perf_counter() - began
        training, progress = _train(loop, context, training, folder)
        return _evaluate(context, training, progress, folder, setup_seconds)


def _finished(
    folder: RunFolder, settings: Settings, opened: OpenedSet, cluster: Cluster
) -> dict[str, Any] | None:
    """The metrics of a run that is finished already; all workers must see the same folder."""
    found = folder.finished_metrics()
    seen = json.dumps([found is None, folder.keep_resolved({})], sort_keys=True)
    cluster.check_same(f"--run-dir {folder.path}, a folder they share,", seen)
    if found is not None and cluster.is_chief:
        if settings.evaluate_test and "test" not in found:
            check_output(folder.path, "run folder", "--run-dir", is_folder=True)
            found = _add_test(found, folder, opened)
        if found.get("history_sha256", folder.history_sha256()) != folder.history_sha256():
            print(
                f"note: {folder.place}/{HISTORY} is not as the run wrote it. Remove "
                f"{folder.place}/{METRICS}, and the same command writes both anew"
            )
        here, before = folder.directories, list(open_run(folder.path).directories)
        moved = here[0] if len(here) == 1 and here != before else None
        console.print_summary(found, folder.place, settings.data_dir or moved, again=True)
    return found


def _add_test(found: dict[str, Any], folder: RunFolder, opened: OpenedSet) -> dict[str, Any]:
    """The metrics of a finished run with those of test, which it has not read before."""
    run = open_run(folder.path)
    data, examples, said = predict_opened(run, "test", opened)
    labels, names = examples.subset_labels, data.schema.class_names
    metrics = _metrics_of_said(run, said, labels)
    found = found | {"test": metrics.to_dict(names)}
    folder.write_text(METRICS, json.dumps(found, indent=2) + "\n")
    file, draw = outcome(run.input.task, metrics, names, "test", said, labels)
    draw_safely(file, draw, functools.partial(folder.write_bytes, file))
    return found


def _metrics_of_said(run: FinishedRun, said: np.ndarray, labels: np.ndarray) -> AnyMetrics:
    """The metrics of what a run says, as in its training."""
    if run.input.scale is not None:
        return metrics_of_numbers(said, labels, np.array(run.input.scale[1]))
    tiny = np.finfo(np.float64).tiny
    logits = np.log(np.maximum(said, tiny))
    if run.input.task == MULTI_LABEL:
        return metrics_of_classes(logits - np.log(np.maximum(1 - said, tiny)), labels)
    # Softmax is the same of these as of the model's own logits.
    return metrics_from_logits(logits, labels)


def _open(folder: RunFolder, settings: Settings, opened: OpenedSet, cluster: Cluster) -> RunContext:
    """Opens the examples; what hardware and memory decide is as at the first start of the run."""
    here = {"precision": settings.precision, "xla": settings.xla}
    kept = folder.keep_resolved(here)
    if settings.asked.xla is None and cluster.num_replicas > 1 and not here["xla"]:
        kept["xla"] = False  # begun on one replica, where all can be compiled
    said = json.dumps(kept, sort_keys=True)
    cluster.check_same("precision and XLA (name --precision and --xla)", said)
    settings = dataclasses.replace(settings, precision=kept["precision"], xla=kept["xla"])
    if cluster.is_chief:
        console.print_dataset_note(opened.schema)
        console.print_header(settings, opened, cluster, folder)
    context = open_context(settings, opened, cluster)
    cluster.check_same("damaged records", json.dumps(context.data.damage()))
    if cluster.is_chief:
        console.print_roles(context.examples, opened.schema.class_names)
        print_damage(context.data)
    kept = folder.keep_resolved({"shuffle_block": resolve_shuffle_block(context)})
    block = kept["shuffle_block"]
    return context.with_settings(dataclasses.replace(settings, shuffle_block=block))


def _train(
    loop: Loop, context: RunContext, training: Training, folder: RunFolder
) -> tuple[Training, Progress]:
    """Trains all stages; what was trained last, and where the run stands then."""
    loop.run()
    for stage in context.settings.stages()[1:]:
        if context.cluster.is_chief:
            print(f"  fine-tuning: the backbone is trained too, from {stage.unfreeze_from} on")
        # This context still holds the pictures: the head's stage put features into a copy of it.
        later = context.with_settings(stage)
        training = build_fine_tuning(later, training.model)
        loop = Loop(later, training, folder, loop.state)
        loop.run()
    return training, loop.state.progress


def _evaluate(
    context: RunContext,
    training: Training,
    progress: Progress,
    folder: RunFolder,
    setup_seconds: float,
) -> dict[str, Any]:
    """Measures the roles that were not trained on; the chief writes the run folder."""
    # In this order: the confusion matrix that is drawn is the last role's.
    roles = [role for role in ("validation", "test") if role in training.examples]
    outputs = {role: make_predictor(context, training, role).outputs() for role in roles}
    labels = {role: training.examples[role].subset_labels for role in roles}
    metrics: dict[str, AnyMetrics] = {
        role: training.measure(outputs[role], labels[role]) for role in roles
    }
    # Setup is that of this start; the other kinds add up over all starts of the run.
    seconds = progress.seconds | {"setup": setup_seconds}
    # The stage that was trained last.
    rows, settings = progress.history[-progress.epoch :], context.settings.stages()[-1]
    course = console.describe_course(rows, settings)
    arithmetic = steady_figures(rows)
    task, learned = context.data.schema.task, {}
    if scale := target_scale(context.data):
        learned["scale"] = tuple(tuple(values.tolist()) for values in scale)
    if task == MULTI_LABEL:  # of probabilities, on validation alone
        chosen = choose_thresholds(say(task, outputs["validation"]), labels["validation"])
        learned["thresholds"] = tuple(chosen.tolist())
    result = RunResult(
        context,
        metrics,
        (outputs[roles[-1]], labels[roles[-1]]),
        learned,
        seconds,
        progress.skipped_steps,
        course,
        arithmetic,
    )
    if context.cluster.is_chief:
        with folder.last_files():
            return write_result(folder, result, training.model, progress.history)
    return result.to_dict()
