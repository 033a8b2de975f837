"""Worker processes on this host train as one process with as many devices; one that dies."""

import json
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import yaml

from tests.support.runs import (
    REPOSITORY,
    check_same_run,
    finish,
    fork_run,
    free_ports,
    start,
    start_workers,
)
from tests.support.settings import make_settings
from train.devices import workers
from train.folders.run_folder import RunFolder
from train.run import parse_config

DOCS = REPOSITORY / "docs" / "howto" / "several_workers"
TABLE = ["--dataset=fetal_health/synthetic", "--no-xla"]
TEXT = ["--dataset=song_lyrics/synthetic", "--sequence-length=16", "--epochs=2"]
PICTURES = ["--dataset=brain_tumor_mri/synthetic", "--image-size=64", "--epochs=2"]


def test_killed_worker_ends_the_others_and_a_restart_ends_as_one_process_does(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    flags = [*TABLE, "--model=mlp_small", f"--data-dir={synthetic_data_dir}", "--epochs=8"]
    flags += ["--checkpoint-steps=16", "--dropout=0.1"]
    one_process = ["--strategy=mirrored", "--cpu-devices=2", f"--run-dir={tmp_path / 'a'}"]
    finish(fork_run(*flags, *one_process))
    flags += ["--strategy=multi_worker", f"--run-dir={tmp_path / 'b'}"]
    # Killed, a forked process ends as another does.
    survivor, victim = start_workers(2, *flags, begin=fork_run)
    _wait_for_checkpoint(tmp_path / "b")
    victim.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (printed,) = finish(survivor, code=1, timeout_s=60)
    assert time.monotonic() - killed < 60
    victim.communicate()
    assert "error: worker 1 (localhost:" in printed or "error: another worker" in printed
    assert "Start all workers again with the same command" in printed
    chief, other = finish(*start_workers(2, *flags, begin=fork_run))
    assert "going on at epoch" in chief and "going on" not in other
    check_same_run(tmp_path / "a", tmp_path / "b")


def _wait_for_checkpoint(run_dir: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(run_dir.glob("checkpoints/step-*.npz")):
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.01)


_EPOCHS = 20
# The feed of one worker, without a cache; prints its share of the bytes of all epochs.
FEED = """
import sys
from records import InputConfig, open_data
from tests.support.settings import make_settings
from train.step.feed import make_feed
from train.assembly.data import make_training_order
from train.devices.strategy import make_cluster

directory, epochs = sys.argv[1], int(sys.argv[2])
cluster = make_cluster("multi_worker")
data = open_data("fetal_health/synthetic", directory, InputConfig(cache="none"))
for block in (None, 512):
    examples = data.examples("train")
    before = examples.loader.times["read"].bytes
    order = make_training_order(make_settings(global_batch_size=32, shuffle_block=block), examples)
    feed = make_feed(examples, order, cluster, "none")
    for epoch in range(epochs):
        feed.start(epoch)
        while feed.take(64):
            pass
    total = epochs * examples.index.length[examples.numbers].sum()
    read = examples.loader.times["read"].bytes - before
    print("SHARE", cluster.first_replica, read / total, flush=True)
    cluster.exchange(0)
"""


def test_slurm_tasks_meet_and_each_reads_its_own_part(synthetic_data_dir: Path) -> None:
    """Two tasks of a job step on one node: each reads half of the bytes, and a little ahead.

    With one order of the whole set, and with one in blocks.
    """
    common = {
        "SLURM_JOB_ID": str(free_ports(1)[0]),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURMD_NODENAME": "localhost",
    }
    arguments = ["-c", FEED, synthetic_data_dir, _EPOCHS]
    tasks = [fork_run(*arguments, variables={**common, "SLURM_PROCID": str(i)}) for i in range(2)]
    for index, printed in enumerate(finish(*tasks)):
        lines = [x.split() for x in printed.splitlines() if x.startswith("SHARE")]
        assert len(lines) == 2
        for _, replica, share in lines:
            assert int(replica) == index
            assert 0.49 < float(share) < 0.5 + 4 / _EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_silent_worker_ends_the_others_within_a_minute(
    victim: int, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """A stopped process closes no connection: only its heartbeats are missed."""
    flags = [*TABLE, f"--data-dir={synthetic_data_dir}", "--epochs=9999", "--checkpoint-steps=48"]
    flags += ["--strategy=multi_worker", f"--run-dir={tmp_path}"]
    both = start_workers(2, *flags)
    _wait_for_checkpoint(tmp_path)
    both[victim].send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    (printed,) = finish(both[1 - victim], code=1, timeout_s=60)
    print(f"noticed after {time.monotonic() - stopped:.0f} s")
    both[victim].kill()
    both[victim].communicate()
    assert "Start all workers again with the same command" in printed


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_sigterm_to_one_worker_saves_and_ends_all(
    asked: int, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    flags = [*TABLE, f"--data-dir={synthetic_data_dir}", "--epochs=9999", "--checkpoint-steps=48"]
    flags += ["--strategy=multi_worker", f"--run-dir={tmp_path}"]
    both = start_workers(2, *flags)
    _wait_for_checkpoint(tmp_path)
    both[asked].send_signal(signal.SIGTERM)
    for printed in finish(*both, code=130, timeout_s=60):
        assert "interrupted; the same command goes on from the checkpoint" in printed


@pytest.mark.slow
def test_workers_restarted_one_by_one_come_to_the_same_end(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """As Kubernetes does: each is started again when it fails, whatever the other does."""
    flags = [*TABLE, f"--data-dir={synthetic_data_dir}", "--epochs=40", "--checkpoint-steps=16"]
    devices = ["--strategy=mirrored", "--cpu-devices=2", f"--run-dir={tmp_path / 'a'}"]
    finish(start(*flags, *devices))
    flags += ["--strategy=multi_worker", f"--run-dir={tmp_path / 'b'}"]
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    configs = [{"TF_CONFIG": _tf_config(cluster, "worker", i)} for i in range(2)]
    running = [start(*flags, variables=config) for config in configs]
    _wait_for_checkpoint(tmp_path / "b")
    running[1].send_signal(signal.SIGKILL)
    starts = [1, 1]
    while any(process.poll() != 0 for process in running):
        for index, process in enumerate(running):
            if process.poll():
                process.communicate()
                starts[index] += 1
                assert starts[index] <= 6
                running[index] = start(*flags, variables=configs[index])
        time.sleep(0.2)
    print(f"starts: {starts}")
    finish(*running)
    check_same_run(tmp_path / "a", tmp_path / "b")


def test_the_files_for_slurm_and_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They parse, their flags are ours, and the pods' variable names the pods."""
    slurm = DOCS / "slurm.sh"
    subprocess.run(["bash", "-n", slurm], check=True)
    command = slurm.read_text().split("-m train.run")[1].replace("\\\n", " ")
    assert parse_config(shlex.split(command)[:-1]).strategy == "multi_worker"
    service, job = yaml.safe_load_all((DOCS / "kubernetes.yaml").read_text())
    assert service["spec"]["clusterIP"] == "None", "headless"
    pod = job["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    name, domain = job["metadata"]["name"], pod["spec"]["subdomain"]
    assert domain == service["metadata"]["name"]
    (container,) = pod["spec"]["containers"]
    shell, flag, script = container["command"]
    export, run = script.split("exec .venv/bin/python -m train.run")
    assert parse_config(shlex.split(run)).strategy == "multi_worker"
    found = subprocess.run(
        [shell, flag, export + 'printf "%s" "$TF_CONFIG"'],
        env={"JOB_COMPLETION_INDEX": "1"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    monkeypatch.setenv("TF_CONFIG", found)
    port = container["ports"][0]["containerPort"]
    addresses = tuple(f"{name}-{i}.{domain}:{port}" for i in range(job["spec"]["completions"]))
    assert workers.find_workers() == workers.Workers(addresses, 1)


def test_a_cut_link_names_the_other_host_and_what_happened() -> None:
    """TensorFlow's first lines say nothing, and it may not say which worker is gone."""
    ours = workers.Workers(("a:1", "b:2", "c:3"), 1)
    cut = tf.errors.UnavailableError(
        None,
        None,
        "Graph execution error:\n\nDetected at node CollectiveReduceV2 defined at (most recent "
        "call last):\n<stack traces unavailable>\nCollective ops is aborted by: Socket closed\n"
        "Additional GRPC error information from remote target /job:worker/replica:0/task:2:\n",
    )
    said = ours.describe_death(cut)
    assert said.startswith("worker 2 (c:3) ended or cannot be reached, so worker 1 (b:2) ends too")
    assert said.endswith("TensorFlow said: Collective ops is aborted by: Socket closed")
    said = ours.describe_death(tf.errors.UnavailableError(None, None, "Connection reset by peer"))
    assert said.startswith("worker 0 (a:1) or worker 2 (c:3) ended")


def test_sigterm_while_waiting_for_the_others_ends_with_a_message(tmp_path: Path) -> None:
    """TensorFlow, which waits here, would ignore it."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    flags = [*TABLE, "--strategy=multi_worker", f"--run-dir={tmp_path}"]
    first = fork_run(*flags, variables={"TF_CONFIG": _tf_config(cluster, "worker", 0)})
    deadline = time.monotonic() + 120
    while "waiting for the others" not in first.printed() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(3)  # TensorFlow's own handling is in place by then
    first.send_signal(signal.SIGTERM)
    (printed,) = finish(first, code=130, timeout_s=30)
    assert "interrupted" in printed


@pytest.mark.slow
@pytest.mark.parametrize("workers_", [2, 3])
@pytest.mark.parametrize(
    "flags",
    [
        [*TABLE, "--epochs=2", "--global-batch-size=48", "--precision=mixed_float16"],
        ["--dataset=fetal_health/synthetic", "--xla", "--epochs=2", "--global-batch-size=48"],
        [*TABLE, "--epochs=2", "--global-batch-size=48", "--cache=none", "--memory-budget=60000"],
        [*TEXT, "--global-batch-size=96", "--precision=mixed_bfloat16"],
        [*PICTURES, "--global-batch-size=48", "--early-stopping=1"],
    ],
)
def test_workers_train_as_devices_of_one_process_do(
    workers_: int, flags: list[str], synthetic_data_dir: Path, tmp_path: Path
) -> None:
    flags = [*flags, f"--data-dir={synthetic_data_dir}"]
    finish(
        start(*flags, "--strategy=mirrored", f"--cpu-devices={workers_}", f"--run-dir={tmp_path}/a")
    )
    finish(*start_workers(workers_, *flags, "--strategy=multi_worker", f"--run-dir={tmp_path}/b"))
    check_same_run(tmp_path / "a", tmp_path / "b")


def _tf_config(cluster: Any, kind: str, index: int) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def test_tf_config_names_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:2"]}
    monkeypatch.setenv("TF_CONFIG", _tf_config(cluster, "worker", 1))
    assert workers.find_workers() == workers.Workers(("a:1", "b:1", "c:2"), 2)
    for text in ("{", "[]", _tf_config(cluster, "worker", 2), _tf_config({"ps": ["a"]}, "ps", 0)):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(ValueError, match="TF_CONFIG expected the addresses"):
            workers.find_workers()


def test_slurm_nodes_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Task 2 runs on the second node named, node10, though "node10" sorts before "node2"."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    variables = {
        "SLURM_JOB_ID": "1007",
        "SLURM_PROCID": "2",
        "SLURM_STEP_NODELIST": "node[2,10]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
        "SLURMD_NODENAME": "node10",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = workers.find_workers()
    assert found == workers.Workers(("node2:15112", "node2:15113", "node10:15112"), 2)
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(ValueError, match="--distribution=block"):
        workers.find_workers()


def test_only_the_chief_holds_and_writes_the_run_folder(tmp_path: Path) -> None:
    known = make_settings().to_dict()
    chief = RunFolder(str(tmp_path / "run"), known, "data")
    other = RunFolder(str(tmp_path / "run"), known, "data", is_chief=False)
    other.claim()
    assert not (tmp_path / "run" / "config.json").exists()
    chief.claim()
    assert (tmp_path / "run" / "config.json").exists()
