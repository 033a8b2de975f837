"""The data service: the same chunks from other processes, exactly once, and ends that say why."""

import dataclasses
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from records import InputConfig, open_data
from records.examples import AnyOrder, Examples, Plan
from records.ordering.buckets import BucketOrder, make_order
from records.pipeline import make_chunks
from records.roles import Data
from records.service import __main__ as service
from records.service import trainer
from records.service.trainer import RemoteChunks, RemoteSource
from records.service.worker import Request
from records.sets.fingerprint import check_shards
from tests.support.forks import fork
from tests.support.runs import finish, fork_run
from train.devices.strategy import make_cluster
from train.run import main
from train.settings.config import TrainConfig
from train.settings.resolve import resolve

REPOSITORY = Path(__file__).resolve().parents[3]
INPUTS = InputConfig(image_size=32, sequence_length=30)
TRAIN = ["--dataset", "fetal_health/synthetic", "--model=mlp_small", "--dropout", "0.2", "--no-xla"]


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def _wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    said = list(itertools.takewhile(lambda line: words not in line, process.stdout))
    assert process.poll() is None, said


# `records.service` whose own processes are forked: to import TensorFlow in each takes 15 s in all.
_FORKING = """
import multiprocessing, sys
from types import SimpleNamespace
from records.service import __main__ as service

class Child(multiprocessing.get_context("fork").Process):
    def __init__(self, command):
        assert command[:3] == [sys.executable, "-m", "records.service"], command
        super().__init__(target=service.main, args=(command[3:],))
        self.start()
    def poll(self):
        return self.exitcode
    wait, returncode = multiprocessing.Process.join, property(poll)

service.subprocess = SimpleNamespace(Popen=Child)
sys.exit(service.main(sys.argv[1:]))
"""


def _local(data_dir: Path) -> tuple[int, list[str]]:
    """(its port, the arguments of a service with two workers)."""
    port = _free_port()
    flags = ["local", "--workers=2", f"--port={port}", f"--data-dir={data_dir}", "--expose"]
    return port, flags


def _check_quiet(printed: str) -> None:
    lines = printed.splitlines()
    noise = [line for line in lines if not line.startswith(("dispatcher ready at ", "worker "))]
    assert not noise, printed


@pytest.fixture(scope="module")
def address(synthetic_data_dir: Path) -> Iterator[str]:
    """The dispatcher of a service with two workers."""
    port, flags = _local(synthetic_data_dir)
    process = fork("-c", _FORKING, *flags)
    while f"dispatcher ready at localhost:{port}" not in process.printed():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    yield f"localhost:{port}"
    process.send_signal(signal.SIGTERM)
    (printed,) = finish(process, timeout_s=60)
    _check_quiet(printed)


@pytest.mark.slow
def test_local_starts_its_processes_and_ends_them(synthetic_data_dir: Path) -> None:
    """As a user starts it. Quick: the service of the other tests, whose processes are forked."""
    port, flags = _local(synthetic_data_dir)
    process = _start("records.service", *flags)
    _wait_for(process, f"dispatcher ready at localhost:{port}")
    process.send_signal(signal.SIGTERM)
    (printed,) = finish(process, timeout_s=60)
    _check_quiet(printed)


def _open(
    dataset: str, data_dir: Path, batch: int, buckets: int
) -> tuple[Data, Examples, AnyOrder]:
    data = open_data(dataset, str(data_dir), INPUTS)
    examples = data.examples("train")
    order = make_order(
        examples.num_examples, batch, lengths=examples.subset_lengths, length_buckets=buckets
    )
    return data, examples, order


def _source(address: str, data: Data, buckets: int = 1) -> RemoteSource:
    return RemoteSource(address, data, check_shards(data.schema.directory).content, buckets)


