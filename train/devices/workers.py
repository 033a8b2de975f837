"""Several worker processes: who they are, how they meet, what each said, which one died.

TensorFlow's own collectives and its coordination service do the work. What it leaves open is
here: decisions that every worker must take alike (`exchange`), an end to waiting for workers that
never start, and a plain sentence about a worker that died.
"""

import contextlib
import dataclasses
import faulthandler
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from train.devices.meeting import NotAllCame, meet
from train.devices.tensorflow_private import expand_hosts, expand_tasks, set_heartbeat

# After so many silent seconds a worker counts as dead. The others notice at once when a process
# ends; this limit is for a machine that stops or a cable that is cut.
_HEARTBEAT_SECONDS = 15
# How long the first worker waits for the last: machines of one job start minutes apart.
_START_SECONDS = 600
_CONNECT_SECONDS = 60  # when all are there; it takes one or two
_EXAMPLE = (
    'Example: TF_CONFIG=\'{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)


# What reading a malformed TF_CONFIG may raise.
_NO_CLUSTER = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_ADDRESS = re.compile(r"\S+:\d{1,5}")


class WorkerDied(RuntimeError):
    """Another worker of the run ended or fell silent, or did not come."""


# The lines with which TensorFlow begins an error of a compiled function: where it was defined.
_SAYS_NOTHING = re.compile(r"Graph execution error:|Detected at node|<stack traces|File \"")
# What a collective ends with when a worker is gone.
_DEATHS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes of a run."""

    addresses: tuple[str, ...]  # `host:port` of each
    index: int  # this process's place among them

    def connect(self) -> Any:
        """Meets the others; the MultiWorkerMirroredStrategy over all devices of all workers.

        Must come before anything else that uses TensorFlow's devices.

        Raises:
          WorkerDied: not all came in time.
        """
        try:
            meet(self.addresses, self.index, _START_SECONDS)
        except NotAllCame as error:
            raise WorkerDied(str(error)) from None
        # TensorFlow takes SIGTERM for itself (to announce a preemption) and then does nothing.
        handler = signal.getsignal(signal.SIGTERM)
        # A worker may die between the meeting and its own start. Only a watchdog that needs no
        # Python can end the wait then (`train.devices.meeting` says why); it shows where, and exits
        # with 1.
        faulthandler.dump_traceback_later(_CONNECT_SECONDS, exit=True)
        try:
            with self.watched():
                return self._make_strategy()
        finally:
            faulthandler.cancel_dump_traceback_later()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)

    def _make_strategy(self) -> Any:
        set_heartbeat(len(self.addresses), _HEARTBEAT_SECONDS)
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(self.addresses)}),
            task_type="worker",
            task_id=self.index,
            num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
            rpc_layer="grpc",
        )
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns TensorFlow's errors about lost workers into `WorkerDied`."""
        try:
            yield
        except _DEATHS as error:
            raise WorkerDied(self.describe_death(error)) from error

    def describe_death(self, error: Exception) -> str:
        """A sentence about the worker that TensorFlow's error names, if it names one."""
        # Only the text of the error says which task it is about; it may name this worker, too.
        named = {int(n) for n in re.findall(r"/job:worker(?:/replica:0)?/task:(\d+)", str(error))}
        # Of a cut link it may name none: then it is one of the others.
        all_others = set(range(len(self.addresses))) - {self.index}
        others = sorted(named - {self.index} or all_others)
        who = " or ".join(f"worker {n} ({self.addresses[n]})" for n in others)
        lines = [line.strip() for line in str(error).splitlines()]
        said = next((line for line in lines if line and not _SAYS_NOTHING.match(line)), lines[0])
        return (
            f"{who} ended or cannot be reached, so worker {self.index} "
            f"({self.addresses[self.index]}) ends too; its own output says why. Start all workers "
            "again with the same command: the run goes on from the last checkpoint. TensorFlow "
            f"said: {said[:300]}"
        )


def make_exchange(strategy: Any, workers: Workers) -> Callable[[np.ndarray], np.ndarray]:
    """What `Cluster.exchange` calls: float64 [n] of each worker -> [workers, n] on all of them.

    Every worker puts its row into a table of zeros; the tables are summed, which is exact.
    """
    device = strategy.extended.worker_devices[0]
    first = workers.index * len(strategy.extended.worker_devices)

    @tf.function(autograph=False)
    def add(tables: Any) -> Any:
        def one(table: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # `identity`: TensorFlow asks on which device the table is, and an argument has none.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(table))

        return strategy.run(one, (tables,))

    def exchange(values: np.ndarray) -> np.ndarray:
        table = np.zeros((len(workers.addresses), len(values)))
        table[workers.index] = values

        def own(context: Any) -> tf.Tensor:
            # Of several local replicas one adds the row; with all of them it would count twice.
            is_first = context.replica_id_in_sync_group == first
            return tf.identity(table if is_first else np.zeros_like(table))

        with tf.device(device):
            tables = strategy.experimental_distribute_values_from_function(own)
        return strategy.experimental_local_results(add(tables))[0].numpy()

    return exchange


def find_workers() -> Workers:
    """The workers of this run from TF_CONFIG, or else from Slurm's variables.

    Raises:
      ValueError: there are neither, or they make no cluster.
    """
    if "TF_CONFIG" in os.environ:
        return _from_tf_config(os.environ["TF_CONFIG"])
    if "SLURM_STEP_NODELIST" in os.environ:
        return _from_slurm(dict(os.environ))
    raise ValueError(
        "workers: --strategy multi_worker expected the cluster in TF_CONFIG or in "
        f"Slurm's variables (under srun), received neither. {_EXAMPLE}"
    )


def _from_tf_config(text: str) -> Workers:
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        if set(cluster) - {"chief", "worker"}:
            raise ValueError(f"jobs {sorted(cluster)}")
        # The chief, where there is one, is worker 0; the others follow, as TensorFlow counts them.
        before = 0 if task["type"] == "chief" else len(cluster.get("chief", []))
        addresses = (*cluster.get("chief", []), *cluster.get("worker", []))
        wrong = [a for a in addresses if not (type(a) is str and _ADDRESS.fullmatch(a))]
        if wrong:
            raise ValueError(f"address {wrong[0]!r}, not HOST:PORT")
        index = before + int(task["index"])
        if not 0 <= int(task["index"]) < len(cluster[task["type"]]):
            raise ValueError(f"index {task['index']} of {len(cluster[task['type']])}")
    except _NO_CLUSTER as error:
        raise ValueError(
            f"workers: TF_CONFIG expected the addresses of `worker` (and `chief`) and this "
            f"process's task, received {text!r} ({error!r}). {_EXAMPLE}"
        ) from None
    return Workers(addresses, index)


def _from_slurm(variables: dict[str, str]) -> Workers:
    """One worker per task of the job step."""
    hosts = expand_hosts(variables["SLURM_STEP_NODELIST"])
    tasks = expand_tasks(variables["SLURM_STEP_TASKS_PER_NODE"])
    # Ports of its own for each of a thousand jobs in a row, 16 workers on one host at most, below
    # those that the system gives to outgoing connections.
    base = 15_000 + 16 * (int(variables.get("SLURM_JOB_ID", 0)) % 1000)
    addresses = [f"{h}:{base + i}" for h, n in zip(hosts, tasks, strict=True) for i in range(n)]
    index = int(variables["SLURM_PROCID"])
    here = variables.get("SLURMD_NODENAME", "")
    if here and addresses[index].rsplit(":", 1)[0] != here:
        raise ValueError(
            f"workers: task {index} expected on {addresses[index].rsplit(':', 1)[0]}, "
            f"received {here}: start the workers with srun --distribution=block"
        )
    return Workers(tuple(addresses), index)


def end_without_the_others(message: str) -> None:
    """Prints why and ends this process immediately, with code 1.

    A normal end would wait for TensorFlow's threads, which may wait for the dead worker.
    """
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
