"""`train.fit`: a compiled Keras model in the engine of `train.run`."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from records.mixed import MixedSet
from records.opened import OpenedSet
from records.roles import Data, open_data
from records.stores.mirror import place_of
from train.assembly.arrays import as_keras_takes, check_keras_arguments, open_arrays
from train.assembly.context import RunContext
from train.assembly.data import make_training_order, open_context
from train.assembly.room import check_batch_room
from train.assembly.training import Training
from train.devices.strategy import Cluster, make_cluster, set_up_devices
from train.devices.tensorflow_private import determinism
from train.engine.callbacks import Callbacks
from train.engine.console import print_arrays, print_roles, print_run, print_set, print_steps
from train.engine.loop import Loop
from train.folders.run_folder import RunFolder
from train.settings.auto import choose_xla
from train.settings.config import PRECISIONS, TrainConfig
from train.settings.resolved import Settings
from train.settings.sets import AnySet
from train.step.batch_norm import batch_norms
from train.step.keras_objective import (
    KerasObjective,
    Rows,
    check_classes,
    check_model,
    check_row_by_row,
)
from train.step.keras_private import (
    all_layers,
    build_compiled,
    compiled_digest,
    placed,
    restore,
)
from train.step.objective import Diverged
from train.step.pace import Pace
from train.step.precision import LossScale
from train.step.train_step import StepOptions, TrainStep

# Keras's reductions: the loss is a mean over the rows of a batch, or their sum.
_MEANS, _SUMS = ("sum_over_batch_size", "mean"), ("sum",)


def fit(
    model: keras.Model | Callable[[], keras.Model],
    data: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    class_weight: dict[int, float] | None = None,
    sample_weight: Any = None,
    seed: int = 0,
    run_dir: str | None = None,
    steps_per_call: int | None = None,
    **flags: Any,
) -> keras.callbacks.History:
    """Trains a compiled Keras model as `model.fit` does, on the feed, step and resume of ours.

    Args:
      model: compiled; or a function that makes it, called in the strategy's scope.
      data: `(x, y)` or `(x, y, sample_weight)` of arrays, x also a tuple or dict of arrays for a
        model of several inputs; or a prepared set: its name, its folder, or what
        `records.open_data` gives. Of a set the role `train` trains, and `validation` validates.
      y, validation_split, validation_data, class_weight, sample_weight: of arrays, as Keras's.
      batch_size: examples of a step, over all replicas; None: 32.
      epochs: as Keras's.
      verbose: as Keras's; "auto" is 1.
      callbacks: Keras's. The hooks of batches come once a call, which runs many steps.
      shuffle: a new order for each epoch; False keeps that of the arrays.
      seed: of order, dropout and validation cut; of an opened set its own.
      run_dir: keeps checkpoints, history and model: the same call goes on from there, to the bit.
        None keeps nothing.
      steps_per_call: steps of one call; None: as many as take half a second.
      flags: others of `python -m train.run`, those of `FLAGS`. `xla` None compiles where model and
        device gain by it.

    Returns:
      Keras's History: a value per epoch for each figure, under Keras's names.

    Raises:
      ValueError: what cannot be trained right on every replica; says what and why.
      Interrupted: a signal came; with `run_dir` the same call goes on.
    """
    with _in_words_of_fit(run_dir):
        size = 32 if batch_size is None else batch_size
        own = {"epochs": epochs, "global_batch_size": size, "seed": seed, "run_dir": run_dir}
        data = open_data(data, seed=seed) if isinstance(data, str) else data
        if isinstance(data, Data) and len(data.opened.directories) > 1 and not shuffle:
            raise ValueError("fit: a mixture of sets expected shuffle=True, received False")
        asked = _ask(data, own, flags)
        rest = (y, sample_weight, class_weight, validation_data, validation_split)
        data, validation = as_keras_takes(data, *rest)
        if verbose not in ("auto", 0, 1, 2):
            raise ValueError(f"fit: verbose expected 'auto', 0, 1 or 2, received {verbose!r}")
        level = 1 if verbose == "auto" else int(verbose)
        how = (shuffle, Pace(steps_per_call), _checked_callbacks(callbacks), level)
        return _fit(model, data, validation, asked, how)


def _checked_callbacks(callbacks: Any) -> list[keras.callbacks.Callback]:
    """One or several, as Keras takes them."""
    found = [] if callbacks is None else tf.nest.flatten(callbacks)
    for one in found:
        if not isinstance(one, keras.callbacks.Callback):
            hint = f". Call it: {one.__name__}(...)" if isinstance(one, type) else ""
            raise ValueError(f"fit: callbacks expected Keras callbacks, received {one!r}{hint}")
    return found


# Settings of `train.run` that say nothing of a model of ours.
FLAGS = (
    *("strategy", "cpu_devices", "xla", "deterministic", "peak_tflops"),
    *("clip_norm", "clip_value", "accumulate_steps", "on_nan"),
    *("cache", "memory_budget", "length_buckets", "shuffle_block"),
    *("checkpoint_minutes", "checkpoint_steps", "keep_checkpoints", "profile", "histograms"),
)

# Arguments of `fit` by the names that `train.run` has for them.
_RENAMED = {"global_batch_size": "batch_size", "run_dir": "run_dir", "epochs": "epochs"}
_FLAG = re.compile(
    r"--(no-)?([a-z][a-z-]*[a-z])(?:[ =](\d[\d.]*|auto|none|memory|disk|device|skip|stop)\b)?"
)


def _ask(data: Any, own: dict[str, Any], flags: dict[str, Any]) -> TrainConfig:
    """What was asked for, as `train.run` knows it."""
    check_keras_arguments(flags)
    if unknown := sorted(flags.keys() - set(FLAGS)):
        raise ValueError(
            f"fit: expected flags among {', '.join(FLAGS)}, received {', '.join(unknown)}. The "
            "size of a set's pictures is asked for by "
            "records.open_data(..., config=records.InputConfig(image_size=96))"
        )
    if isinstance(data, Data):
        config = dataclasses.asdict(data.config)
        del config["cache"]  # the flag of that name says more
        own |= config | {"dataset": _named(data.opened), "seed": data.seed}
    asked: dict[str, Any] = {"dataset": "arrays", "early_stopping": 0} | own | flags
    return TrainConfig(**asked)


def _named(opened: OpenedSet) -> AnySet:
    """As `train.run` takes it."""
    places = [place_of(directory) for directory in opened.directories]
    if not isinstance(opened, MixedSet):
        return places[0]
    return tuple(f"{p}={s}" for p, s in zip(places, opened.mixture.shares, strict=True))


def _fit(
    model: Any, data: Any, validation: Any, asked: TrainConfig, how: tuple[Any, ...]
) -> keras.callbacks.History:
    """Puts the model on the replicas and trains it; after that it is the caller's, but trained."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(determinism(asked.deterministic))
        set_up_devices(asked.cpu_devices, asked.deterministic)
        cluster = make_cluster(asked.strategy, asked.cpu_devices)
        if not isinstance(model, keras.Model):
            with cluster.strategy.scope():
                model = model()
        _check(model)
        if asked.run_dir is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            asked = dataclasses.replace(asked, run_dir=folder)
        stack.enter_context(placed(cluster.strategy, model))
        return _Use(model, cluster, *how).train(asked, data, validation)


