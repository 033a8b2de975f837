"""Worker processes on this host train as one process with as many devices; one that dies."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from runs import check_same_run, finish, free_ports, start, start_workers

from train import workers
from train.config import TrainConfig
from train.folder import RunFolder

TABLE = ["--dataset=fetal_health/synthetic", "--no-xla"]
TEXT = ["--dataset=song_lyrics/synthetic", "--sequence-length=16", "--epochs=2"]
PICTURES = ["--dataset=brain_tumor_mri/synthetic", "--image-size=64", "--epochs=2"]


def test_killed_worker_ends_the_others_and_a_restart_ends_as_one_process_does(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    flags = [*TABLE, f"--data-dir={synthetic_data_dir}", "--epochs=12", "--checkpoint-steps=16"]
    whole = start(*flags, "--strategy=mirrored", "--cpu-devices=2", f"--run-dir={tmp_path / 'a'}")
    finish(whole)
    flags += ["--strategy=multi_worker", f"--run-dir={tmp_path / 'b'}"]
    survivor, victim = start_workers(2, *flags)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("b/checkpoints/step-*.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (printed,) = finish(survivor, code=1, timeout_s=60)
    assert time.monotonic() - killed < 60
    victim.communicate()
    assert "error: worker 1 (localhost:" in printed or "error: another worker" in printed
    assert "Start all workers again with the same command" in printed
    chief, other = finish(*start_workers(2, *flags))
    assert "going on at epoch" in chief and "going on" not in other
    check_same_run(tmp_path / "a", tmp_path / "b")


_EPOCHS = 20
# The feed of one worker, without a cache; prints its share of the bytes of all epochs.
FEED = """
import sys
from records import InputConfig, open_data
from train.config import TrainConfig
from train.feed import Feed
from train.setup import make_training_order
from train.strategy import make_cluster

directory, block, epochs = sys.argv[1], int(sys.argv[2]) or None, int(sys.argv[3])
cluster = make_cluster("multi_worker")
data = open_data("fetal_health/synthetic", directory, InputConfig(cache="none"))
examples = data.examples("train")
order = make_training_order(TrainConfig(global_batch_size=32), examples, block)
feed = Feed(examples, order, cluster, "none")
for epoch in range(epochs):
    feed.start(epoch)
    while feed.take(64):
        pass
total = epochs * examples.index.length[examples.numbers].sum()
print("SHARE", cluster.first_replica, examples.loader.times["read"].bytes / total, flush=True)
cluster.exchange(0)
"""


@pytest.mark.parametrize("block", [0, 512])
def test_slurm_tasks_meet_and_each_reads_its_own_part(block: int, synthetic_data_dir: Path) -> None:
    """Two tasks of a job step on one node: each reads half of the bytes, and a little ahead."""
    common = {
        "SLURM_JOB_ID": str(free_ports(1)[0]),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURMD_NODENAME": "localhost",
    }
    arguments = ["-c", FEED, synthetic_data_dir, block, _EPOCHS]
    tasks = [start(*arguments, variables={**common, "SLURM_PROCID": str(i)}) for i in range(2)]
    for index, printed in enumerate(finish(*tasks)):
        line = next(x for x in printed.splitlines() if x.startswith("SHARE"))
        _, replica, share = line.split()
        assert int(replica) == index
        assert 0.49 < float(share) < 0.5 + 4 / _EPOCHS


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
    chief = RunFolder(str(tmp_path / "run"), TrainConfig(), "data")
    other = RunFolder(str(tmp_path / "run"), TrainConfig(), "data", is_chief=False)
    other.claim()
    assert not (tmp_path / "run" / "config.json").exists()
    chief.claim()
    assert (tmp_path / "run" / "config.json").exists()
