"""Each private part of TensorFlow is there and does what it is used for."""

from __future__ import annotations

from collections.abc import Callable

from train.devices.tensorflow_private import expand_hosts, expand_tasks, parse_trace


def test_heartbeat_reaches_the_coordination_service(run_python: Callable[..., str]) -> None:
    source = (
        "from tensorflow.python.eager import context\n"
        "from train.devices.tensorflow_private import set_heartbeat\n"
        "set_heartbeat(3, 15)\n"
        "found = context.context().config.experimental.coordination_config\n"
        "print(found.heartbeat_timeout_in_ms, found.coordinated_job_list[0].num_tasks)\n"
    )
    assert run_python(source).split() == ["15000", "3"]


def test_slurm_lists_keep_their_order() -> None:
    assert expand_hosts("node[2,10-11],login1") == ["node2", "node10", "node11", "login1"]
    assert expand_tasks("2(x3),1") == [2, 2, 2, 1]


def test_copies_of_variables_on_two_replicas(run_python: Callable[..., str]) -> None:
    """Mirrored ones, sums of each replica, Keras's own; and one outside every strategy."""
    source = (
        "import keras\n"
        "from train.devices.strategy import make_cluster\n"
        "from train.devices.tensorflow_private import copies_of\n"
        "from train.step.replicas import replica_sum\n"
        "with make_cluster('mirrored').strategy.scope():\n"
        "    inside = [tf.Variable(1.0), replica_sum(()), keras.Variable(1.0)]\n"
        "for variable in [*inside, tf.Variable(1.0), keras.Variable(1.0)]:\n"
        "    found = copies_of(variable)\n"
        "    found[-1].assign(2.0)\n"
        "    print(len(found), [float(one.numpy()) for one in found][-1])\n"
    )
    assert run_python(source, cpu_devices=2).split() == ["2", "2.0"] * 3 + ["1", "2.0"] * 2


def test_a_trace_is_an_xspace() -> None:
    space = parse_trace(b"")
    space.planes.add(name="/host:CPU").stat_metadata[1].name = "iter_num"
    again = parse_trace(space.SerializeToString())
    assert again.planes[0].stat_metadata[1].name == "iter_num"
