"""Builds on Beam write what local builds write, byte for byte."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions

from builders import build_request, writing
from builders.convert import __main__ as convert
from builders.on_beam import BeamRun
from builders.tfds_private import ShardedDownloadConfig, ShardedFileTemplate
from builders.writing import NumberedExamples, SourcedKey
from tests.builders.writing_test import _FEATURES, _example

# The runner that DirectRunner takes for such pipelines, where no other is downloaded.
_RUNNER = "runner=FnApiRunner"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[BeamRun]:
    request = tfds.download.DownloadConfig(beam_options=build_request.beam_options(_RUNNER))
    with BeamRun(request, tmp_path / "beam") as run:
        yield run
    assert not (tmp_path / "beam").exists()


def _square(number: int) -> int:
    if number == 1301:
        raise ValueError("number 1301 expected to be even")
    return number**2


def test_map_gives_results_in_order_and_the_first_error(run: BeamRun) -> None:
    assert list(run.map(_square, range(1100))) == [n**2 for n in range(1100)]
    found = run.map(_square, range(1290, 1310))
    assert [next(found) for _ in range(11)] == [n**2 for n in range(1290, 1301)]
    with pytest.raises(ValueError, match="^number 1301 expected to be even$"):
        next(found)


def test_copies_are_those_of_a_local_build(run: BeamRun) -> None:
    keys = [f"hash {n * n % 700}" for n in range(1100)]
    assert run.first_equal(keys).tolist() == writing.Here(map).first_equal(keys)
    assert run.first_equal([b"a", b"b", b"a"]).tolist() == [0, 1, 0]


def _twice(number: int) -> tuple[str, dict[str, Any]]:
    key, example = _example(number)
    return SourcedKey("patient 7" if number in (3, 8) else key, f"FILE, line {number}"), example


def _write(folder: Path, run: BeamRun | None, splits: dict[str, Any], **options: Any) -> Any:
    folder.mkdir()
    request = ShardedDownloadConfig(num_shards=3, **options)
    templates = {
        name: ShardedFileTemplate(
            data_dir=folder, dataset_name="set", split=name, filetype_suffix="tfrecord"
        )
        for name in splits
    }
    if run:
        infos = run.write_splits(splits.items(), _FEATURES, templates, request)
    else:
        infos = [
            writing.write_split(name, examples, _FEATURES, templates[name], request)
            for name, examples in splits.items()
        ]
    sizes = [(info.name, info.shard_lengths, info.num_bytes) for info in infos]
    return sizes, {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_of_rows_and_of_generators_are_those_of_a_local_build(
    tmp_path: Path, run: BeamRun
) -> None:
    def splits() -> dict[str, Any]:
        return {
            "train": NumberedExamples(range(1100), _example, lambda number: number * 2),
            "test": map(_example, range(2)),  # fewer than shards
        }

    local = _write(tmp_path / "local", None, splits(), max_examples_per_split=1000)
    assert local == _write(tmp_path / "on_beam", run, splits(), max_examples_per_split=1000)
    assert local[0][0][:2] == ("train", [333, 334, 333]) and len(local[1]) == 3 + 2


def test_a_doubled_key_is_named_with_its_places(tmp_path: Path, run: BeamRun) -> None:
    said = "received 'patient 7' for FILE, line 3 and for FILE, line 8. Remove one"
    with pytest.raises(Exception, match=re.escape(said)):
        _write(tmp_path / "on_beam", run, {"train": NumberedExamples(range(10), _twice)})


@pytest.fixture
def job_service_and_pool(tmp_path: Path) -> Iterator[str]:
    """Options of a runner in one process, whose workers are processes that another one starts."""
    places, started = [], []
    # The pool starts `python`.
    found_first = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    for module, flag in (
        ("apache_beam.runners.portability.local_job_service_main", "--port"),
        ("apache_beam.runners.worker.worker_pool_main", "--service_port"),
    ):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", module, f"{flag}={port}"]
        with open(tmp_path / f"{flag}.log", "w") as log:
            environment = {**os.environ, "PATH": found_first, "PYTHONPATH": os.getcwd()}
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        places.append(port)
    for port in places:
        _wait_for(port)
    yield (
        f"runner=PortableRunner,job_endpoint=localhost:{places[0]},environment_type=EXTERNAL,"
        f"environment_config=localhost:{places[1]}"
    )
    for process in started:
        process.terminate()
    for process in started:
        process.wait(60)


def _wait_for(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
            return
        time.sleep(0.2)
    raise TimeoutError(f"nothing listens at port {port}")


@pytest.mark.slow
def test_workers_in_other_processes_write_the_same(
    tmp_path: Path, job_service_and_pool: str
) -> None:
    splits = {"train": NumberedExamples(range(1100), _example)}
    request = tfds.download.DownloadConfig(
        beam_options=build_request.beam_options(job_service_and_pool)
    )
    with BeamRun(request, tmp_path / "beam") as run:
        pids = set(run.map(_process_of, range(1100)))
        assert os.getpid() not in pids
        written = _write(tmp_path / "on_beam", run, splits)
    assert written == _write(tmp_path / "local", None, splits)


def _process_of(number: int) -> int:
    return os.getpid()


def test_beam_cannot_tell_the_first_of_doubled_keys() -> None:
    options = PipelineOptions(["--runner=FnApiRunner"])
    request = tfds.download.DownloadConfig(beam_options=options, ignore_duplicates=True)
    with pytest.raises(ValueError, match="^builders/a: ignore_duplicates was asked for, but on"):
        build_request.check_request("builders/a", request, 4)


def _content(folder: Path) -> dict[str, bytes]:
    """{file: its bytes}; of the fingerprint without the shards' times."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    found["fingerprint.json"] = re.sub(rb'"mtime_ns": \d+', b"", found["fingerprint.json"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_synthetic_sets_are_equal_in_every_file(tmp_path: Path, name: str) -> None:
    found = []
    for options in None, build_request.beam_options(_RUNNER):
        builder = tfds.builder(name, config="synthetic", data_dir=tmp_path / str(options is None))
        request = tfds.download.DownloadConfig(beam_options=options)
        builder.download_and_prepare(download_config=request)
        found.append(_content(Path(builder.data_dir)))
    assert found[0] == found[1] and len(found[0]) > 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "texts", "table"])
def test_conversions_are_equal_in_every_file(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    folder = Path("builders") / "brain_tumor_mri" / "dummy_data"
    source.mkdir()
    rows = [f"{n},{n % 7},{'ab'[n % 2]}" for n in range(600)]
    (source / "table.csv").write_text("\n".join(["size,days,class", *rows]))
    for n in range(30):
        (source / f"class {n % 2}").mkdir(exist_ok=True)
        (source / f"class {n % 2}" / f"{n}.txt").write_text(f"text {n // 3}")
    path = {"pictures": folder / "Training", "texts": source, "table": source / "table.csv"}[kind]
    root = tmp_path / "data"
    found = []
    # The metadata hold the flags, the data folder's among them: the second set replaces the first.
    for flags in [], ["--beam-pipeline-options", _RUNNER, "--overwrite"]:
        assert convert.main([str(path), "--name", "made", "--data_dir", str(root), *flags]) == 0
        assert [one.name for one in (root / "made").iterdir()] == ["1.0.0"]
        found.append(_content(root / "made" / "1.0.0"))
    assert found[0] == found[1] and len(found[0]) > 5
