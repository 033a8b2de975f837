"""Features of a frozen backbone: computed once, kept beside the shards, trained on from then on.

A file's name holds a hash of all that shaped the features: the backbone's weights, what it makes
of a fixed picture (so its preprocessing, precision and arithmetic), the picture size, the records,
and how many rows went through it at once, because matrix products round differently. The features
are of unaugmented pictures: augmented ones would need a pass of the backbone in every epoch, which
is what `--no-freeze` and `--unfreeze-from` do.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from records.examples import Examples
from records.loading import disk_cache
from train.devices.strategy import Cluster
from train.step.predictor import Predictor


def extract_features(
    features: keras.Model,
    examples: dict[str, Examples],
    decoded: str,
    cluster: Cluster,
    level: str,
    global_batch_size: int,
) -> dict[str, Examples]:
    """Runs the backbone once over every picture of all roles, or reads what an earlier run kept.

    Args:
      features: [B, S, S, C] in 0..255 -> float32 [B, D].
      examples: pictures by role.
      decoded: what shaped the decoded pictures, see `Data.content_key`.
      cluster, level: where they are run.
      global_batch_size: pictures of a batch, all replicas.

    Returns:
      The same roles with inputs float32 [N, D].
    """
    key = f"{_backbone_key(features)} {decoded} {cluster.num_replicas} {global_batch_size}"
    extracted: dict[int, np.ndarray] = {}
    for role, source in examples.items():
        if id(source.index) in extracted:
            continue
        # Train and validation may be parts of one split: it is run once, for all of its roles.
        sharing = [e.numbers for e in examples.values() if e.index is source.index]
        split = dataclasses.replace(source, numbers=np.unique(np.concatenate(sharing)))

        # Made where it is needed: it decodes, and copies to the devices.
        def compute(split: Examples = split, role: str = role) -> np.ndarray:
            predictor = Predictor(features, split, cluster, level, global_batch_size)
            return predictor.outputs(f"features of {role}")

        width = int(features.output_shape[-1])
        found = _read_or_compute(f"features-{role}", split, width, compute, key, cluster)
        extracted[id(source.index)] = found
    return {role: _with_inputs(source, extracted) for role, source in examples.items()}


def _read_or_compute(
    name: str,
    split: Examples,
    width: int,
    compute: Callable[[], np.ndarray],
    key: str,
    cluster: Cluster,
) -> np.ndarray:
    """The features float32 [N, D] of a split; zeros for records that no role needs."""
    records = hashlib.sha256(np.asarray(split.numbers).tobytes()).hexdigest()
    path = disk_cache.cache_path(split.schema, name, f"{key} {records}")
    shape = (split.index.num_records, width)
    # Several workers would have to agree on who has the file: they compute together instead.
    alone = cluster.name != "multi_worker"
    stored = disk_cache.open_stored(path, shape, np.float32, False) if alone else None
    if stored is not None:
        print(f"  {name}: kept by an earlier run, {path.name}")
        return stored
    found = np.zeros(shape, np.float32)
    found[split.numbers] = compute()
    if alone:
        _keep(path, found)
    return found


def _keep(path: Path, found: np.ndarray) -> None:
    """Writes the file; a folder that cannot be written costs the next run the computation."""

    def fill(out: np.ndarray) -> None:
        out[:] = found

    try:
        disk_cache.write(path, found.shape, found.dtype, fill)
    except OSError as error:
        print(f"  features are not kept for the next run: {error.__cause__ or error}")


def _with_inputs(source: Examples, extracted: dict[int, np.ndarray]) -> Examples:
    inputs = extracted[id(source.index)]
    spec = tf.TensorSpec(inputs.shape[1:], tf.float32)
    return dataclasses.replace(source, spec=spec, cached=inputs, filling=None)


def _backbone_key(features: keras.Model) -> str:
    """A hash of the weights and of the features of one fixed picture."""
    content = hashlib.sha256()
    for weight in features.get_weights():
        content.update(np.ascontiguousarray(weight).tobytes())
    shape = features.input_shape[1:]
    picture = np.arange(np.prod(shape)).reshape(1, *shape) % 251
    content.update(np.asarray(features(picture.astype(np.float32), training=False)).tobytes())
    return f"{content.hexdigest()} {shape} keras-{keras.__version__}"
