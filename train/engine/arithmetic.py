"""How much arithmetic a run's model does, how fast, and which share of the peak that is."""

import sys
from typing import Any

import numpy as np

from train.assembly.training import Training
from train.devices.peaks import find_peak, gpu_names
from train.devices.strategy import Cluster
from train.step.feed import Chunk

# Columns of the history, and keys of `metrics.json`.
FIGURES = ("flops_per_example", "flops_per_s", "peak_share")


class Arithmetic:
    """Counts a step's FLOPs once, and turns examples/s into FLOP/s."""

    def __init__(self, cluster: Cluster, precision: str, peak_tflops: float | None):
        """`peak_tflops` is a device's, else that of the GPUs counts, where it is known."""
        self._cluster = cluster
        names = gpu_names() if cluster.accelerator else []
        peak = find_peak(names[0], precision) if names else None
        if peak_tflops is not None:
            peak = 1e12 * peak_tflops
        self._peak = None if peak is None else peak * cluster.num_replicas
        # Forward and backward, of what is trained; None before `count`, and where no graph tells.
        self.per_example: float | None = None
        self._is_counted = False

    def count(self, training: Training, chunk: Chunk) -> None:
        """Reads the graph that has trained `chunk`: once, 10 ms for a table, 0.5 s for pictures."""
        if self._is_counted:
            return
        self._is_counted = True
        order = training.order
        lengths = order.lengths(0, 0, order.steps_per_epoch)
        length = float(np.mean(chunk.lengths[0] if lengths is None else lengths))
        local = len(self._cluster.devices) / self._cluster.num_replicas
        try:
            flops = training.step.count_flops(chunk, length)
        except ValueError as error:
            print(f"FLOPs are not counted: {error}", file=sys.stderr)
            return
        self.per_example = flops / (order.global_batch_size * local)

    def figures(self, examples_per_s: float) -> dict[str, float]:
        """Those of `FIGURES` that are known."""
        if self.per_example is None:
            return {}
        flops_per_s = self.per_example * examples_per_s
        found = {"flops_per_example": self.per_example, "flops_per_s": flops_per_s}
        return found if self._peak is None else found | {"peak_share": flops_per_s / self._peak}


def steady_figures(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """`FIGURES` of a run, from the rows of its last stage; None for what is not known.

    The first epoch also traces and compiles: its rate is left out, and of the others the median
    counts.
    """
    found: dict[str, float | None] = {}
    for name in FIGURES:
        values = [row[name] for row in (rows if name == FIGURES[0] else rows[1:]) if name in row]
        found[name] = float(np.median(values)) if values else None
    return found
