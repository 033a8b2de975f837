"""`make gpu-audit`: audits the steps of a model of each kind, and writes docs/notes/gpu_audit.md.

    make gpu-audit                      # some 10 minutes
    make gpu-audit ARGS="resnet50 mlp"  # these models; the rows of the others stay
    make gpu-audit ARGS=missing         # what the page says was not run, of any model

Ends with 1, and lists what it found, where a step would copy or wait on a GPU. Each number of
replicas is audited in a process of its own, on so many logical CPU devices. The page is written
after each row: what was not reached stays as it was, or says "not run".
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import subprocess
import sys
import tempfile
import threading
from concurrent import futures
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "notes" / "gpu_audit.md"
_SETS = {"tabular": "fetal_health", "image": "brain_tumor_mri", "text": "song_lyrics"}
_MODELS = ("mlp", "dcn", "lstm", "bilstm", "gru", "gru_pairs", "gru_language", "efficientnet_lite0")
# They take minutes to trace: audited where they are named.
_LARGE = ("efficientnet_b0", "resnet50", "inception_v3")
_PICTURES = ("efficientnet_lite0", *_LARGE)
# Other targets, of a table model and of a head: the objective is all that differs.
_TARGETS = {
    "mlp": ("multi-label", "numbers", "chosen classes"),
    "efficientnet_lite0": ("head, multi-label", "head, numbers"),
}
# Compiled models of `tests.support.foreign_models`, as `train.fit` takes them.
_FOREIGN = ("residual cnn", "two branches", "gated", "transformer", "own loss and metric")
_ALL = (*_MODELS, *_FOREIGN, *_LARGE)
_page = threading.Lock()
_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
_HEAD = """# What a GPU would do, by model

Made by `make gpu-audit`, from the kernels that TensorFlow registers: no GPU was used.
[On GPUs](../explain/gpu.md) says how it is done and what it cannot show.

Launches: operations of one step that a GPU is given one by one, or compiled parts; all replicas
together. Sums: all-reduces over the replicas in a step, and the bytes that each replica gives to
them (float32 with each precision); of whole pictures the BatchNorm layers in training add two each,
which are small. Findings: operations without a kernel, waits of the host, copies to the host, large
copies to the device. Named and left out: the one boolean of a step with a loss scale
(`mixed_float16`), by which the host learns whether the gradients were finite.

Multi-label, numbers and chosen classes: other targets of the same training; a head has them, too.
Models with spaces in their names are compiled Keras models: `fit` is the step of `train.fit`.
Predictions and evaluations are never compiled. "refused": XLA with BatchNorm in training at several
replicas. "not run": nobody audited this cell yet.

| model | what | replicas | XLA | launches: float32 | bfloat16 | float16 | sums | bytes | findings |
|---|---|---|---|---|---|---|---|---|---|
"""


def _make_data(data_dir: str) -> None:
    tfds = str(Path(sys.executable).with_name("tfds"))
    folders = [f"builders/{name}" for name in _SETS.values()]
    command = [tfds, "build", *folders, "--config=synthetic", f"--data_dir={data_dir}"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)


def main(names: list[str]) -> int:
    """Audits one replica and two, side by side; see the module."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as data_dir, futures.ThreadPoolExecutor() as pool:
        _make_data(data_dir)
        arguments = ([str(replicas), data_dir, *names] for replicas in (1, 2))
        failed = sum(pool.map(functools.partial(_collect, rows), arguments))
    print(f"wrote {PAGE.relative_to(REPOSITORY)}: {len(rows)} rows")
    found = [f"{r['model']}, {r['what']}: {f}" for r in rows for f in r["findings"]]
    print("\n".join(found) or "0 findings")
    return int(bool(found or failed))


