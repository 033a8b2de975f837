"""A whole run: prepare, open, build, train, evaluate, write."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from typing import Any

from records.examples import Examples
from records.opened import OpenedSet, open_set
from records.roles import Data
from train.assembly.data import make_source, open_examples, print_damage, resolve_shuffle_block
from train.assembly.training import build_fine_tuning, build_training
from train.devices.strategy import Cluster, make_cluster, set_up_devices
from train.engine import console
from train.engine.loop import Loop, make_predictor
from train.folders.run_folder import RunFolder
from train.measures.metrics import Metrics
from train.settings.config import TrainConfig
from train.settings.prepare import prepare
from train.settings.resolve import check_rows, resolve, resolve_hardware


def train_and_evaluate(config: TrainConfig) -> dict[str, Any]:
    """Trains a model on a prepared set and writes the run folder.

    The test split is read once, after training, with the weights that validation chose.

    Returns:
      What `metrics.json` holds.

    Raises:
      FileNotFoundError: the set is not there and cannot be prepared.
      ValueError: settings that do not fit the data, the hardware or the run folder.
      WorkerDied: another worker of the run is gone.
    """
    began = time.perf_counter()
    set_up_devices(config.cpu_devices, config.deterministic)
    cluster = make_cluster(config.strategy, config.cpu_devices)
    with cluster.workers.watched() if cluster.workers else contextlib.nullcontext():
        found = _train_and_evaluate(config, cluster, began)
        cluster.exchange(0)  # a worker that ended while another works would be taken for dead
    return found


def _prepare(config: TrainConfig, cluster: Cluster) -> str:
    """As `prepare`; one worker after the other, so that the first builds for those beside it."""
    own = 0 if cluster.workers is None else cluster.workers.index
    directory = ""
    for turn in range(len(cluster.workers.addresses) if cluster.workers else 1):
        if turn == own:
            directory = prepare(config.dataset, config.data_dir, config.manual_dir)
        cluster.exchange(0)
    return directory


def _train_and_evaluate(config: TrainConfig, cluster: Cluster, began: float) -> dict[str, Any]:
    directory = _prepare(config, cluster)
    skips = config.on_corrupt == "skip"
    opened = open_set(directory, feature=config.feature, skip_damaged=skips)
    config = resolve(config, opened.schema)
    check_rows(config, cluster)
    cluster.check_same("settings", config.to_json())
    cluster.check_same("--evaluate-test", str(config.evaluate_test))
    cluster.check_same(f"the data of {opened.schema.name}", opened.fingerprint)
    path = config.run_dir or config.default_run_dir()
    with RunFolder(path, config, opened.fingerprint, is_chief=cluster.is_chief) as folder:
        return _train_in(folder, config, opened, cluster, began)


def _open(
    config: TrainConfig, opened: OpenedSet, cluster: Cluster
) -> tuple[Data, str, dict[str, Examples]]:
    """As `open_examples`; all workers must find the same damage, which the chief names."""
    data, level, examples = open_examples(config, opened, cluster)
    cluster.check_same("damaged records", json.dumps(data.damage()))
    if cluster.is_chief:
        print_damage(opened, data.damage())
    return data, level, examples


def _agree_on_hardware(folder: RunFolder, config: TrainConfig, cluster: Cluster) -> dict[str, Any]:
    """What `auto` became, at the first start of the run; the same for all workers."""
    here = resolve_hardware(config, cluster)
    hardware = folder.keep_resolved(here)
    if config.xla is None and cluster.num_replicas > 1 and not here["xla"]:
        hardware["xla"] = False  # begun on one replica, where all can be compiled
    said = json.dumps(hardware, sort_keys=True)
    cluster.check_same("precision and XLA (name --precision and --xla)", said)
    return hardware


def _train_in(
    folder: RunFolder,
    config: TrainConfig,
    opened: OpenedSet,
    cluster: Cluster,
    began: float,
) -> dict[str, Any]:
    finished = folder.finished_metrics()
    seen = json.dumps([finished is None, folder.keep_resolved({})], sort_keys=True)
    cluster.check_same(f"--run-dir {folder.path}, a folder they share,", seen)
    if finished is not None:
        if cluster.is_chief:
            console.print_summary(finished, folder.path, config, again=True)
        return finished
    hardware = _agree_on_hardware(folder, config, cluster)
    if cluster.is_chief:
        console.print_dataset_note(opened.schema)
        console.print_header(config, opened.schema, cluster, hardware, folder.path)
    data, level, examples = _open(config, opened, cluster)
    block = resolve_shuffle_block(config, level, examples["train"], cluster)
    hardware = folder.keep_resolved({"shuffle_block": block})
    training = build_training(config, hardware, data, level, examples, cluster)
    training = dataclasses.replace(training, source=make_source(config, data, opened.fingerprint))
    stage = dataclasses.replace(config, profile=None) if config.unfreeze_from else config
    loop = Loop(stage, training, cluster, folder)
    folder.claim()
    setup_seconds = time.perf_counter() - began
    loop.run()
    if config.unfreeze_from:
        if cluster.is_chief:
            print(f"  fine-tuning: the backbone is trained too, from {config.unfreeze_from} on")
        stage, training = build_fine_tuning(
            config, hardware, data, level, examples, cluster, training.model
        )
        loop = Loop(stage, training, cluster, folder, loop.state)
        loop.run()
    results: dict[str, Metrics] = {
        role: make_predictor(config, training, role, cluster).metrics()
        for role in ("validation", "test")
        if role in training.examples
    }
    progress = loop.state.progress
    seconds = progress.seconds | {"setup": setup_seconds}
    found = console.RunResult(
        config,
        hardware,
        opened.schema,
        cluster,
        opened.fingerprint,
        results,
        seconds,
        data.damage(),
        progress.skipped_steps,
    )
    if not cluster.is_chief:
        return found.to_dict()
    return console.write_run(folder, found, training, data, progress.history)