@pytest.mark.parametrize(
    ("dataset", "batch", "buckets"),
    [
        ("fetal_health/synthetic", 32, 1),
        ("brain_tumor_mri/synthetic", 16, 1),
        ("song_lyrics/synthetic", 8, 3),
    ],
)
def test_chunks_are_those_of_a_local_run(
    dataset: str, batch: int, buckets: int, address: str, synthetic_data_dir: Path
) -> None:
    """More than an epoch, from its middle, second of two replicas: bitwise and of equal types."""
    data, examples, order = _open(dataset, synthetic_data_dir, batch, buckets)
    assert isinstance(order, BucketOrder) == (buckets > 1)
    start, rows = (1, order.steps_per_epoch - 4), slice(batch // 2, batch)
    local = make_chunks(examples, order, start, 3, rows)
    remote_chunks = _source(address, data, buckets)(examples, order, start, 3, rows)
    for _ in range(2 + order.steps_per_epoch // 3 + 2):
        for expected, received in zip(next(local), next(remote_chunks), strict=True):
            assert np.asarray(expected).dtype == received.dtype
            assert np.array_equal(expected, received)


def _request(source: RemoteSource, examples: Examples, order: AnyOrder, steps: int) -> Request:
    """What the source asks the service for."""
    asked: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "RemoteChunks", lambda address, request: asked.append(request))
        source(examples, order, (0, 0), steps, slice(None))
    return asked[0]


def test_each_example_comes_once_and_each_worker_serves_its_own_chunks(
    address: str, synthetic_data_dir: Path
) -> None:
    data, examples, order = _open("fetal_health/synthetic", synthetic_data_dir, 32, 1)
    assert examples.num_examples % 32, "the last batch is to be padded"
    request = _request(_source(address, data), examples, order, 5)
    chunks = -(-order.steps_per_epoch // 5)
    seen: Counter[bytes] = Counter()
    served = []
    for worker in range(2):
        dataset = trainer._dataset(f"grpc://{address}", request, worker)
        for parts in dataset.take(len(range(worker, chunks, 2))):
            error, number, inputs, _labels, weights, *_ = (part.numpy() for part in parts)
            assert not error
            assert number % 2 == worker
            served.append(number)
            seen.update(row.tobytes() for row in inputs[weights.reshape(-1) > 0])
    assert sorted(served) == list(range(chunks))
    assert examples.inputs is not None
    expected = Counter(row.tobytes() for row in examples.inputs[examples.numbers])
    assert len(expected) > 0.99 * examples.num_examples, "rows are to tell examples apart"
    assert seen == expected


def test_a_worker_refuses_other_data(address: str, synthetic_data_dir: Path) -> None:
    data, examples, order = _open("fetal_health/synthetic", synthetic_data_dir, 32, 1)
    other = RemoteSource(address, data, "0" * 64, 1)
    with pytest.raises(ValueError, match="worker 0 at localhost.* refuses: .*fingerprint expected"):
        next(other(examples, order, (0, 0), 1, slice(None)))


def test_a_worker_that_came_back_elsewhere_is_told_to_keep_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dispatcher still knows the address that it had."""
    answers = [[tf.constant(x) for x in (0, 2, place)] for place in (b"host1:5051", b"host9:5051")]
    monkeypatch.setattr(trainer, "_distributed", lambda dataset, service: answers)
    stream = trainer._Stream(queue.Queue(), {}, 0, threading.Event())
    expected = "--index 0 --of 2 at host9:5051, beside host1:5051.*keeps its address.*--host"
    with pytest.raises(ValueError, match=expected):
        trainer._find_workers(stream, "grpc://host0:5050")


def test_place_is_where_all_chunks_has_it(synthetic_data_dir: Path) -> None:
    _, examples, order = _open("fetal_health/synthetic", synthetic_data_dir, 4, 1)
    for step in (0, 7, order.steps_per_epoch):
        plan = Plan(examples, order, (2, step), 5, 3, slice(1, 3))
        for number, expected in enumerate(plan.all_chunks()):
            epoch, first, row = plan.place(number)
            for array, part in zip(plan.chunks(epoch, first), expected, strict=True):
                assert np.array_equal(array[row], part)


def _weights(run_dir: Path) -> list[np.ndarray]:
    return keras.models.load_model(run_dir / "model.keras", compile=False).get_weights()


def _train(run_dir: Path, data_dir: Path, *arguments: str, code: int = 0) -> str:
    flags = [*TRAIN, "--data-dir", str(data_dir), "--run-dir", str(run_dir)]
    return finish(fork_run(*flags, *arguments), code=code)[0]


def test_a_run_ends_with_the_weights_of_a_local_one(
    address: str, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    two = [*TRAIN, f"--data-dir={synthetic_data_dir}", "--epochs=2", "--strategy=mirrored"]
    there, here = (f"--run-dir={tmp_path / name}" for name in ("there", "here"))
    assert main([*two, there, f"--data-service={address}"]) == 0
    assert main([*two, here, "--cache=memory"]) == 0
    pairs = zip(_weights(tmp_path / "there"), _weights(tmp_path / "here"), strict=True)
    assert all(np.array_equal(there, here) for there, here in pairs)


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_stops_and_goes_on(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    port, ports = _free_port(), (_free_port(), _free_port())

    def worker(index: int) -> subprocess.Popen[str]:
        return _start(
            "records.service", "worker", "--dispatcher", f"localhost:{port}",
            "--index", str(index), "--of", "2", "--port", str(ports[index]),
            "--data-dir", str(synthetic_data_dir), "--expose",
        )  # fmt: skip

    dispatcher = _start("records.service", "dispatcher", "--port", str(port), "--expose")
    workers = [worker(0), worker(1)]
    settings = ["--epochs", "100", "--checkpoint-minutes", "0.01"]
    try:
        _wait_for(dispatcher, "dispatcher ready")
        run = _start(
            "train.run", *TRAIN, *settings, "--data-dir", str(synthetic_data_dir),
            "--run-dir", str(tmp_path / "there"), "--data-service", f"localhost:{port}",
        )  # fmt: skip
        _wait_for(run, "epoch   3/")
        workers[1].kill()
        killed = time.monotonic()
        out, _ = run.communicate(timeout=120)
        assert time.monotonic() - killed < 30
        assert run.returncode == 1, out
        assert out.splitlines()[-1] == (
            f"error: data service: data service worker 1 at localhost:{ports[1]} does not "
            "answer. Restart it; the same command goes on from the last checkpoint"
        )
        workers[1] = worker(1)
        service_flag = ["--data-service", f"localhost:{port}"]
        out = _train(tmp_path / "there", synthetic_data_dir, *settings, *service_flag)
        assert "going on at epoch" in out
    finally:
        for process in (dispatcher, *workers):
            process.kill()
    _train(tmp_path / "here", synthetic_data_dir, *settings, "--cache", "memory")
    pairs = zip(_weights(tmp_path / "there"), _weights(tmp_path / "here"), strict=True)
    assert all(np.array_equal(there, here) for there, here in pairs)


def _chunks_of(
    monkeypatch: pytest.MonkeyPatch, workers: dict[int, str], *items: Any
) -> RemoteChunks:
    """Chunks of a service of two workers, from which `items` come and then nothing."""

    def read(stream: Any, address: str, request: Request) -> None:
        stream.workers.update(workers)
        stream.of = 2
        for item in items:
            stream.put(item)

    monkeypatch.setattr(trainer, "_read", read)
    monkeypatch.setattr(trainer, "_LOOK_SECONDS", 0.05)
    return RemoteChunks("nowhere:1", Request("", "", "", {}, 0, 1, {}, (0, 0), 1, (0, 1), ""))


def test_a_restarted_worker_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew: its first chunk comes again."""
    both = {0: "a:1", 1: "b:1"}
    chunks = _chunks_of(monkeypatch, both, *((b"", n, n) for n in (0, 1, 0)))
    assert [next(chunks), next(chunks)] == [(0,), (1,)]
    with pytest.raises(ConnectionError, match="worker 0 at a:1: chunk 2 expected, received 0"):
        next(chunks)


def test_silence_is_ended_whoever_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = f"localhost:{_free_port()}"
    with socket.create_server(("localhost", 0)) as listening:
        there = f"localhost:{listening.getsockname()[1]}"
        chunks = _chunks_of(monkeypatch, {0: there, 1: gone}, (b"", 0, 0))
        next(chunks)
        with pytest.raises(ConnectionError, match=f"worker 1 at {gone} does not answer"):
            next(chunks)
        monkeypatch.setattr(trainer, "SILENT_SECONDS", 0.3)
        chunks = _chunks_of(monkeypatch, {0: there, 1: gone})
        with pytest.raises(ConnectionError, match=f"worker 0 at {there} answers, but sent nothing"):
            next(chunks)
    monkeypatch.setattr(trainer, "FIND_SECONDS", 0.3)
    chunks = _chunks_of(monkeypatch, {1: gone})
    with pytest.raises(ConnectionError, match=f"2 workers expected, received 1 at {gone}"):
        next(chunks)


def test_an_error_of_the_reading_thread_reaches_the_consumer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConnectionError, match="lost"):
        next(_chunks_of(monkeypatch, {0: "a:1", 1: "b:1"}, ConnectionError("lost")))


def test_a_reader_that_nobody_needs_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = trainer._Stream(queue.Queue(1), {}, 0, trainer.threading.Event())
    stream.put(0)
    stream.stop.set()
    stream.put(1)  # full, and would wait for ever
    assert stream.waiting.qsize() == 1 and stream.waiting.get() == 0


def test_addresses_and_ports_are_checked(synthetic_data_dir: Path) -> None:
    data, _, _ = _open("fetal_health/synthetic", synthetic_data_dir, 32, 1)
    with pytest.raises(ValueError, match="HOST:PORT, received 'here'"):
        _source("here", data)
    with pytest.raises(ConnectionError, match="Start it: python -m records.service dispatcher"):
        _source(f"localhost:{_free_port()}", data)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} expected to be free"):
            service._start(lambda _: None, port)


def test_settings_that_do_not_fit_a_service_are_refused(synthetic_data_dir: Path) -> None:
    pictures = open_data("brain_tumor_mri/synthetic", str(synthetic_data_dir)).schema
    config = TrainConfig(data_service="localhost:1")
    cluster = make_cluster("one_device")
    with pytest.raises(ValueError, match="--no-freeze, received a frozen backbone"):
        resolve(config, pictures, cluster)
    assert not resolve(dataclasses.replace(config, freeze=False), pictures, cluster).freeze
    with pytest.raises(ValueError, match="received device"):
        resolve(dataclasses.replace(config, freeze=False, cache="device"), pictures, cluster)
