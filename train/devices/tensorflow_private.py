"""Parts of TensorFlow outside its public API that `train` uses, each with its reason.

Nothing else in `train` touches such a part. For each a test in
`tests/train/devices/tensorflow_private_test.py` fails when TensorFlow changes it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver
from tensorflow.python.framework import config as framework_config


def set_heartbeat(num_workers: int, seconds: int) -> None:
    """Sets after how many silent seconds a worker is taken for dead; before any device is used.

    The public API has no setting for it (15 to 60 s by version). This is TensorFlow's own way to
    it, and MultiWorkerMirroredStrategy keeps what it finds set.
    """
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    job = coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=num_workers)
    context.context().configure_coordination_service(
        "standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=1000 * seconds,
        coordinated_jobs=[job],
    )


def expand_hosts(text: str) -> list[str]:
    """The hosts of Slurm's `node[2,10-11]`, in the order given.

    The public SlurmClusterResolver sorts them as text (node10 before node2), so that a worker
    listens on another host than the one it is said to be on, and it fails without GPUs.
    """
    return list(slurm_cluster_resolver.expand_hostlist(text))


def expand_tasks(text: str) -> list[int]:
    """The tasks on each host of Slurm's `2(x3),1`."""
    return list(slurm_cluster_resolver.expand_tasks_per_node(text))


def copies_of(variable: Any) -> list[Any]:
    """The copies of a variable on the local replicas, the variable itself where there is one.

    `experimental_local_results` needs the strategy, and a checkpoint knows the variables alone.
    """
    if isinstance(variable, keras.Variable):
        variable = variable.value
    return list(getattr(variable, "values", None) or [variable])


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Deterministic kernels inside, where `wanted`; after it as before.

    The public API turns them on for good: a caller's own random operations without a seed would
    fail from then on.
    """
    before = framework_config.is_op_determinism_enabled()
    if wanted:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if wanted and not before:
            framework_config.disable_op_determinism()


def parse_trace(data: bytes) -> Any:
    """The XSpace message of a profile's `.xplane.pb`; its class has no public name."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    return xplane_pb2.XSpace.FromString(data)
