"""Runs across hosts: network namespaces, joined by a switch whose cables can be cut."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import standardization  # noqa: F401 - a layer of the stored models
from tests.support.forks import Forked
from tests.support.hosts import Hosts
from tests.support.runs import check_same_run, finish, fork_run, weights
from train.devices.workers import _HEARTBEAT_SECONDS

WITHIN_S = 60  # each side of a cut ends
QUICK_S = 3  # of silence, after which a worker counts as dead in the quick test


@pytest.fixture(scope="module", autouse=True)
def _hosts_can_be_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    if why := Hosts.missing(tmp_path_factory.mktemp("hosts")):
        pytest.skip(why)


@pytest.fixture
def make_hosts(tmp_path: Path) -> Iterator[Callable[..., Hosts]]:
    """`make_hosts(count, delay_s=..., loss=...)`; they are gone after the test."""
    made: list[Hosts] = []

    def make(count: int, **slow: float) -> Hosts:
        made.append(Hosts(count, tmp_path, **slow))
        return made[-1]

    yield make
    for hosts in made:
        hosts.__exit__()


class Runs:
    """The same training on hosts and on devices of one process."""

    def __init__(self, data_dir: Path, folder: Path, references: Path):
        """Of a table, into `folder`; runs on devices are made once, in `references`."""
        self.folder, self._references = folder, references
        self._data = ["--dataset=fetal_health/synthetic", f"--data-dir={data_dir}", "--no-xla"]
        self.flags: tuple[str, ...] = ("--epochs=12",)
        self.model = "mlp"
        self.heartbeat_s: int | None = None

    @property
    def run_dir(self) -> Path:
        """Of the run on hosts."""
        return self.folder / "run"

    def on_devices(self, count: int, run_dir: Path | None = None) -> Path:
        """Trains in one process; the run folder."""
        run_dir = run_dir or self._references / "".join([str(count), *self.flags])
        devices = ["--strategy=mirrored", f"--cpu-devices={count}", f"--run-dir={run_dir}"]
        if not (run_dir / "metrics.json").exists():
            finish(fork_run(*self._all(), *devices))
        return run_dir

    def check_as_devices(self, count: int) -> None:
        """The run on hosts ended with the bits of one process."""
        check_same_run(self.on_devices(count), self.run_dir)

    def _all(self) -> list[str]:
        return [
            *self._data,
            f"--model={self.model}",
            "--global-batch-size=48",
            "--checkpoint-steps=16",
            *self.flags,
        ]

    def on_hosts(self, hosts: Hosts, numbers: Sequence[int]) -> list[Forked]:
        """Begins to train."""
        return [self.worker_on_hosts(hosts, numbers, i) for i in range(len(numbers))]

    def worker_on_hosts(self, hosts: Hosts, numbers: Sequence[int], index: int) -> Forked:
        """Begins one of the workers."""
        flags = ["--strategy=multi_worker", f"--run-dir={self.run_dir}"]
        return hosts.start_worker(
            numbers, index, *self._all(), *flags, heartbeat_s=self.heartbeat_s
        )

    def begin(self, hosts: Hosts, count: int) -> list[Forked]:
        """Begins to train; returns after the first checkpoint."""
        workers = self.on_hosts(hosts, range(count))
        deadline = time.monotonic() + 120
        while not list(self.run_dir.glob("checkpoints/step-*.npz")):
            if time.monotonic() > deadline or any(w.poll() is not None for w in workers):
                workers[0].kill()
                raise AssertionError(workers[0].communicate())
            time.sleep(0.01)
        return workers


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of single processes."""
    return tmp_path_factory.mktemp("references")


@pytest.fixture
def runs(synthetic_data_dir: Path, tmp_path: Path, references: Path) -> Runs:
    """Twelve epochs with a checkpoint every 16 steps."""
    return Runs(synthetic_data_dir, tmp_path, references)


def _ends(workers: list[Forked], case: str, within_s: float = WITHIN_S) -> list[str]:
    """What each said at its end with code 1, in time; shown with `pytest -s`, for the docs."""
    began = time.monotonic()
    said = []
    for worker in workers:
        (printed,) = finish(worker, code=1, timeout_s=within_s)
        said.append(next(line for line in printed.splitlines() if line.startswith("error: ")))
        print(f"{case}: after {time.monotonic() - began:.0f} s {said[-1]}")
    return said


