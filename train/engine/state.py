"""Everything a run needs to go on bitwise where it was: gathered, saved and put back.

Variables are the same on every replica, so one copy of each is kept; only the sums of the epoch
differ, and each replica's own is kept. A run may go on with another number of replicas.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from train.assembly.training import Training
from train.devices.strategy import Cluster
from train.devices.tensorflow_private import copies_of
from train.engine.callbacks import Callbacks, unpack_state
from train.engine.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from train.engine.early_stopping import BestSoFar
from train.folders.run_folder import RunFolder
from train.step.objective import Diverged

_OTHER_MODEL = (
    ". The run began with another model, or with another version of it: name another --run-dir to "
    "begin anew"
)


@dataclasses.dataclass
class Progress(BestSoFar):
    """Where a run stands; all of it is in every checkpoint."""

    # epoch and step: the next step, and its epoch; the step after the last while validating.
    epoch: int = 0
    step: int = 0
    finished: bool = False  # no epoch is left, or early stopping ended the run
    # One row per finished epoch.
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    # Time spent so far, by kind: input, step, rest.
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"input": 0.0, "step": 0.0, "rest": 0.0}
    )
    skipped_steps: int = 0  # steps that were skipped because their loss was NaN or infinite


class State:
    """The state of a run."""

    def __init__(
        self,
        training: Training,
        cluster: Cluster,
        folder: RunFolder,
        keep: int,
        before: State | None = None,
    ):
        """Keeps the newest `keep` checkpoints in the run folder.

        Of `before`, the head's stage, history and times go on.
        """
        self._training, self._cluster, self._keep = training, cluster, keep
        self._checkpoints, self._folder = folder.checkpoints, folder
        self.progress = Progress()
        if before is not None:
            # Of its own: a resume begins with the head's stage, which is found finished.
            self._checkpoints = folder.checkpoints / "fine_tuning"
            history, seconds = list(before.progress.history), dict(before.progress.seconds)
            skipped = before.progress.skipped_steps
            self.progress = Progress(history=history, seconds=seconds, skipped_steps=skipped)
        self.best: list[np.ndarray] = []  # the best weights so far; none without early stopping
        self.callbacks: Callbacks | None = None  # Keras's
        # Their attributes in the checkpoint that was taken up.
        self.of_callbacks: list[dict[str, Any]] = []

    @property
    def number(self) -> int:
        """The next step, counted from the start of the stage."""
        return self.progress.epoch * self._training.order.steps_per_epoch + self.progress.step

    def keep_best(self) -> None:
        """Remembers the weights as they are now."""
        self.best = read_values(self._weights())

    def take_best(self) -> None:
        """Puts the best weights back."""
        assign_values(self._weights(), self.best)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The moving average of the weights in their place, with `--ema`."""
        if not self._has_average:
            yield
            return
        # A copy on the host, put back bitwise: validating must not change the training.
        kept = read_values(self._trainable())
        self.take_average()
        try:
            yield
        finally:
            assign_values(self._trainable(), kept)

    def take_average(self) -> None:
        """Puts the moving average of the weights into the model; nothing without `--ema`."""
        if not self._has_average:
            return
        with self._cluster.strategy.scope():
            self._training.optimizer.finalize_variable_values(self._trainable())

    @property
    def _has_average(self) -> bool:
        """Before the first update Keras's averages are zeros."""
        optimizer = self._training.optimizer
        return bool(optimizer.use_ema and int(optimizer.iterations.numpy()))

    def save(self) -> None:
        """Writes a checkpoint. Every worker must call it; the chief writes.

        Raises:
          Diverged: weights are NaN or infinite.
        """
        totals = self._all_totals()  # an exchange: every worker must take part
        if not self._cluster.is_chief:
            return
        arrays = {name: read_values(group) for name, group in self._groups().items()}
        if not all(np.isfinite(a).all() for a in arrays["model"]):  # not over a good checkpoint
            raise Diverged(
                f"checkpoint: weights after step {self.number} expected numbers, received others: "
                f"the gradients of a step were none. {self._checkpoints} holds the states from "
                "before it",
                "Choose a smaller --learning-rate or --clip-norm 1, and another "
                "--run-dir; --on-nan skip goes on from there without the update of such a step",
            )
        # Not among `_groups`: the sums differ by replica, and the best weights are arrays already.
        arrays |= {"totals": totals, "best": self.best}
        state = dataclasses.asdict(self.progress)
        state |= {"order": self._training.order.state, "replicas": self._cluster.num_replicas}
        if self.callbacks is not None:
            state["callbacks"], arrays["callbacks"] = self.callbacks.state()
        write_checkpoint(self._checkpoints, self.number, arrays, state, self._keep)
        self._folder.upload()

    def restore(self) -> None:
        """Takes up the newest readable checkpoint of the run folder, if there is one.

        Raises:
          ValueError: it is of another model or of another order of examples, or not all workers
            see the same one.
        """
        found = read_checkpoint(self._checkpoints)
        if found is not None:
            self._take_up(*found)
        elif self._cluster.is_chief and (self._checkpoints.parent / "history.csv").exists():
            print(
                "  no checkpoint was left (--checkpoint-steps, --checkpoint-minutes): begins anew"
            )
        where = f"newest checkpoint in {self._checkpoints} (name a --run-dir they share)"
        self._cluster.check_same(where, "none" if found is None else str(self.number))

    def _take_up(self, arrays: dict[str, list[np.ndarray]], state: dict[str, Any]) -> None:
        self.of_callbacks = unpack_state(state.pop("callbacks", []), arrays.get("callbacks", []))
        # What is left of the state then are the fields of `Progress`.
        order, replicas = state.pop("order", None), state.pop("replicas", None)
        if order != self._training.order.state:
            raise CheckpointError(
                f"checkpoint: {self._checkpoints}: order of examples expected "
                f"{self._training.order.state}, received a checkpoint of {order}. Continue it "
                "with the settings it began with, or name another --run-dir"
            )
        for name, group in self._groups().items():
            # Empty groups (no loss scale, no early stopping) leave no array in the file.
            assign_values(group, arrays.get(name, []))
        self._assign_totals(arrays["totals"])
        self.best = arrays.get("best", [])
        self.progress = Progress(**state)
        if not self._cluster.is_chief:
            return
        where = f"epoch {self.progress.epoch + 1}, step {self.progress.step}"
        print(f"  going on at {'the end of training' if self.progress.finished else where}")
        if replicas != self._cluster.num_replicas:
            print(
                f"  began with {replicas} replica{'s' * (replicas > 1)}, goes on with "
                f"{self._cluster.num_replicas}: the same examples in the same order; results "
                "agree within rounding, dropout masks differ"
            )

    def _trainable(self) -> list[Any]:
        return list(self._training.trained.trainable_variables)

    def _weights(self) -> list[Any]:
        return list(self._training.trained.variables)

    def _groups(self) -> dict[str, list[Any]]:
        """Every variable that shapes what comes next and is the same on all replicas."""
        scale = self._training.scale
        return {
            "model": self._weights(),
            "optimizer": list(self._training.optimizer.variables),
            "scale": [scale.scale, scale.finite_steps] if scale else [],
        }

    def _totals(self) -> list[Any]:
        return self._training.step.totals

    def _all_totals(self) -> list[np.ndarray]:
        """The epoch's sums of the replicas of all workers: float64 [R, ...] each."""
        local = [np.stack([p.numpy() for p in copies_of(v)]) for v in self._totals()]
        # Exact: float64 holds every sum, and only zeros are added to a worker's numbers.
        flat = self._cluster.exchange(*np.concatenate([a.ravel() for a in local]))
        cuts = np.cumsum([a.size for a in local])[:-1]
        parts = zip(np.split(flat, cuts, axis=1), local, strict=True)
        return [part.reshape(self._cluster.num_replicas, *a.shape[1:]) for part, a in parts]

    def _assign_totals(self, stored: list[np.ndarray]) -> None:
        """Each replica takes its own sums; of another number of replicas the first takes all."""
        first = self._cluster.first_replica
        for variable, sums in zip(self._totals(), stored, strict=True):
            if len(sums) != self._cluster.num_replicas:
                # The step adds the replicas' sums up: where they lie makes no difference.
                all_of_it = sums.sum(0)
                sums = np.zeros((self._cluster.num_replicas, *sums.shape[1:]))
                sums[0] = all_of_it
            for i, part in enumerate(copies_of(variable)):
                part.assign(sums[first + i].astype(part.dtype.as_numpy_dtype))


def read_values(variables: list[Any]) -> list[np.ndarray]:
    """The arrays of variables that are the same on every replica."""
    return [copies_of(v)[0].numpy() for v in variables]


def assign_values(variables: list[Any], arrays: list[np.ndarray]) -> None:
    """Puts arrays into variables, on every local replica.

    Raises:
      CheckpointError: they are not as many as the variables, or of other shapes.
    """
    if len(arrays) != len(variables):
        raise CheckpointError(
            f"checkpoint: expected {len(variables)} variables, received {len(arrays)}{_OTHER_MODEL}"
        )
    for variable, array in zip(variables, arrays, strict=True):
        parts = copies_of(variable)
        if array.shape != tuple(parts[0].shape):
            raise CheckpointError(
                f"checkpoint: variable {parts[0].name} expected shape {tuple(parts[0].shape)}, "
                f"received {array.shape}{_OTHER_MODEL}"
            )
        for part in parts:
            part.assign(array)
