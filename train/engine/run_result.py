"""What a finished run leaves in its folder: model, figures, TensorBoard pages, metrics."""

import dataclasses
import functools
import json
import platform
from typing import Any

import keras
import numpy as np

from records.stores.client import traffic
from train.assembly.context import RunContext
from train.engine import console, tensorboard_files
from train.engine.profile import read_input_share
from train.engine.versions import versions
from train.folders.model_input import ModelInput
from train.folders.run_folder import RunFolder
from train.folders.stored_config import METRICS
from train.measures import plots
from train.measures.metrics import AnyMetrics


@dataclasses.dataclass(frozen=True)
class RunResult:
    """Everything `metrics.json` is made of."""

    context: RunContext  # of the run
    metrics: dict[str, AnyMetrics]  # by role
    last: tuple[np.ndarray, np.ndarray]  # (outputs, labels) of the last role, for its picture
    # What predictions need of the training besides the model, see `ModelInput.of`.
    learned: dict[str, Any]
    seconds: dict[str, float]  # by kind: setup, input, step, rest
    skipped_steps: int  # with `--on-nan skip`
    course: str  # how the validation loss went, in a line
    arithmetic: dict[str, float | None]  # what `train.engine.arithmetic.steady_figures` gives

    @property
    def input_share(self) -> float:
        """Share of the training time in which the devices waited for input."""
        seconds = self.seconds
        return seconds["input"] / max(seconds["input"] + seconds["step"], 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        settings, cluster, data = self.context.settings, self.context.cluster, self.context.data
        names, damage = data.schema.class_names, data.damage()
        return {
            "dataset": data.schema.name,
            "model": settings.model,
            "seed": settings.seed,
            "task": settings.task,
            **{role: m.to_dict(names) for role, m in self.metrics.items()},
            "course": self.course,
            "seconds": self.seconds,
            **self.arithmetic,
            "replicas": cluster.num_replicas,
            "devices": list(cluster.devices),
            "strategy": cluster.name,
            "precision": settings.precision,
            "xla": settings.xla,
            "shuffle_block": settings.shuffle_block,
            "data_fingerprint": data.opened.fingerprint,
            "skipped_steps": self.skipped_steps,
            "damaged": {k: {"examples": len(v), "records": v} for k, v in damage.items()},
            "versions": versions(),
            "machine": {"processor": platform.processor() or platform.machine()},
            # Of this start, before the last upload; nothing where no store was asked.
            **({"stores": dataclasses.asdict(traffic)} if traffic.requests else {}),
        }


def write_result(
    folder: RunFolder, result: RunResult, model: keras.Model, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """Writes model, `metrics.json`, then pictures and TensorBoard pages; prints the summary.

    Returns:
      What `metrics.json` holds.
    """
    settings, data = result.context.settings, result.context.data
    found = result.to_dict()
    # Also where the run was at its end already, and the file was edited since.
    folder.write_history(history)
    # The model first: what fails after it, such as a plot, costs no training.
    folder.write_model(model)
    ModelInput.of(data, **result.learned).write(folder)
    profile = {"seconds": result.seconds, "input_share": result.input_share}
    if settings.profile:
        profile["trace"] = trace = read_input_share(folder.path)
        profile["trace_conclusion"] = trace and trace["conclusion"]
    folder.write_text("profile.json", json.dumps(profile, indent=2) + "\n")
    found["input_share"] = result.input_share
    found["history_sha256"] = folder.history_sha256()
    # A folder with metrics.json is a finished run: after it come pictures alone.
    folder.write_text(METRICS, json.dumps(found, indent=2) + "\n")
    _write_pictures(folder, result, model, history)
    console.print_summary(found, folder.place, settings.data_dir)
    if settings.profile:
        console.print_trace(trace, settings.profile)
    return found


def _write_pictures(
    folder: RunFolder, result: RunResult, model: keras.Model, history: list[dict[str, Any]]
) -> None:
    """Curves, confusion matrix and TensorBoard's pages; what cannot be drawn is left out."""
    settings, data = result.context.settings, result.context.data
    # The last role is test where that was evaluated, else validation.
    name, metrics = list(result.metrics.items())[-1]
    names, task = data.schema.class_names, settings.task
    outputs, labels = result.last
    own, draw_own = plots.outcome(task, metrics, names, name, outputs, labels)
    pictures = {"curves.png": lambda: plots.draw_curves(history, task), own: draw_own}
    drawn = {
        file: plots.draw_safely(file, draw, functools.partial(folder.write_bytes, file))
        for file, draw in pictures.items()
    }

    def write_pages() -> None:
        used = settings.used(data.schema.modality)
        tensorboard_files.write_pages(
            folder.path, used, result.metrics, model, data, drawn[own], len(history)
        )

    plots.draw_safely("pages for TensorBoard", write_pages)
