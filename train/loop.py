"""The training loop: epochs of chunks, early stopping, checkpoints; and a whole run."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np

from records.fingerprint import check_fingerprint
from records.schema import read_schema
from train import report
from train.checkpoint import assign_values, local_values, read_checkpoint, write_checkpoint
from train.config import TrainConfig
from train.evaluate import Metrics, Predictor, metrics_from_confusion
from train.feed import ChunkSource, Feed, Pace
from train.folder import RunFolder
from train.prepare import prepare
from train.profile import Profile
from train.setup import (
    Training,
    build_training,
    make_source,
    open_examples,
    resolve,
    resolve_hardware,
    resolve_shuffle_block,
)
from train.strategy import Cluster, make_cluster, set_up_devices


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM: a checkpoint was written, the same command goes on."""


@dataclasses.dataclass
class Progress:
    """Where a run stands; all of it is in every checkpoint.

    Attributes:
      epoch, step: the next step, and its epoch.
      finished: no epoch is left, or early stopping ended the run.
      best: best value so far of the monitored metric, signed so that more is better.
      waited: epochs since then.
      history: one row per finished epoch.
      seconds: time spent so far, by kind: input, step, rest.
    """

    epoch: int = 0
    step: int = 0
    finished: bool = False
    best: float | None = None
    waited: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"input": 0.0, "step": 0.0, "rest": 0.0}
    )


