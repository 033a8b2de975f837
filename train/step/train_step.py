"""One training step in two phases, many steps per call.

1. In every replica: forward and backward over its part of the batch (this part alone may be
   compiled at two or more replicas); its loss is divided by the examples of the global batch,
   so that the gradients, summed over the replicas, are those of the mean. They are unscaled and
   clipped after the sum: each replica holds the same result.
2. In every replica: the optimizer applies them. With a loss scale only if they are finite,
   decided outside the replicas, once for all.

With one replica the reduction is nothing and both phases of a whole chunk of steps are one
function, compiled as a whole with XLA. What Keras's `fit` gets wrong with several replicas
(clipping before the reduction, finiteness of replica 0 only, an uneven last batch, equal
dropout masks) cannot arise here: each happens after the reduction, or knows its replica.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from models.augment import mix_pairs
from train.devices.strategy import Cluster
from train.step.batch_norm import batch_norms, count_rows, row_weights
from train.step.feed import Chunk
from train.step.flops import count_flops
from train.step.keras_private import all_layers, host_loops, join_updates, leave_out_reduction
from train.step.non_finite import NonFiniteSteps
from train.step.objective import AnyObjective
from train.step.precision import LossScale
from train.step.replicas import all_reduce, replica_sum
from train.step.rows import take_rows
from train.step.seeds import Seeds


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """What shapes a step besides model and optimizer.

    Attributes:
      objective: what is minimised.
      clip_norm: largest global norm of the mean gradient, or None.
      clip_value: largest absolute value of each of its numbers, or None.
      xla: compile with XLA.
      seed: names the dropout masks.
      augment: (inputs [b, ...], keys int64 [b]) -> inputs, on the device, or None.
      mixup: alpha of `mix_pairs`, pictures only; 0: none.
      pieces: a replica's rows go through the model in so many parts, one after the other.
      skip_non_finite: a step whose loss or gradients are not finite changes nothing.
      sparse: the gradient of an embedding has the rows of the batch alone, and the optimizer leaves
        the others as they are, moments included. So does Keras's `fit`.
    """

    objective: AnyObjective
    clip_norm: float | None
    clip_value: float | None
    xla: bool
    seed: int
    augment: Callable[[Any, Any], Any] | None = None
    mixup: float = 0.0
    pieces: int = 1
    skip_non_finite: bool = False
    sparse: bool = False


class TrainStep:
    """Trains a model chunk by chunk and sums loss and what else the objective counts.

    Attributes:
      model, optimizer, scale, options: as given.
      loss_sum: float64 [], of the epoch so far, over all replicas.
      totals: all sums of the epoch, `loss_sum` first.
      non_finite: the steps whose loss or gradients were not finite.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        cluster: Cluster,
        spec: tf.TensorSpec,
        options: StepOptions,
        scale: LossScale | None,
    ):
        """Call it in the strategy's scope, with a built optimizer; `spec`: one example's input."""
        self.model, self.optimizer, self.scale = model, optimizer, scale
        self._cluster, self._spec, self.options = cluster, spec, options
        self._variables = [v.value for v in model.trainable_variables]
        self._seeds = Seeds(model, options.seed)
        self.loss_sum = replica_sum(())
        self.totals = [self.loss_sum, *options.objective.make_totals()]
        several_pieces = self._variables if options.pieces > 1 else []
        self._sums = [replica_sum(v.shape, v.dtype) for v in several_pieces]
        self.non_finite = NonFiniteSteps(model, self.totals)
        count_rows(model, cluster.num_replicas)
        several = cluster.num_replicas > 1
        # The gradients come reduced. On one replica, too: TensorFlow's reduction notes its gradient
        # for the life of the process, and with it the whole graph of the step, some 20 MB a run.
        leave_out_reduction(optimizer)
        if options.xla:
            check_compilable(model, cluster)
        if several and options.xla:
            compiled = tf.function(self._forward_backward, jit_compile=True, autograph=False)
            self._forward_backward = compiled  # type: ignore[method-assign]
        if cluster.accelerator and (several or not options.xla):
            self._join_launches()
        # Loops and decisions are written in TensorFlow's own, so AutoGraph need not rewrite the
        # source: that took 2 to 3 s at the start of every run. Keras's `fit` leaves it out, too.
        self._call = tf.function(
            self._run, jit_compile=options.xla and not several, autograph=False
        )

    def _join_launches(self) -> None:
        """Compiles what follows the gradients, which is small and many: some 8 operations for each
        variable to clip and test, 30 to apply (`docs/notes/gpu_audit.md` counts them).

        On accelerators only: on a CPU an operation costs little to begin.
        """
        settle = tf.function(self._settle, jit_compile=True, autograph=False)
        self._settle = settle  # type: ignore[method-assign]
        if self._cluster.num_replicas > 1:  # Keras leaves the replica in `apply`
            join_updates(self.optimizer)
            return
        apply = tf.function(self._apply, jit_compile=True, autograph=False)
        self._apply = apply  # type: ignore[method-assign]

    def run(self, chunk: Chunk, first_step: int) -> None:
        """Trains the chunk's steps; `first_step` counts from the start of the run."""
        self._call(*self.arguments(chunk, first_step))

    def arguments(self, chunk: Chunk, first_step: int) -> tuple[Any, ...]:
        """What the traced function takes for this chunk.

        Numbers that the host needs are int32, which TensorFlow keeps in the host's memory: with a
        loop's counter, a text's length or a seed on a GPU the host would wait for it in every step.
        """
        pieces = self.options.pieces
        seeds = self._seeds.table(
            first_step * pieces, len(chunk.lengths) * pieces, self._cluster.num_replicas
        )
        # XLA compiles for each length; without it one graph serves all.
        lengths = int(chunk.lengths[0]) if self.options.xla else tf.constant(chunk.lengths)
        first, steps = tf.constant(first_step, tf.int64), tf.constant(chunk.steps, tf.int32)
        return chunk.arrays, chunk.counts, lengths, tf.constant(seeds), first, steps

    def count_flops(self, chunk: Chunk, length: float) -> float:
        """FLOPs of a step of this process's replicas, forward and backward, as `train.step.flops`.

        `chunk` was trained, so its graph is there; `length`: mean tokens of the steps' texts.

        Raises:
          ValueError: an operation whose shape the graph does not tell.
        """
        concrete = self._call.get_concrete_function(*self.arguments(chunk, 0))
        whole = math.floor(length)
        found = count_flops(concrete, whole, self.options.pieces)
        if length == whole:
            return found
        # Every token costs the same.
        more = count_flops(concrete, whole + 1, self.options.pieces)
        return found + (more - found) * (length - whole)

    def reset_totals(self) -> None:
        """Begins an epoch's sums anew."""
        for total in self.totals:
            total.assign(tf.zeros_like(total.read_value()))

    @property
    def confusion(self) -> tf.Variable:
        """float64 [C, C] (true class, predicted class) of the epoch so far, over all replicas."""
        return self.totals[1]

    def figures(self) -> dict[str, Any]:
        """The figures of the epoch so far by name, `loss` first; reading them waits for the device.

        NaN where every step was skipped.
        """
        count = self.options.objective.count(self.totals[1:])
        loss = float(self.loss_sum.numpy()) / count if count else float("nan")
        return self.options.objective.figures(self.totals[1:], loss)

    def _run(
        self,
        arrays: Any,
        counts: Any,
        lengths: Any,
        seeds: tf.Tensor,
        first_step: tf.Tensor,
        steps: tf.Tensor,
    ) -> None:
        def body(i: tf.Tensor) -> tuple[tf.Tensor]:
            length = lengths if isinstance(lengths, int) else lengths[i]
            step = first_step + tf.cast(i, tf.int64)
            self._step(arrays, (counts[i], length, seeds), i, step)
            return (i + 1,)

        # Not `for i in tf.range(steps)`: XLA would compile anew for every number of steps.
        tf.while_loop(lambda i: i < steps, body, [tf.constant(0, tf.int32)])

    def _step(self, arrays: Any, shared: Any, i: tf.Tensor, step: tf.Tensor) -> None:
        """Phase 1 in every replica, the decision, phase 2 in every replica."""
        strategy, pieces = self._cluster.strategy, self.options.pieces
        arguments = (arrays, *shared, i, step)
        skips = self.options.skip_non_finite
        before = strategy.run(self.non_finite.read) if skips else None
        if pieces > 1:

            def body(piece: tf.Tensor) -> tuple[tf.Tensor]:
                strategy.run(self._add_piece, (*arguments, piece))
                return (piece + 1,)

            tf.while_loop(lambda piece: piece < pieces, body, [tf.constant(0, tf.int32)])
        gradients, finite = strategy.run(self._gradients, (*arguments, before))
        if self.scale is None and not skips:
            strategy.run(self._apply, (gradients,))
            return
        finite = strategy.experimental_local_results(finite)[0]  # the same on every replica

        def leave() -> tf.Tensor:
            if skips:
                strategy.run(self.non_finite.put_back, (before,))
            return tf.constant(False)

        tf.cond(
            finite,
            lambda: (strategy.run(self._apply, (gradients,)), tf.constant(True))[1],
            leave,
        )
        if skips:
            self.non_finite.skipped.assign_add(tf.cast(~finite, tf.int64))
        if self.scale is not None:
            self.scale.update(finite)

    def _gradients(
        self,
        arrays: Any,
        count: tf.Tensor,
        length: Any,
        seeds: tf.Tensor,
        i: tf.Tensor,
        step: tf.Tensor,
        before: list[tf.Tensor] | None,
    ) -> Any:
        """Phase 1, in a replica: (mean gradients of the global batch, whether all are finite).

        With `before`, what `non_finite.read` gave, the loss must be finite, too.
        """
        if self._sums:
            gradients = [v.read_value() for v in self._sums]
            for v in self._sums:
                v.assign(tf.zeros_like(v))
        else:
            gradients = self._piece(arrays, count, length, seeds, i, step, None)
        # Of this step alone: the epoch's sum, less what it was before the step.
        loss = (
            [] if before is None else [tf.cast(self.loss_sum.read_value() - before[0], "float32")]
        )
        if self._cluster.num_replicas > 1:
            summed = all_reduce([*gradients, *loss])
            gradients, loss = summed[: len(self._variables)], summed[len(self._variables) :]
        return self._settle(gradients, loss)

    def _settle(
        self, gradients: list[tf.Tensor], loss: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Unscaled and clipped gradients, and whether they, and the loss, were finite before."""
        if self.scale is not None:
            gradients = [g / self.scale.scale for g in gradients]
        checked = [*gradients, *loss]
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in checked]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(x)) for x in values])
        if self.options.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.options.clip_norm)
        if self.options.clip_value is not None:
            limit = self.options.clip_value
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
        return gradients, finite

    def _add_piece(self, *arguments: Any) -> None:
        """Adds one piece's gradient to the sums, in a replica."""
        for v, gradient in zip(self._sums, self._piece(*arguments), strict=True):
            v.assign_add(gradient)

    def _piece(
        self, arrays: Any, count: Any, length: Any, seeds: Any, i: Any, step: Any, piece: Any
    ) -> list[tf.Tensor]:
        """The gradient of one piece of this replica's rows; of all where `piece` is None."""
        inputs, labels, rows, weights, keys = arrays
        # Cut to the step before the compiled part, which would else compile for every K.
        rows, number = (rows[i], weights[i], keys[i]), i
        if piece is not None:
            pieces = self.options.pieces
            rows = tuple(tf.reshape(x, [pieces, x.shape[0] // pieces])[piece] for x in rows)
            number = i * pieces + piece
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = seeds[number, replica]
        return self._forward_backward(inputs, labels, rows, length, seed, count, step)

    def _forward_backward(
        self, inputs: Any, labels: Any, rows: Any, length: Any, seeds: Any, count: Any, step: Any
    ) -> list[tf.Tensor]:
        """These rows' part of the gradient of the global batch's mean loss."""
        options = self.options
        row, weight, keys = rows
        x, y, share = take_rows(inputs, row, self._spec, length), tf.gather(labels, row), None
        if options.augment is not None:
            x = options.augment(x, keys)
        if options.mixup:
            x, share = mix_pairs(x, keys, options.mixup)
        if (options.augment is not None or options.mixup) and _takes_uint8(self.model):
            x = tf.cast(tf.round(x), tf.uint8)  # the input would cut off the fractions
        with (
            tf.GradientTape() as tape,
            row_weights(weight),
            self._seeds.given(seeds),
            host_loops(not options.xla),
        ):
            outputs = self.model(options.objective.form_inputs(x), training=True)
            # The mean before the scale: a sum over many rows would leave float16.
            loss, mean = options.objective.measure(outputs, y, weight, count, share)
            scaled = mean if self.scale is None else mean * self.scale.scale
        self.non_finite.note(loss, step)
        self.loss_sum.assign_add(tf.cast(loss, tf.float64))
        options.objective.note(self.totals[1:], outputs, y, weight)
        zero = tf.UnconnectedGradients.ZERO  # of a variable that the loss does not reach
        gradients = tape.gradient(scaled, self._variables, unconnected_gradients=zero)
        if options.sparse:
            return list(gradients)
        # Dense also for embeddings: Adam's moments of words that a batch lacks decay as in the
        # published algorithm, and every replica count and compiler takes the same path.
        return [tf.convert_to_tensor(g) for g in gradients]

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        """Phase 2, in a replica: one optimizer step with the reduced gradients."""
        self.optimizer.apply(gradients, self.model.trainable_variables)


def _takes_uint8(model: keras.Model) -> bool:
    inputs = getattr(model, "inputs", None) or ()
    return any(one.dtype == "uint8" for one in inputs)


def check_compilable(model: keras.Model, cluster: Cluster) -> None:
    """Raises ValueError where XLA cannot compile the step."""
    for layer in all_layers(model):
        # Recurrent ones say so where cuDNN would compute them, which is another matter.
        if not (layer.supports_jit or isinstance(layer, keras.layers.RNN)):
            raise ValueError(
                f"training: --xla expected layers that XLA can compile, received {layer.name} "
                f"({type(layer).__name__}). Choose --no-xla"
            )
    if cluster.num_replicas > 1 and batch_norms(model):
        raise ValueError(
            f"training: --xla expected with one replica or without BatchNorm in training, "
            f"received {cluster.num_replicas} replicas of {model.name}: its statistics are summed "
            "over the replicas in the middle of the forward pass, where tf.distribute leaves the "
            "compiled part. Choose --no-xla, or --freeze"
        )
