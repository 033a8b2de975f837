"""Devices and distribution strategies: everything that depends on the hardware present."""

import dataclasses
import functools
import hashlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from train.devices.workers import Workers, find_workers, make_exchange

_DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU that the driver knows


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A strategy and what the feed needs to know of it.

    Attributes:
      strategy: the tf.distribute strategy; TensorFlow's default one for a single replica, so
        that a whole chunk of steps can be one compiled function.
      name: `one_device`, `mirrored` or `multi_worker`.
      devices: this process's devices, one per local replica.
      first_replica: the global number of the first local replica.
      num_replicas: replicas of all processes.
      accelerator: the devices are GPUs.
      note: a sentence for the user, or "".
      workers: the processes of the run, where there are several.
      exchanger: what `exchange` calls then.
    """

    strategy: Any
    name: str
    devices: tuple[str, ...]
    first_replica: int
    num_replicas: int
    accelerator: bool
    note: str = ""
    workers: Workers | None = None
    exchanger: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def is_chief(self) -> bool:
        """This process writes the run folder."""
        return self.first_replica == 0

    def exchange(self, *values: float) -> np.ndarray:
        """What every worker said: float64 [workers, n], the same on all of them.

        Clocks, free memory and signals differ between workers, but all must make the same calls: a
        worker that makes another call waits for the others without end. So values that depend on
        such things are exchanged first, and every worker decides from the same table (`[0]` is the
        chief's row, `.max(0)` or `.any()` combine all). Every worker must call it; a single process
        gets its own values back.
        """
        mine = np.array(values, np.float64)
        return mine[None] if self.exchanger is None else self.exchanger(mine)

    def check_same(self, what: str, text: str) -> None:
        """Every worker must call it.

        Raises:
          ValueError: not all workers have the same text.
        """
        digest = int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)  # exact in a float64
        said = self.exchange(digest)[:, 0]
        if (said != said[0]).any():
            others = ", ".join(str(i) for i in np.flatnonzero(said != said[0]))
            raise ValueError(
                f"devices: {what} expected the same on all workers, received something "
                f"else on worker {others} than on worker 0"
            )

    def slices(self, global_batch_size: int) -> list[slice]:
        """The rows of a global batch that each local replica takes.

        Raises:
          ValueError: the batch cannot be split evenly.
        """
        if global_batch_size % self.num_replicas:
            raise ValueError(
                f"devices: --global-batch-size expected a multiple of the "
                f"{self.num_replicas} replicas, received {global_batch_size}"
            )
        size = global_batch_size // self.num_replicas
        # Rows go to the replicas by their global numbers: one process with 4 replicas and 4
        # processes with one each see the same rows on the same replica.
        numbers = range(self.first_replica, self.first_replica + len(self.devices))
        return [slice(n * size, (n + 1) * size) for n in numbers]


def set_up_devices(cpu_devices: int | None, deterministic: bool) -> None:
    """Configures the devices; must come before TensorFlow uses any.

    Of GPUs (not measured):

    | setting | why |
    |---|---|
    | memory growth | several processes and the profiler share a GPU |
    | TF_GPU_THREAD_MODE=gpu_private | threads of its own start a GPU's kernels, which else wait
      behind the input's work (tensorflow.org/guide/gpu_performance_analysis); one set in the
      environment stays |
    | TF32 | stays on, TensorFlow's default for float32 products from Ampere on: 10 bits of
      mantissa (tf.config.experimental.enable_tensor_float_32_execution) |
    | deterministic kernels | `--deterministic`, the default: a resumed run is bitwise equal to one
      that was not interrupted |
    | cuDNN for recurrent layers | where the step is not compiled: see `train/settings/auto.py` |
    """
    tf.config.experimental.enable_op_determinism() if deterministic else None
    # TensorFlow reads it when it makes its devices: it must be set before the first is used.
    os.environ.setdefault("TF_GPU_THREAD_MODE", "gpu_private")
    try:
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        if cpu_devices:
            cpu = tf.config.list_physical_devices("CPU")[0]
            configuration = [tf.config.LogicalDeviceConfiguration()] * cpu_devices
            tf.config.set_logical_device_configuration(cpu, configuration)
    except RuntimeError as error:
        # A process makes its devices once. Asked for as many as there are already, it goes on:
        # tests and sweeps call this more than once.
        present = len(tf.config.list_logical_devices("CPU"))
        if cpu_devices and cpu_devices != present:
            raise ValueError(
                f"devices: --cpu-devices expected {present}, which this process already "
                f"uses, received {cpu_devices}: ask for them before the process makes its first "
                "model or tensor. In Python: tf.config.set_logical_device_configuration"
            ) from error


def make_cluster(name: str, cpu_devices: int | None = None) -> Cluster:
    """Makes the strategy `name` over all devices of this process.

    Args:
      name: `one_device`, `mirrored`, `multi_worker` (cluster from TF_CONFIG or Slurm) or `auto`:
        `mirrored` where there are several GPUs, or several logical CPU devices were asked for,
        else `one_device`.
      cpu_devices: how many were asked for.
    """
    if name == "multi_worker":  # before anything asks for the devices
        if cpu_devices:
            raise ValueError(
                f"devices: --cpu-devices expected with other strategies (a worker is one "
                f"CPU device, or all its GPUs), received {cpu_devices} with multi_worker"
            )
        return _multi_worker()
    gpus = [d.name for d in tf.config.list_logical_devices("GPU")]
    devices = gpus or [d.name for d in tf.config.list_logical_devices("CPU")]
    if name == "auto":
        several = len(gpus) > 1 or (not gpus and (cpu_devices or 1) > 1)
        name = "mirrored" if several else "one_device"
    if name == "mirrored" and len(devices) > 1:
        strategy = _mirrored(tuple(devices))
        return Cluster(strategy, name, tuple(devices), 0, len(devices), bool(gpus))
    note = "" if gpus else _unseen_gpus()
    if name == "mirrored":
        kind = "GPU" if gpus else "CPU"
        one = f"mirrored on the one {kind} device there is: 1 replica (--cpu-devices 2 makes two)"
        note = f"{one}. {note}".removesuffix(". ")
    # Also for `mirrored` on one device: MirroredStrategy there would keep a chunk from being
    # compiled as a whole.
    default = tf.distribute.get_strategy()
    return Cluster(default, name, (devices[0],), 0, 1, bool(gpus), note)


def _unseen_gpus() -> str:
    """What to say where the machine has GPUs and TensorFlow sees none; "" where that was asked for.

    A value of CUDA_VISIBLE_DEVICES that names no GPU hides them all, without a word.
    """
    count, visible = len(list(_DRIVER.glob("*"))), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not count or (visible is not None and visible.strip() in ("", "-1")):
        return ""
    why = "the libraries of CUDA come with: pip install '.[gpu]'"
    if visible is not None:
        why = f"CUDA_VISIBLE_DEVICES={shlex.quote(visible)} must name some, by numbers from 0 on"
    return f"on the CPU, although this machine has GPUs ({count}): TensorFlow sees none; {why}"


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    """One strategy for the same devices: each numbers its reductions from the start, and TensorFlow
    takes one that has the number of an earlier strategy's for the same, of another shape.
    """
    return tf.distribute.MirroredStrategy(list(devices))


def _multi_worker() -> Cluster:
    """One process of several; waits for the others."""
    workers = find_workers()
    print(
        f"worker {workers.index} of {len(workers.addresses)} at {workers.addresses[workers.index]}"
        "; waiting for the others",
        flush=True,
    )
    strategy = workers.connect()
    devices = tuple(strategy.extended.worker_devices)
    return Cluster(
        strategy,
        "multi_worker",
        devices,
        workers.index * len(devices),
        strategy.num_replicas_in_sync,
        "GPU" in devices[0],
        workers=workers,
        exchanger=make_exchange(strategy, workers),
    )