@contextlib.contextmanager
def _in_words_of_fit(run_dir: str | None) -> Iterator[None]:
    """Errors of the engine, which name the flags of `train.run`, name the arguments of `fit`."""
    try:
        yield
    except Diverged as error:
        another = f" and another run_dir than {run_dir}" if run_dir else ""
        raise Diverged(
            error.what,
            "Where the inputs are as they should be, compile the model with a smaller learning "
            f'rate, or give fit clip_norm=1{another}; on_nan="skip" leaves the update of such a '
            "step out",
        ) from None
    except Exception as error:
        named = (_FLAG.sub(_argument, x) if isinstance(x, str) else x for x in error.args)
        error.args = tuple(named)
        raise


def _argument(flag: re.Match[str]) -> str:
    """`--cache none` as `cache="none"`; a flag that `fit` lacks stays."""
    negative, name, value = flag[1], flag[2].replace("-", "_"), flag[3]
    if name not in (*FLAGS, *_RENAMED):
        return flag[0]
    said = "False" if negative else value if value is None or value[0].isdigit() else f'"{value}"'
    return _RENAMED.get(name, name) + (f"={said}" if said else "")


@dataclasses.dataclass(frozen=True)
class _Use:
    """A compiled model on its replicas, and how it is fed."""

    model: keras.Model
    cluster: Cluster
    shuffle: bool
    pace: Pace
    callbacks: list[keras.callbacks.Callback]
    verbose: int

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """The one that applies gradients: a loss scale is the engine's own."""
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def train(self, asked: TrainConfig, data: Any, validation: Any) -> keras.callbacks.History:
        """Opens the data and the run folder, trains, and writes the model."""
        cluster, is_chief = self.cluster, self.cluster.is_chief
        settings = self._resolve(asked)
        rows = Rows()
        with self._silence():
            if isinstance(data, Data):
                print_set(self.model.name, data.opened, settings.global_batch_size)
                context = open_context(settings, data.opened, cluster)
                print_roles(context.examples, data.schema.class_names)
                digest = data.opened.fingerprint
            else:
                examples, rows, digest = open_arrays(data, validation)
                spec = examples["train"].spec
                row_bytes = int(np.prod(spec.shape)) * spec.dtype.size
                check_batch_room(settings.global_batch_size, row_bytes)
                print_arrays(self.model.name, data, examples)
                # Nothing in the loop asks for a set.
                context = RunContext(settings, cluster, cast(Data, None), "device", examples)
        self._build(context, rows)
        with RunFolder(settings.folder, settings.to_dict(), digest, is_chief=is_chief) as folder:
            here = {"precision": settings.precision, "xla": settings.xla, "shuffle_block": None}
            settings = dataclasses.replace(settings, xla=folder.keep_resolved(here)["xla"])
            return self._run(context.with_settings(settings), rows, folder)

    def _resolve(self, asked: TrainConfig) -> Settings:
        policy, optimizer = self.model.dtype_policy.name, self.optimizer
        xla = self._choose_xla() if asked.xla is None else asked.xla
        digest = compiled_digest(self.model, self.shuffle)
        return Settings.of(
            asked,
            {
                # What `train.evaluate` and others know a run of `fit` by.
                "model": f"{type(self.model).__name__}@{digest}",
                "freeze": False,
                "image_size": asked.image_size or 1,
                "learning_rate": float(np.asarray(optimizer.learning_rate)),
                "weight_decay": float(optimizer.weight_decay or 0.0),
                "monitor": "loss",
                "precision": policy if policy in PRECISIONS else "float32",
                "xla": xla,
            },
        )

    def _choose_xla(self) -> bool:
        """Not where Keras knows that it cannot be, or `compile(jit_compile=False)` says so."""
        replicas = self.cluster.num_replicas
        found = choose_xla(
            all_layers(self.model), accelerator=self.cluster.accelerator, num_replicas=replicas
        )
        return found and bool(self.model.jit_compile)

    def _build(self, context: RunContext, rows: Rows) -> None:
        """Calls the model once, so that all variables are made in the strategy's scope."""
        size = context.settings.global_batch_size
        padded = any(e.num_examples % size for e in context.examples.values())
        with self.cluster.strategy.scope():
            x, y = rows.first(context.examples["train"])
            outputs = self.model(x, training=False)
            if len(tf.nest.flatten(outputs)) != 1:
                raise ValueError(
                    f"fit: {self.model.name} expected one output, received "
                    f"{len(tf.nest.flatten(outputs))}: take Keras's own fit, or train them apart"
                )
            for role, examples in context.examples.items():
                labels = examples.split_labels[examples.numbers].astype(np.int64)
                targets = rows.split(tf.constant(labels))[0].numpy()
                check_classes(self.model, targets, outputs, role)
            if padded and len(outputs) > 1:
                check_model(self.model, x, outputs)
            build_compiled(self.model, y, outputs)
            check_row_by_row(self.model, y, outputs, padded)

    def _run(self, context: RunContext, rows: Rows, folder: RunFolder) -> keras.callbacks.History:
        training = self._assemble(context, rows)
        epochs, steps = context.settings.epochs, training.order.steps_per_epoch
        params = {"epochs": epochs, "steps": steps, "verbose": self.verbose}
        strategy = self.cluster.strategy
        callbacks = Callbacks(self.callbacks, self.model, strategy, params)
        try:
            with self._silence():
                print_run(context.settings, self.cluster, folder)
                print_steps(training.order)
                loop = Loop(context, training, folder, callbacks=callbacks, pace=self.pace)
            folder.claim()
            loop.run()
            with folder.last_files():
                folder.write_model(self.model) if self.cluster.is_chief else None
        finally:
            restore(self.optimizer, batch_norms(self.model))
        return callbacks.history

    def _silence(self) -> contextlib.AbstractContextManager[Any]:
        """Around what we print, nothing of the callbacks: only the chief is heard, if `verbose`."""
        if self.verbose and self.cluster.is_chief:
            return contextlib.nullcontext()
        return contextlib.redirect_stdout(io.StringIO())

    def _assemble(self, context: RunContext, rows: Rows) -> Training:
        settings, train = context.settings, context.examples["train"]
        model, optimizer, cluster = self.model, self.optimizer, self.cluster
        with cluster.strategy.scope():
            if not optimizer.built:
                optimizer.build(model.trainable_variables)
            scale = LossScale() if optimizer is not model.optimizer else None
            divides = _reduction(model) in _MEANS
            options = StepOptions(
                objective=KerasObjective(model, rows, cluster.num_replicas, divides),
                clip_norm=settings.clip_norm,
                clip_value=settings.clip_value,
                xla=settings.xla,
                seed=settings.seed,
                pieces=settings.accumulate_steps,
                skip_non_finite=settings.on_nan == "skip",
                # What follows the gradients takes them whole.
                sparse=scale is None
                and settings.clip_value is None
                and settings.accumulate_steps == 1,
            )
            step = TrainStep(model, optimizer, cluster, train.spec, options, scale)
        order = make_training_order(settings, train, shuffle=self.shuffle)
        return Training(
            model, model, step, optimizer, scale, context.examples, context.level, order
        )


def _reduction(model: keras.Model) -> str | None:
    return getattr(keras.losses.get(model.loss), "reduction", "sum_over_batch_size")


def _check(model: keras.Model) -> None:
    """Raises ValueError for a model that a step of ours would train otherwise than Keras."""
    if not getattr(model, "compiled", False) or model.optimizer is None:
        raise ValueError(
            f"fit: {model.name} expected a compiled model, received one without: call "
            "model.compile(optimizer, loss, metrics)"
        )
    if isinstance(model.loss, list | tuple | dict) or model.loss is None:
        raise ValueError(
            f"fit: {model.name} expected one loss, received {model.loss!r}: models of several "
            "outputs are not trained here. Keras's own fit does"
        )
    for name in ("train_step", "compute_loss"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise ValueError(
                f"fit: {model.name} expected Keras's own {name}, received one of its class: the "
                "step here would not call it as it expects. Give the loss to compile, or layers "
                "that call add_loss; or take Keras's own fit"
            )
    if _reduction(model) not in (*_MEANS, *_SUMS):
        raise ValueError(
            f"fit: loss expected a reduction among {', '.join((*_MEANS, *_SUMS))}, received "
            f"{_reduction(model)!r}, whose sum over replicas and padding is another"
        )