def _collect(rows: list[dict[str, Any]], arguments: list[str]) -> int:
    """Adds what a process finds to rows and page; returns how it ended."""
    command = [sys.executable, "-m", "tests.support.gpu_audit_table", "--replicas", *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            with _page:
                rows.append(json.loads(line))
                page = rewrite_page(PAGE.read_text(encoding="utf-8"), rows[-1:])
                PAGE.write_text(page, encoding="utf-8")
            print(_row(json.loads(line)), end="", flush=True)
    return process.returncode


def rewrite_page(old: str, rows: list[dict[str, Any]]) -> str:
    """The page with these rows, and what it had of all others; "not run" where it had nothing."""
    known = [*map(_row, rows), *old.splitlines(keepends=True)]
    body = ""
    for replicas, model in itertools.product((1, 2), _ALL):
        for what, xla in _cells(model):
            start = _start(model, what, replicas, xla)
            said = "refused" if _is_refused(model, what, replicas, xla) else "not run"
            row = next((line for line in known if line.startswith(start)), None)
            body += row or start + " | ".join([said] * 6) + " |\n"
    return _HEAD + body


def _cells(model: str) -> list[tuple[str, bool]]:
    """(what, XLA) of a model's rows."""
    parts, last = ["training"], "prediction"
    if model in _FOREIGN:
        parts, last = ["fit"], "evaluation"
    elif model in _PICTURES:
        parts = ["whole", "head"]
    parts += _TARGETS.get(model, ())
    return [*itertools.product(parts, (False, True)), (last, False)]


def _is_refused(model: str, what: str, replicas: int, xla: bool) -> bool:
    """With BatchNorm in training there is no XLA at several replicas."""
    return xla and replicas > 1 and (what == "whole" or model == "residual cnn")


def _start(model: str, what: str, replicas: int, xla: bool) -> str:
    return f"| {model} | {what} | {replicas} | {'on' if xla else 'off'} | "


def _row(row: dict[str, Any]) -> str:
    launches = " | ".join(str(n) for n in row["launches"])
    start = _start(row["model"], row["what"], row["replicas"], row["xla"])
    sums = f"{row['reductions']} | {row['bytes']}"
    return f"{start}{launches} | {sums} | {len(row['findings'])} |\n"


def _audit_all(replicas: int, data_dir: str, names: list[str]) -> None:
    """Prints one JSON line for each model, part and compiler setting."""
    import tensorflow as tf

    devices = [tf.config.LogicalDeviceConfiguration()] * replicas
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, devices)
    for model, what, xla in _to_audit(names, replicas, PAGE.read_text(encoding="utf-8")):
        print(json.dumps(_audit_steps(model, what, xla, replicas, data_dir)), flush=True)


def _to_audit(names: list[str], replicas: int, page: str) -> list[tuple[str, str, bool]]:
    """(model, what, XLA), quick ones first: a whole network takes ten times as long as its head."""
    is_missing = names == ["missing"]
    found = [
        (model, what, xla)
        for model in (_ALL if is_missing else names or (*_MODELS, *_FOREIGN))
        for what, xla in _cells(model)
        if not _is_refused(model, what, replicas, xla)
        and (not is_missing or f"{_start(model, what, replicas, xla)}not run" in page)
    ]
    return sorted(found, key=lambda cell: cell[1] == "whole")


