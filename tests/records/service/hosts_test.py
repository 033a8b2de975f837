"""The data service with dispatcher, two workers and trainer on four hosts, and a cable that is cut.

Hosts are network namespaces (`tests.support.hosts`).
"""

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import standardization  # noqa: F401 - a layer of the stored models
from tests.support.forks import Forked
from tests.support.hosts import Hosts
from tests.support.runs import finish, fork_run, weights


class Service:
    """Dispatcher on host0, workers on host1 and host2; the trainer is to be on host3."""

    def __init__(self, hosts: Hosts, data_dir: Path, folder: Path):
        """Starts them and waits until they are ready."""
        self.hosts, self.folder = hosts, folder
        self.train = ["--dataset=fetal_health/synthetic", f"--data-dir={data_dir}", "--epochs=60"]
        self.train += ["--dropout=0.2", "--checkpoint-minutes=0.01", "--no-xla"]
        self._data = f"--data-dir={data_dir}"
        self.parts = [hosts.start(0, "records.service", "dispatcher", "--port=5050", "--expose")]
        self.parts += [self.start_worker(0), self.start_worker(1)]
        for part in self.parts:
            _wait_for(part, " ready ")

    def start_worker(self, index: int) -> Forked:
        """Starts one as docs/howto/data_service.md says."""
        return self.hosts.start(
            index + 1, "records.service", "worker", "--dispatcher=host0:5050",
            f"--index={index}", "--of=2", f"--host=host{index + 1}", "--port=5051",
            self._data, "--expose",
        )  # fmt: skip

    def start_trainer(self) -> Forked:
        """Starts to train, or goes on."""
        service = ["--data-service=host0:5050", f"--run-dir={self.folder / 'there'}"]
        return self.hosts.start(3, "train.run", *self.train, *service)

    def check_weights(self) -> None:
        """They are those of a run without hosts."""
        finish(fork_run(*self.train, "--cache=memory", f"--run-dir={self.folder / 'here'}"))
        here, there = weights(self.folder / "here"), weights(self.folder / "there")
        for a, b in zip(here, there, strict=True):
            np.testing.assert_array_equal(a, b)


def _wait_for(process: Forked, words: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while words not in process.printed():
        assert process.poll() is None and time.monotonic() < deadline, process.printed()
        time.sleep(0.02)


@pytest.fixture
def service(synthetic_data_dir: Path, tmp_path: Path) -> Any:
    """One that is ready."""
    if why := Hosts.missing(tmp_path):
        pytest.skip(why)
    with Hosts(4, tmp_path) as hosts:
        yield Service(hosts, synthetic_data_dir, tmp_path)


@pytest.mark.slow
def test_four_hosts_train_as_one(service: Service) -> None:
    began = time.monotonic()
    finish(service.start_trainer())
    print(f"data service on four hosts: {time.monotonic() - began:.0f} s")
    service.check_weights()


@pytest.mark.slow
@pytest.mark.parametrize("host", [1, 3])
def test_a_cut_cable_ends_the_trainer_and_the_same_command_goes_on(
    host: int, service: Service
) -> None:
    """Of a worker, or of the trainer itself."""
    trainer = service.start_trainer()
    _wait_for(trainer, "epoch   3/")
    service.hosts.cut(host)
    began = time.monotonic()
    (printed,) = finish(trainer, code=1, timeout_s=60)
    said = next(line for line in printed.splitlines() if line.startswith("error: "))
    print(f"cable of host{host} cut: after {time.monotonic() - began:.0f} s {said}")
    assert said.startswith("error: data service: data service worker ")
    assert said.endswith("; the same command goes on from the last checkpoint")
    assert ("nor does the dispatcher at host0:5050: the network of this" in said) == (host == 3)
    service.hosts.heal(host)
    (printed,) = finish(service.start_trainer())
    assert "going on at epoch" in printed
    service.check_weights()


@pytest.mark.slow
def test_a_worker_that_comes_back_with_another_address_keeps_its_name(service: Service) -> None:
    """The dispatcher and trainers know it by its name."""
    trainer = service.start_trainer()
    _wait_for(trainer, "epoch   3/")
    service.parts[1].kill()
    service.parts[1].communicate()
    service.hosts.move(1, "10.77.0.99")
    began = time.monotonic()
    (printed,) = finish(trainer, code=1, timeout_s=60)
    print(f"host1 with another address: after {time.monotonic() - began:.0f} s {printed[-300:]}")
    _wait_for(service.start_worker(0), " ready ")
    (printed,) = finish(service.start_trainer())
    assert "going on at epoch" in printed
    service.check_weights()
    for part in service.parts[2:]:
        part.send_signal(signal.SIGTERM)
        finish(part)
