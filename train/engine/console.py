"""What a run tells: lines while it trains, figures and a table at its end."""

from __future__ import annotations

import dataclasses
import json
import platform
import shlex
from pathlib import Path
from typing import Any

from records.roles import Data
from records.sets.schema import Schema
from records.system.versions import versions
from train.devices.strategy import Cluster
from train.engine import tensorboard_files
from train.engine.profile import read_input_share
from train.folders.model_input import ModelInput
from train.folders.run_folder import RunFolder
from train.measures import plots
from train.measures.metrics import Metrics
from train.settings.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class RunResult:
    """Everything `metrics.json` is made of."""

    config: TrainConfig
    hardware: dict[str, Any]
    schema: Schema
    cluster: Cluster
    fingerprint: str
    metrics: dict[str, Metrics]
    seconds: dict[str, float]
    damage: dict[str, tuple[str, ...]]
    skipped_steps: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = self.schema.class_names
        return {
            "dataset": self.schema.name,
            "model": self.config.model,
            "seed": self.config.seed,
            **{role: m.to_dict(names) for role, m in self.metrics.items()},
            "seconds": self.seconds,
            "replicas": self.cluster.num_replicas,
            "devices": list(self.cluster.devices),
            "strategy": self.cluster.name,
            **self.hardware,
            "data_fingerprint": self.fingerprint,
            "skipped_steps": self.skipped_steps,
            "damaged": {k: {"examples": len(v), "records": v} for k, v in self.damage.items()},
            "versions": versions(),
            "machine": {"processor": platform.processor() or platform.machine()},
        }


def print_dataset_note(schema: Schema) -> None:
    """Says plainly when the data are generated."""
    if schema.metadata.get("generated"):
        name = schema.name.split("/")[0]
        print(
            f"{schema.name} is GENERATED data: its figures say nothing about the real task.\n"
            f"  Real data: --dataset {name}/kaggle --manual-dir FOLDER_OF_THE_DOWNLOADED_FILES"
        )


def print_header(
    config: TrainConfig, schema: Schema, cluster: Cluster, hardware: dict[str, Any], path: Path
) -> None:
    """One paragraph: what is trained, on what, where it is written."""
    compiled = "XLA" if hardware["xla"] else "no XLA"
    counts = ", ".join(f"{k} {v:,}" for k, v in schema.split_counts.items())
    print(f"{config.model} on {schema.name} ({counts}; {schema.num_classes} classes)")
    print(
        f"  {cluster.name}, {cluster.num_replicas} replica{'s' * (cluster.num_replicas > 1)}, "
        f"{hardware['precision']}, {compiled}, seed {config.seed} -> {path}"
    )
    if cluster.note:
        print(f"  {cluster.note}")
    if config.freeze:
        print("  backbone frozen: its features are computed once (not augmented)")


def print_epoch(row: dict[str, Any], epochs: int, history: list[dict[str, Any]]) -> None:
    """The progress line of an epoch; time left if every epoch is trained."""
    steady = history[1:] or history  # the first epoch also traces and compiles
    mean = sum(r["seconds"] for r in steady) / len(steady)
    left = mean * (epochs - row["epoch"])
    print(
        f"epoch {row['epoch']:3d}/{epochs}  loss {row['loss']:.4f}  accuracy "
        f"{row['accuracy']:.4f}  validation: loss {row['val_loss']:.4f}  accuracy "
        f"{row['val_accuracy']:.4f}  F1 {row['val_weighted_f1']:.4f}  "
        f"{row['examples_per_s']:>9,.0f} examples/s  at most {_clock(left)} left"
        + (f"  {row['damaged']:,} damaged left out" if row.get("damaged") else "")
        + (f"  {row['skipped_steps']:,} steps skipped" if row.get("skipped_steps") else ""),
        flush=True,
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def write_run(
    folder: RunFolder, result: RunResult, training: Any, data: Data, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """Writes model, figures, TensorBoard pages and, last, `metrics.json`; prints the summary."""
    found = result.to_dict()
    temporary = folder.path / ".model.keras"
    training.model.save(temporary)
    temporary.replace(folder.path / "model.keras")
    ModelInput.of(data).write(folder)
    folder.write_bytes("curves.png", plots.draw_curves(history))
    name, metrics = list(result.metrics.items())[-1]
    confusion = plots.draw_confusion(metrics.confusion, result.schema.class_names, name)
    folder.write_bytes("confusion_matrix.png", confusion)
    tensorboard_files.write_pages(
        folder.path, result.config, result.metrics, training.model, data, confusion
    )
    share = _input_share(result.seconds)
    profile: dict[str, Any] = {"seconds": result.seconds, "input_share": share}
    if result.config.profile:
        profile["trace"] = trace = read_input_share(folder.path)
        profile["trace_conclusion"] = trace and trace["conclusion"]
    folder.write_text("profile.json", json.dumps(profile, indent=2) + "\n")
    found["input_share"] = share
    folder.write_text("metrics.json", json.dumps(found, indent=2) + "\n")
    print_summary(found, folder.path, result.config)
    if result.config.profile:
        print(f"profile: {_describe_trace(profile['trace'], result.config)}")
    return found


def _describe_trace(trace: dict[str, Any] | None, config: TrainConfig) -> str:
    if trace is None:
        return f"no step of --profile {config.profile} was run: nothing was traced"
    if trace["input_share"] is None:
        return trace["conclusion"]
    return (
        f"{100 * trace['input_share']:.1f} % of the traced steps waited for input "
        f"({trace['calls']} calls, {trace['call_ms']:.2f} ms each, {trace['input_ms']:.2f} ms of "
        "it input)"
    )


def _input_share(seconds: dict[str, float]) -> float:
    """Share of the training time in which the devices waited for input."""
    return seconds["input"] / max(seconds["input"] + seconds["step"], 1e-9)


def print_summary(
    found: dict[str, Any], path: Path, config: TrainConfig, again: bool = False
) -> None:
    """The closing table."""
    if again:
        print(f"{path} is a finished run of these settings. To train anew, remove it.")
    print(f"\n{'':12}{'loss':>9}{'accuracy':>10}{'F1':>9}   recall per class")
    for role in ("validation", "test"):
        if role in found:
            m = found[role]
            recall = ", ".join(
                f"{k} {'-' if v is None else format(v, '.3f')}" for k, v in m["recall"].items()
            )
            print(
                f"{role:12}{m['loss']:9.4f}{m['accuracy']:10.4f}{m['weighted_f1']:9.4f}   {recall}"
            )
    s = found["seconds"]
    print(
        f"time: setup {s['setup']:.1f} s, input {s['input']:.2f} s, steps {s['step']:.1f} s, "
        f"rest {s['rest']:.1f} s; the devices waited for input {100 * found['input_share']:.1f} % "
        "of the training time"
    )
    print(f"more: {path}/curves.png, {path}/confusion_matrix.png")
    print(f"      tensorboard --logdir {path}/tensorboard")
    arguments = [str(path), *(["--data-dir", config.data_dir] if config.data_dir else [])]
    evaluate = f"python -m train.evaluate {shlex.join(arguments)}"
    print(f"      {evaluate}   intervals, worst errors; test by --split test")