def _cut(hosts: Hosts, runs: Runs, within_s: float = WITHIN_S) -> None:
    """Trains, cuts a cable, and reads what both said."""
    workers = runs.begin(hosts, 2)
    hosts.cut(1)
    first, second = _ends(workers, "cut cable", within_s)
    assert first.startswith("error: worker 1 (host1:2222) ended or cannot be reached, so worker 0")
    assert second.startswith("error: worker 0 (host0:2222) ended or cannot be reached, so worker 1")
    assert all("Start all workers again with the same command" in said for said in (first, second))
    assert all('File "' not in said for said in (first, second))


def test_a_cut_cable_ends_both_hosts(make_hosts: Any, runs: Runs) -> None:
    """Waits less long for a heartbeat than a user's run, and ends so much earlier; the test below
    waits as long.
    """
    runs.model, runs.heartbeat_s = "mlp_small", QUICK_S
    assert _HEARTBEAT_SECONDS == 15
    _cut(make_hosts(2), runs, WITHIN_S - (_HEARTBEAT_SECONDS - QUICK_S))


@pytest.mark.slow
def test_after_a_cut_the_same_command_ends_as_one_process_does(make_hosts: Any, runs: Runs) -> None:
    """As `multi_worker_test.py::test_killed_worker_ends_the_others...` on one host, quickly."""
    hosts = make_hosts(2)
    _cut(hosts, runs)
    hosts.heal(1)
    chief, _ = finish(*runs.on_hosts(hosts, (0, 1)))
    assert "going on at epoch" in chief
    runs.check_as_devices(2)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_hosts_end_as_devices_of_one_process_do(count: int, make_hosts: Any, runs: Runs) -> None:
    began = time.monotonic()
    finish(*runs.on_hosts(make_hosts(count), range(count)))
    print(f"{count} hosts: {time.monotonic() - began:.0f} s")
    runs.check_as_devices(count)


@pytest.mark.slow
def test_a_short_cut_costs_nothing(make_hosts: Any, runs: Runs) -> None:
    hosts = make_hosts(2)
    workers = runs.begin(hosts, 2)
    hosts.cut(1)
    time.sleep(6)
    hosts.heal(1)
    finish(*workers)
    runs.check_as_devices(2)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_slow_cables_change_no_bit(loss: float, make_hosts: Any, runs: Runs) -> None:
    """50 ms each way, and one packet of a hundred lost."""
    runs.flags = ("--epochs=1",)
    began = time.monotonic()
    finish(*runs.on_hosts(make_hosts(2, delay_s=0.05, loss=loss), (0, 1)), timeout_s=900)
    print(f"50 ms, loss {loss:.0%}: {time.monotonic() - began:.0f} s")
    runs.check_as_devices(2)


@pytest.mark.slow
@pytest.mark.parametrize("moved", [0, 1])
def test_a_host_that_comes_back_with_another_address(
    moved: int, make_hosts: Any, runs: Runs
) -> None:
    """Its name stays, and so does the command; the other host's worker has ended meanwhile."""
    hosts = make_hosts(2)
    workers = runs.begin(hosts, 2)
    hosts.move(moved, "10.77.0.99")
    _ends(workers, f"host {moved} with another address")
    chief, _ = finish(*runs.on_hosts(hosts, (0, 1)))
    assert "going on at epoch" in chief
    runs.check_as_devices(2)


@pytest.mark.slow
def test_a_host_moves_while_the_other_waits_for_it(make_hosts: Any, runs: Runs) -> None:
    """A worker that waits for the first one looks its name up again."""
    hosts = make_hosts(2)
    waits = runs.worker_on_hosts(hosts, (0, 1), 1)
    time.sleep(2)
    hosts.move(0, "10.77.0.99")
    finish(runs.worker_on_hosts(hosts, (0, 1), 0), waits)
    runs.check_as_devices(2)


@pytest.mark.slow
def test_a_restart_on_fewer_hosts_goes_on_in_the_same_order(make_hosts: Any, runs: Runs) -> None:
    """The third host is lost: two go on from the checkpoint, as two devices do from it."""
    runs.flags = ("--epochs=12", "--dropout=0")
    hosts = make_hosts(3)
    workers = runs.begin(hosts, 3)
    workers[2].kill()
    workers[2].communicate()
    assert workers[2].returncode == -signal.SIGKILL
    _ends(workers[:2], "a third host is lost")
    shutil.copytree(runs.run_dir, runs.folder / "devices")
    (runs.folder / "devices" / "metrics.json").unlink(missing_ok=True)
    chief, _ = finish(*runs.on_hosts(hosts, (0, 1)))
    assert "going on at epoch" in chief
    check_same_run(runs.on_devices(2, runs.folder / "devices"), runs.run_dir)
    # The order is that of three: without dropout, whose masks differ, rounding alone is left.
    for a, b in zip(weights(runs.on_devices(3)), weights(runs.run_dir), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