class Loop:
    """Trains until the epochs are done or early stopping says so."""

    def __init__(
        self,
        config: TrainConfig,
        training: Training,
        cluster: Cluster,
        folder: RunFolder,
        source: ChunkSource,
    ):
        """Takes up the newest checkpoint of the run folder, if there is one."""
        self.config, self.training, self.folder, self._cluster = config, training, folder, cluster
        train = training.examples["train"]
        self._epochs = int(config.epochs or 0)
        self.order = training.order
        one_length = training.step.compiled
        self._feed = Feed(
            train, self.order, cluster, training.level, one_length=one_length, source=source
        )
        self._validation = make_predictor(config, training, "validation", cluster)
        self._best: list[np.ndarray] = []
        self._profile = Profile(config, folder.path)
        self._signal: int | None = None
        self._pace = Pace()
        self.progress = Progress()
        self._restore()

    def run(self) -> None:
        """Trains; leaves the best weights in the model, the last ones without early stopping.

        Raises:
          Interrupted: a signal came; a checkpoint was written.
        """
        self._saved = time.monotonic()
        with self._signals(), self._profile:
            while not self.progress.finished:
                self._run_epoch()
            self._save()
        if self.config.early_stopping:
            assign_values(self._weights(), self._best)

    def _run_epoch(self) -> None:
        progress, step = self.progress, self.training.step
        start, before = time.perf_counter(), dict(progress.seconds)
        first = progress.step
        if first == 0:
            step.reset_totals()
        self._feed.start(progress.epoch, first)
        self._run_steps()
        middle = time.perf_counter()
        confusion = step.confusion.numpy()
        train = metrics_from_confusion(confusion, step.loss_sum.numpy() / confusion.sum())
        self._check_finite(train)
        validation = self._validation.metrics()
        self._judge(validation)
        examples = sum(self.order.counts(progress.epoch, first, self.order.steps_per_epoch - first))
        share = float(examples) / self.order.num_examples
        self._record(train, validation, share, middle - start, time.perf_counter() - start)
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.finished |= progress.epoch >= self._epochs
        spent = sum(progress.seconds[k] - before[k] for k in ("input", "step"))
        progress.seconds["rest"] += time.perf_counter() - start - spent
        self._save_when_due()

    def _check_finite(self, train: Metrics) -> None:
        """Raises ValueError where the loss is no number any more: nothing better can follow."""
        if np.isfinite(train.loss):
            return
        raise ValueError(
            f"train/loop: epoch {self.progress.epoch + 1}: the training loss is {train.loss}. "
            "Choose a smaller --learning-rate, or --clip-norm 1; then remove "
            f"{self.folder.path}, or choose another --run-dir"
        )

    def _run_steps(self) -> None:
        """Runs the rest of the epoch. While a chunk runs on a GPU, the next is being made."""
        progress, seconds, pace = self.progress, self.progress.seconds, self._pace
        t0 = time.perf_counter()
        chunk = self._feed.take(self._limit(0))
        seconds["input"] += time.perf_counter() - t0
        while chunk is not None:
            t1 = time.perf_counter()
            number = progress.epoch * self.order.steps_per_epoch + progress.step
            with pace.timed(chunk.steps):
                with self._profile.step(number, chunk.steps):
                    self.training.step.run(chunk, number)
                t2 = time.perf_counter()
                following = self._feed.take(self._limit(chunk.steps))
                t3 = time.perf_counter()
                self.training.step.loss_sum.numpy()  # waits for the device
            t4 = time.perf_counter()
            # A device that is still busy when its next input is ready did not wait for it.
            waited = t3 - t2 if t4 - t3 < 1e-3 else 0.0
            seconds["input"] += waited
            seconds["step"] += t4 - t1 - waited
            progress.step += chunk.steps
            chunk = following
            if chunk is not None:
                self._save_when_due()

    def _limit(self, running: int) -> int:
        """The most steps of the next chunk, given that `running` steps are under way."""
        number = self.progress.epoch * self.order.steps_per_epoch + self.progress.step + running
        return self._profile.limit(number, self._pace.steps)

    def _judge(self, validation: Metrics) -> None:
        """Keeps the best weights and counts the epochs without a better metric."""
        progress = self.progress
        if not self.config.early_stopping:
            return
        value = getattr(validation, str(self.config.monitor))
        signed = -value if self.config.monitor == "loss" else value
        if progress.best is None or signed > progress.best:
            progress.best, progress.waited = signed, 0
            self._best = local_values(self._weights())
        else:
            progress.waited += 1
        progress.finished = progress.waited >= self.config.early_stopping

    def _record(
        self,
        train: Metrics,
        validation: Metrics,
        share: float,
        step_seconds: float,
        seconds: float,
    ) -> None:
        """Adds a row to the history; `share` of the epoch was trained in `step_seconds`."""
        row: dict[str, Any] = {"epoch": self.progress.epoch + 1}
        for prefix, metrics in (("", train), ("val_", validation)):
            for name in ("loss", "accuracy", "weighted_f1"):
                row[prefix + name] = getattr(metrics, name)
        row["learning_rate"] = float(self.training.optimizer.learning_rate.numpy())
        rate = share / step_seconds
        row |= {"examples_per_s": rate * self.order.num_examples, "seconds": seconds}
        lengths = self.training.examples["train"].subset_lengths
        if lengths is not None:
            row["tokens_per_s"] = rate * float(lengths.sum())
        self.progress.history.append(row)
        self.folder.write_history(self.progress.history)
        report.print_epoch(row, self._epochs, self.progress.history)
        report.write_scalars(self.folder.path, row)

    def _weights(self) -> list[Any]:
        return list(self.training.trained.variables)

    def _groups(self) -> dict[str, list[Any]]:
        """Every variable that shapes what comes next."""
        step, scale = self.training.step, self.training.scale
        return {
            "model": self._weights(),
            "optimizer": list(self.training.optimizer.variables),
            "totals": [step.loss_sum, step.confusion],
            "scale": [scale.scale, scale.finite_steps] if scale else [],
        }

    def _save(self) -> None:
        self._saved = time.monotonic()
        if not self._cluster.is_chief:
            return
        arrays = {name: local_values(group) for name, group in self._groups().items()}
        progress = self.progress
        number = progress.epoch * self.order.steps_per_epoch + progress.step
        state = dataclasses.asdict(progress) | {"order": self.order.state}
        write_checkpoint(self.folder.checkpoints, number, arrays | {"best": self._best}, state)

    def _save_when_due(self) -> None:
        due = time.monotonic() - self._saved > 60 * self.config.checkpoint_minutes
        if due or self._signal is not None:
            self._save()
        if self._signal is not None:
            raise Interrupted(signal.Signals(self._signal).name)

    def _restore(self) -> None:
        found = read_checkpoint(self.folder.checkpoints)
        if found is None:
            return
        arrays, state = found
        order = state.pop("order", None)
        if order != self.order.state:
            raise ValueError(
                f"train/loop: {self.folder.checkpoints}: order of examples expected "
                f"{self.order.state}, received a checkpoint of {order}. Continue it with the "
                "settings it began with, or name another --run-dir"
            )
        for name, group in self._groups().items():
            assign_values(group, arrays.get(name, []))
        self._best = arrays.get("best", [])
        self.progress = Progress(**state)
        print(f"  going on at epoch {self.progress.epoch + 1}, step {self.progress.step}")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM let the running chunk finish; a second one ends at once."""

        def note(number: int, frame: FrameType | None) -> None:
            if self._signal is not None:
                raise KeyboardInterrupt
            self._signal = number

        try:
            previous = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: the caller's own handling stands
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def make_predictor(
    config: TrainConfig, training: Training, role: str, cluster: Cluster
) -> Predictor:
    """What predicts the examples of a role with the model in training."""
    return Predictor(
        training.trained,
        training.examples[role],
        cluster,
        training.level,
        int(config.global_batch_size or 0),
        config.length_buckets,
    )


def train_and_evaluate(config: TrainConfig) -> dict[str, Any]:
    """Trains a model on a prepared set and writes the run folder.

    The test split is read once, after training, with the weights that validation chose.

    Returns:
      What `metrics.json` holds.

    Raises:
      FileNotFoundError: the set is not there and cannot be prepared.
      ValueError: settings that do not fit the data, the hardware or the run folder.
    """
    began = time.perf_counter()
    set_up_devices(config.cpu_devices, config.deterministic)
    directory = prepare(config.dataset, config.data_dir, config.manual_dir)
    fingerprint = check_fingerprint(directory)
    schema = read_schema(directory, config.feature)
    report.print_dataset_note(schema)
    config = resolve(config, schema)
    cluster = make_cluster(config.strategy, config.cpu_devices)
    cluster.slices(int(config.global_batch_size or 0))
    folder = RunFolder(config.run_dir or config.default_run_dir(), config, fingerprint)
    finished = folder.finished_metrics()
    if finished is not None:
        report.print_summary(finished, folder.path, again=True)
        return finished
    hardware = folder.keep_resolved(resolve_hardware(config, cluster))
    report.print_header(config, schema, cluster, hardware, folder.path)
    data, level, examples = open_examples(config, schema, cluster)
    source = make_source(config, data, fingerprint)
    block = resolve_shuffle_block(config, level, examples["train"])
    hardware = folder.keep_resolved({"shuffle_block": block})
    training = build_training(config, hardware, data, level, examples, cluster)
    loop = Loop(config, training, cluster, folder, source)
    folder.claim()
    setup_seconds = time.perf_counter() - began
    loop.run()
    results: dict[str, Metrics] = {}
    for role in ("validation", "test"):
        if role in training.examples:
            results[role] = make_predictor(config, training, role, cluster).metrics()
    seconds = loop.progress.seconds | {"setup": setup_seconds}
    found = report.RunResult(config, hardware, schema, cluster, fingerprint, results, seconds)
    if not cluster.is_chief:
        return found.to_dict()
    return report.write_run(folder, found, training, data, loop.progress.history)