def _audit_steps(model: str, what: str, xla: bool, replicas: int, data_dir: str) -> dict[str, Any]:
    """A row of the table: the step in each precision."""
    from tests.support.gpu_audit import audit

    row: dict[str, Any] = {"model": model, "what": what, "xla": xla, "replicas": replicas}
    row |= {"launches": [], "reductions": 0, "bytes": 0, "findings": []}
    for precision in _PRECISIONS:
        strategy = "mirrored" if replicas > 1 else "one_device"
        report = audit(trace_step(model, what, xla, precision, strategy, data_dir))
        row["launches"].append(report.launches)
        # A loss scale takes dense gradients: fewer sums than the other precisions.
        row["reductions"] = max(row["reductions"], report.reductions // replicas)
        row["bytes"] = max(row["bytes"], report.reduced_bytes // replicas)
        row["findings"] += [
            str(f)
            for f in report.findings
            if not (precision == "mixed_float16" and "bool" in f.what)
        ]
    return row


def trace_step(
    model: str, what: str, xla: bool, precision: str, strategy: str, data_dir: str
) -> Any:
    """The concrete function of a call of 8 steps, as on a GPU; `what` as in the table."""
    import keras

    import models
    from train.assembly import training as assembly
    from train.assembly.context import RunContext
    from train.devices.strategy import make_cluster
    from train.settings.config import TrainConfig
    from train.settings.resolve import resolve
    from train.step.feed import make_feed
    from train.step.predictor import PredictStep

    keras.utils.clear_session()
    cluster = make_cluster(strategy)
    if model in _FOREIGN:
        return _trace_foreign(model, what, xla, precision, cluster)
    modality = models.MODELS[model].modality
    data = _open(modality, what, data_dir)
    own: dict[str, Any] = {"length_buckets": 1} if modality == "text" else {}
    if modality == "image":
        own = {"image_size": 96, "weights": "random", "freeze": what.startswith("head")}
    fields = {"model": model, "precision": precision, "xla": xla, "epochs": 2}
    asked = TrainConfig(**fields, global_batch_size=32, **own)  # type: ignore[arg-type]
    settings = resolve(asked, data.schema, cluster)
    # Only now: what `auto` chooses asks for the GPU's name.
    cluster = dataclasses.replace(cluster, accelerator=True)
    context = RunContext(settings, cluster, data, "device", {"train": data.examples("train")})
    with mock.patch.object(assembly, "extract_features", _no_features):
        training = assembly.build_training(context)
    feed = make_feed(training.examples["train"], training.order, cluster, "device", one_length=xla)
    feed.start(0)
    chunk = feed.take(8)
    step: Any = training.step
    if what != "prediction":
        arguments = step.arguments(chunk, 0)
    else:
        with cluster.strategy.scope():
            step = PredictStep(training.trained, cluster, training.examples["train"].spec)
        arguments = step.arguments(chunk)
    return step._call.get_concrete_function(*arguments)


def _open(modality: str, what: str, data_dir: str) -> Any:
    """The generated set of a modality, with the targets that `what` names."""
    from records.decoding.input_config import InputConfig
    from records.opened import open_set
    from records.roles import Data

    task = "multi_label" if "multi-label" in what else None
    config = InputConfig(sequence_length=16, vocab_size=300, image_size=96, task=task)
    dataset = f"{_SETS[modality]}/synthetic"
    if "numbers" in what:
        dataset = _build_numbers(modality, Path(data_dir) / f"numbers_{modality}")
    opened = open_set(dataset, data_dir, task=task)
    if what == "chosen classes":
        first, second, *others = opened.schema.class_names
        opened = opened.choose((f"both={first},{second}", *others))
    return Data(opened, config, 0)


def _build_numbers(modality: str, data_dir: Path) -> str:
    """A table or pictures with two numbers each; returns the set's directory."""
    import tensorflow_datasets as tfds

    from tests.support.tiny_sets import build_tiny

    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(96, 2)).astype(np.float32)
    x: Any = rng.normal(size=(96, 4)).astype(np.float32)
    feature: Any = tfds.features.Tensor(shape=(4,), dtype=np.float32)
    if modality == "image":
        x = rng.integers(0, 255, (96, 96, 96, 1)).astype(np.uint8)
        feature = tfds.features.Image(shape=(96, 96, 1))
    rows = [{"x": a, "label": b} for a, b in zip(x, numbers, strict=True)]
    spec = {"x": feature, "label": tfds.features.Tensor(shape=(2,), dtype=np.float32)}
    with contextlib.redirect_stdout(sys.stderr):  # what is printed here is the rows
        return build_tiny(data_dir, spec, {"train": rows}, label_feature="label")


def _trace_foreign(case: str, what: str, xla: bool, precision: str, cluster: Any) -> Any:
    """The step of `train.fit` for a compiled Keras model, or what measures its validation data."""
    import keras
    import tensorflow as tf

    from tests.support.foreign_models import BATCH, CASES, make
    from train.assembly.arrays import open_arrays
    from train.assembly.context import RunContext
    from train.keras_fit import _Use
    from train.settings.config import TrainConfig
    from train.step.feed import make_feed
    from train.step.keras_private import placed
    from train.step.pace import Pace
    from train.step.predictor import Evaluator

    keras.config.set_dtype_policy(precision)
    model = make(case, 0.2)
    with placed(cluster.strategy, model):
        _, x, y, weight = CASES[case]
        examples, rows, _ = open_arrays((x, y) if weight is None else (x, y, weight), None)
        asked = TrainConfig(
            dataset="arrays", early_stopping=0, epochs=2, global_batch_size=BATCH, xla=xla
        )
        cluster = dataclasses.replace(cluster, accelerator=True)
        use = _Use(model, cluster, True, Pace(), [], 0)
        context = RunContext(use._resolve(asked), cluster, None, "device", examples)  # type: ignore[arg-type]
        use._build(context, rows)
        training = use._assemble(context, rows)
        feed = make_feed(examples["train"], training.order, cluster, "device", one_length=xla)
        feed.start(0)
        chunk = feed.take(4)
        assert chunk is not None
        if what == "fit":
            call, arguments = training.step._call, training.step.arguments(chunk, 0)
        else:
            call = Evaluator(training.step, examples["train"], cluster, "device", BATCH)._call  # type: ignore[assignment]
            counts, steps = tf.constant(chunk.counts), tf.constant(chunk.steps, tf.int32)
            arguments = (chunk.arrays, counts, tf.constant(chunk.lengths), steps)
        return call.get_concrete_function(*arguments)


def _no_features(features: Any, examples: dict[str, Any], *_: Any) -> dict[str, Any]:
    """Features of the right shape, all 0: what they are does not matter here."""
    import tensorflow as tf

    width = int(features.output_shape[-1])

    def replaced(source: Any) -> Any:
        inputs = np.zeros((source.index.num_records, width), np.float32)
        spec = tf.TensorSpec([width], tf.float32)
        return dataclasses.replace(source, spec=spec, cached=inputs, filling=None)

    return {role: replaced(source) for role, source in examples.items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replicas"]:
        _audit_all(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    else:
        sys.exit(main(sys.argv[1:]))
