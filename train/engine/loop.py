"""The training loop: epochs of chunks, validation, early stopping, checkpoints."""

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from records.system.progress import Progress as Line
from train.assembly.context import RunContext
from train.assembly.training import Training
from train.engine import console, tensorboard_files
from train.engine.arithmetic import FIGURES as ARITHMETIC
from train.engine.arithmetic import Arithmetic
from train.engine.callbacks import Callbacks
from train.engine.profile import Profile
from train.engine.signals import Signals
from train.engine.state import State
from train.folders.run_folder import RunFolder
from train.step.feed import Chunk, make_feed
from train.step.keras_objective import KerasObjective
from train.step.non_finite import describe_batch
from train.step.objective import Diverged
from train.step.pace import Pace
from train.step.predictor import Evaluator, Predictor, Stopped


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM: a checkpoint was written, the same command goes on."""


class Loop:
    """Trains until the epochs are done or early stopping says so."""

    def __init__(
        self,
        context: RunContext,
        training: Training,
        folder: RunFolder,
        before: State | None = None,
        callbacks: Callbacks | None = None,
        pace: Pace | None = None,
    ):
        """Takes up the newest checkpoint of the run folder, if there is one.

        `before` is the state of the stage before this one; `callbacks` are Keras's, and
        `pace` how many steps a call runs, of `train.fit`.
        """
        settings, cluster = context.settings, context.cluster
        self.settings, self.training, self.folder = settings, training, folder
        self._cluster = cluster
        train = training.examples["train"]
        self.order = training.order
        self._feed = make_feed(
            train,
            self.order,
            cluster,
            training.level,
            # XLA compiles a program for each length of texts: a chunk has one length only.
            one_length=settings.xla,
            source=context.source,
        )
        self._signals, self._callbacks = Signals(), callbacks
        self._verbose = callbacks.verbose if callbacks else 1
        # Validation of a large set takes minutes; a signal is not to wait for its end.
        self._measure = make_validation(context, training, self._signals.came)
        self._profile = Profile(settings.profile, folder.path, is_chief=cluster.is_chief)
        self._arithmetic = Arithmetic(cluster, settings.precision, settings.peak_tflops)
        self._pace = pace or Pace()
        self._steps = self._pace.steps  # of the next call: the chief's, which all workers take
        self.state = State(training, cluster, folder, settings.keep_checkpoints, before)
        self.state.callbacks = callbacks
        # The step counts from 0 in each process; the progress counts over all starts of a run.
        self._skipped = 0
        # Rows of an earlier stage stay in the history; epochs of this one are counted from 1.
        self._first_row = len(self.state.progress.history)
        # Last: it fills the variables that everything above has made, and counts the steps by the
        # order.
        self.state.restore()
        # An epoch that was stopped in its validation has no step in this process to count.
        for row in self.state.progress.history[self._first_row :]:
            self._arithmetic.per_example = row.get(ARITHMETIC[0])

    def run(self) -> None:
        """Trains; leaves the best weights in the model, the last ones without early stopping.

        Raises:
          Interrupted: a signal came; a checkpoint was written.
        """
        self._saved = time.monotonic()  # not time.time(): a clock may be set while a run trains
        with self._signals, self._profile, self._around():
            if self._first_row and not self.state.number:
                self._validate()  # what an earlier stage reached is the one to beat
            while not self.state.progress.finished:
                self._run_epoch()
            self._save()
            if self._cluster.exchange(self._signals.came()).any():
                raise Interrupted
        if self.settings.early_stopping:
            self.state.take_best()
        else:
            self.state.take_average()

    def _around(self) -> contextlib.AbstractContextManager[None]:
        """Around the training: the callbacks' first and last calls."""
        if self._callbacks is None:
            return contextlib.nullcontext()
        return self._callbacks.training(self.state.progress.history, self.state.of_callbacks)

    def _run_epoch(self) -> None:
        progress, step = self.state.progress, self.training.step
        if self._callbacks and not progress.step:
            self._callbacks.begin_epoch(progress.epoch)
        start, before = time.perf_counter(), dict(progress.seconds)
        first = progress.step
        if first == 0:  # else the sums of the part before are in the checkpoint
            step.reset_totals()
        # Costs nothing where the feed stands there already, as after every epoch of this process.
        self._feed.start(progress.epoch, first)
        left = self.order.steps_per_epoch - first
        number, size = len(progress.history) + 1, self.order.global_batch_size
        label = f"epoch {number}/{self._first_row + self.settings.epochs}"
        later = (self.settings.epochs - progress.epoch - 1) * self.order.steps_per_epoch
        with Line(left, label, "examples", 1 / size, later) as line:
            self._run_steps(line)
        middle = time.perf_counter()
        # Read once per epoch: it waits for the device, and is a copy from it.
        # Training figures are those of the weights as they changed over the epoch, dropout
        # included: no second pass over the training examples.
        train = step.figures()
        self._check_finite(train["loss"])
        validation = self._validate()
        examples = sum(self.order.counts(progress.epoch, first, self.order.steps_per_epoch - first))
        share = float(examples) / self.order.num_examples  # a resumed epoch trains a part
        self._record(train, validation, share, middle - start, time.perf_counter() - start)
        # Only after the validation: a run that ends in it resumes at the step after the last of the
        # epoch, and validates again.
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.finished |= progress.epoch >= self.settings.epochs
        if self._callbacks:
            self._callbacks.end_epoch(progress.history[-1])
            progress.finished |= self._callbacks.stopped
        # "rest" is what is left of the epoch: the four kinds add up to the run's time.
        spent = sum(progress.seconds[k] - before[k] for k in ("input", "step"))
        progress.seconds["rest"] += time.perf_counter() - start - spent
        self._agree()

    def _check_finite(self, loss: float) -> None:
        """Raises Diverged where the loss is NaN or infinite: nothing better can follow."""
        if np.isfinite(loss):
            return
        where, batch = f"epoch {self.state.progress.epoch + 1}", "Every step of it was skipped"
        number = self.training.step.non_finite.first(self._cluster)
        if self.settings.on_nan == "stop" and number >= 0:
            epoch, step = divmod(number, self.order.steps_per_epoch)
            where = f"epoch {epoch + 1}, step {step} (step {number} of the run)"
            train = self.training.examples["train"]
            batch = describe_batch(train, self.order, epoch, step)
        raise Diverged(
            f"training: {where}: the training loss expected a number, received {loss}. {batch}",
            "Where the inputs are as they should be, choose a smaller --learning-rate, or "
            f"--clip-norm 1, and another --run-dir than {self.folder.place}; --on-nan skip goes on "
            "from the last checkpoint, without the update of such a step",
        )

    def _run_steps(self, line: Line) -> None:
        """Runs the rest of the epoch. While a chunk runs on a GPU, the next is being made."""
        progress, profile = self.state.progress, self._profile
        seconds = progress.seconds
        number = self.state.number
        # The wait for an epoch's first input belongs to its first step.
        profile.begin_step(number, profile.limit(number, self._steps))
        t0 = time.perf_counter()
        chunk = self._take(0)
        seconds["input"] += time.perf_counter() - t0
        while chunk is not None:
            number = self.state.number
            profile.begin_step(number, chunk.steps)
            if self._callbacks:
                self._callbacks.begin_call(progress.step)
            t1 = time.perf_counter()
            with self._pace.timed(chunk.steps):
                self.training.step.run(chunk, number)
                t2 = time.perf_counter()
                following = self._take(chunk.steps)
                t3 = time.perf_counter()
                loss = self.training.step.loss_sum.numpy()  # waits for the device
            t4 = time.perf_counter()
            # A device that is still busy when its next input is ready did not wait for it.
            waited = t3 - t2 if t4 - t3 < 1e-3 else 0.0
            seconds["input"] += waited
            seconds["step"] += t4 - t1 - waited
            self._check_finite(loss)  # before anything is saved
            self._arithmetic.count(self.training, chunk)
            if self.settings.on_nan == "skip":
                skipped = int(self.training.step.non_finite.skipped.numpy())
                progress.skipped_steps += skipped - self._skipped
                self._skipped = skipped
            progress.step += chunk.steps
            if self._cluster.is_chief and self._verbose == 1:
                trained = progress.step * self.order.global_batch_size
                mean = loss / min(trained, self.order.num_examples)
                line.add(chunk.steps, f"loss {mean:.4f}")
            if self._callbacks and self._callbacks.want_batches:
                self._callbacks.end_call(progress.step - 1, self.training.step.figures())
                if self._callbacks.stopped:
                    break
            chunk = following
            # After the last chunk of an epoch the checkpoint waits for the validation, see
            # `_run_epoch`.
            if chunk is not None:
                self._agree()
        profile.end_step()

    def _take(self, running: int) -> Chunk | None:
        """The next chunk, given that `running` steps are under way; it ends where a checkpoint
        is due.
        """
        number, every = self.state.number + running, self.settings.checkpoint_steps
        limit = self._profile.limit(number, self._steps)
        with self._profile.wait():
            return self._feed.take(min(limit, every - number % every) if every else limit)

    def _agree(self) -> None:
        """Saves or ends where it is time, and sets the steps of the next call.

        All workers decide alike, by the chief's clock, and end when one got a signal.
        """
        due = time.monotonic() - self._saved > 60 * self.settings.checkpoint_minutes
        # One exchange for all three: each is a collective, on several workers a trip over the
        # network.
        said = self._cluster.exchange(self._pace.steps, due, self._signals.came())
        # Worker 0 is the chief; a signal may have reached any of them.
        self._steps, due, stop = int(said[0, 0]), bool(said[0, 1]), bool(said[:, 2].any())
        every = self.settings.checkpoint_steps
        if due or stop or (every and self.state.number % every == 0):
            self._save(must=stop)
        if stop:
            raise Interrupted

    def _save(self, must: bool = True) -> None:
        """Writes a checkpoint; one that need not be may fail, and the older ones stay."""
        try:
            self.state.save()
        except OSError as error:
            place = self.folder.checkpoints
            said = f"{place} expected room for a checkpoint, received: {error.strerror or error}"
            if must:
                raise OSError(
                    f"training: {said}. The older checkpoints are whole: make room, and the same "
                    "command goes on from them"
                ) from error
            print(f"no checkpoint: {said}; training goes on", file=sys.stderr, flush=True)
        self._saved = time.monotonic()

    def _validate(self) -> dict[str, Any]:
        """Figures of the validation examples; keeps the weights if they are the best so far.

        A signal ends it, and a resume begins it anew.
        """
        try:
            with self.state.averaged():
                validation = self._measured()
                self._judge(validation)
        except Stopped:
            self._save()
            raise Interrupted from None
        return validation

    def _measured(self) -> dict[str, Any]:
        if self._measure is None:
            return {}
        if self._callbacks is None:
            return self._measure()
        return self._callbacks.validation(self._measure)

    def _judge(self, validation: dict[str, Any]) -> None:
        """Keeps the best weights and counts the epochs without a better metric."""
        progress = self.state.progress
        if not self.settings.early_stopping:
            return
        if progress.judge(validation, self.settings.monitor):
            self.state.keep_best()
        progress.finished = progress.waited >= self.settings.early_stopping

    def _record(
        self,
        train: dict[str, Any],
        validation: dict[str, Any],
        share: float,
        step_seconds: float,
        seconds: float,
    ) -> None:
        """Adds a row to the history; `share` of the epoch was trained in `step_seconds`."""
        progress = self.state.progress
        row: dict[str, Any] = {"epoch": len(progress.history) + 1}
        row |= train | {f"val_{name}": value for name, value in validation.items()}
        row["learning_rate"] = float(self.training.optimizer.learning_rate.numpy())
        rate = share / step_seconds
        row |= {"examples_per_s": rate * self.order.num_examples, "seconds": seconds}
        row |= self._arithmetic.figures(row["examples_per_s"])
        examples = self.training.examples["train"]
        if examples.index.damaged is not None:
            row["damaged"] = examples.num_damaged
        if self.settings.on_nan == "skip":
            row["skipped_steps"] = progress.skipped_steps
        lengths = examples.subset_lengths
        if lengths is not None:
            row["tokens_per_s"] = rate * float(lengths.sum())
        progress.history.append(row)
        if self._cluster.is_chief:
            epochs = self._first_row + self.settings.epochs
            if self._verbose:
                console.print_epoch(row, epochs, progress.history[self._first_row :])
            self._log(row)

    def _log(self, row: dict[str, Any]) -> None:
        """Writes an epoch's figures; they are also in the checkpoint, so training goes on without.

        The next epoch writes the whole history again.
        """
        try:
            self.folder.write_history(self.state.progress.history)
            tensorboard_files.write_scalars(self.folder.path, row)
            if self.settings.histograms:
                model, epoch = self.training.model, row["epoch"]
                tensorboard_files.write_weights(self.folder.path, model, epoch)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
            print(
                f"no log of epoch {row['epoch']}: {self.folder.path} expected room for history.csv "
                f"and tensorboard/, received: {reason}; training goes on",
                file=sys.stderr,
                flush=True,
            )


def make_validation(
    context: RunContext, training: Training, stop: Callable[[], bool]
) -> Callable[[], dict[str, Any]] | None:
    """What gives the figures of the validation examples; None where there are none.

    `stop` is asked after every call whether to raise `Stopped`.
    """
    if "validation" not in training.examples:
        return None
    if isinstance(training.step.options.objective, KerasObjective):
        settings, examples = context.settings, training.examples["validation"]
        sizes = settings.global_batch_size, settings.length_buckets
        evaluator = Evaluator(training.step, examples, context.cluster, training.level, *sizes)
        evaluator.stop = stop
        return evaluator.figures
    predictor = make_predictor(context, training, "validation")
    predictor.stop = stop
    labels, measure = training.examples["validation"].subset_labels, training.measure
    return lambda: measure(predictor.outputs(), labels).figures


def make_predictor(context: RunContext, training: Training, role: str) -> Predictor:
    """What predicts the examples of a role with the model in training."""
    return Predictor(
        training.trained,
        training.examples[role],
        context.cluster,
        training.level,
        context.settings.global_batch_size,
        context.settings.length_buckets,
    )
