"""Everything of ours that reads a file of others, for fuzzing.

As a program (`fuzz_targets.py FOLDER DATA_DIR SHARE`) it tries its share of every target's inputs
and prints what came of them; each input is in FOLDER/current before it is tried, so that one that
kills the process is known.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import functools
import io
import json
import re
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.measuring.result_file import read_result
from builders.fetal_health.table import read_table
from builders.song_lyrics import tables
from models.cnn import load_weights_file
from models.torch_weights import read_state_dict
from records.damage.content import ContentChecker
from records.damage.walk import walk_shard
from records.decoding import pixels
from records.decoding.decode import PictureError, decode_pictures, pad_ids
from records.decoding.indexing import build_index, write_indexes
from records.loading import disk_cache
from records.loading.load import Loader
from records.sets.find import find_directory
from records.sets.fingerprint import check_shards, write_fingerprint
from records.sets.schema import IMAGE, TABULAR, TOKENS, Schema, read_schema
from records.shards.framing import scan_shard
from records.shards.index import RecordReader, frame
from records.shards.index_file import read_stored_index
from tests.support.faults import mutate
from tests.support.fuzz_inputs import (
    ARTISTS_CSV,
    LYRICS_CSV,
    change_json,
    change_zip,
    frame_records,
    make_health_csv,
    make_picture,
    make_run_folder,
    make_torch_file,
    small_model,
)
from train import predict, results
from train.devices.workers import _from_tf_config
from train.engine.checkpoint import read_checkpoint, write_checkpoint
from train.folders.finished_run import open_run
from train.folders.model_input import ModelInput
from train.folders.run_folder import RunFolder
from train.serving.read_inputs import make_preparation, read_raw

_SECONDS = 20  # more is a hang
_GROWN_BYTES = 2**30  # more is a bomb


@dataclasses.dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
      name: of the kind of input.
      place: what its errors begin with.
      seeds: whole inputs.
      attempt: reads one; raises what the reader raises, and AssertionError for a silent loss.
      inputs: how many the long run tries.
      change: makes an input of a seed.
    """

    name: str
    place: str
    seeds: tuple[bytes, ...]
    attempt: Callable[[bytes], object]
    inputs: int
    change: Callable[[bytes, np.random.Generator], bytes] = mutate


@dataclasses.dataclass
class Outcome:
    """What came of a target's inputs: counts, and a line for each that ended otherwise."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)


class _Hang(BaseException):
    pass


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _Hang(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(target: Target, count: int, current: Path | None = None, seed: int = 0) -> Outcome:
    """Tries `count` inputs; always the same ones."""
    rng = np.random.default_rng([seed, zlib.crc32(target.name.encode())])
    found, began = Outcome(), time.perf_counter()
    for seed_input in target.seeds:  # a target that refuses its seeds would test nothing
        target.attempt(seed_input)
    for number in range(count):
        data = target.change(target.seeds[int(rng.integers(len(target.seeds)))], rng)
        if current is not None:
            current.write_bytes(f"{target.name} {number}\n".encode() + data)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        problem = _try(target, data, found)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        if grown > _GROWN_BYTES:
            problem = f"{grown:,} bytes of memory"
        if problem:
            found.failures.append(f"{target.name} {number}: {problem}: {data[:300]!r}")
    found.seconds = time.perf_counter() - began
    return found


def _try(target: Target, data: bytes, found: Outcome) -> str:
    """Tries one input; "", or how it ended otherwise than it should."""
    try:
        with _limited(_SECONDS), contextlib.redirect_stdout(io.StringIO()):
            target.attempt(data)
    except (ValueError, OSError) as error:
        if not re.search(target.place, str(error)):
            return f"no place in the error {error!r}"
        found.refused += 1
    except BaseException as error:  # all others are what is looked for
        return repr(error)[:500]
    else:
        found.read += 1
    return ""


def make_targets(folder: Path, data_dir: Path) -> list[Target]:
    """All targets; `folder` is theirs to write in."""
    schemas = {
        name: read_schema(find_directory(f"{name}/synthetic", str(data_dir)))
        for name in ("fetal_health", "brain_tumor_mri", "song_lyrics")
    }
    return [
        *_source_targets(folder),
        *_record_targets(folder, schemas),
        *_set_targets(folder, schemas["fetal_health"]),
        *_run_targets(folder),
        *_predict_targets(folder),
    ]


def _write(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


def _reading(file: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Reads an input that stands in a file."""
    return lambda data: read(_write(file, data))


def _source_targets(folder: Path) -> Iterator[Target]:
    health, artists, lyrics = (folder / f"{n}.csv" for n in ("health", "artists", "lyrics"))
    place = r"^builders/(fetal_health|song_lyrics): "
    read = _reading(health, read_table)
    yield Target("fetal_health.csv", place, (make_health_csv(),), read, 2000)
    known = tables.read_artists(_write(artists, ARTISTS_CSV))
    read = _reading(artists, tables.read_artists)
    yield Target("artists CSV", place, (ARTISTS_CSV,), read, 1500)

    def songs(data: bytes) -> None:
        drops = tables.Drops()
        found = list(tables.read_songs(_write(lyrics, data), known, ("english",), drops))
        assert len(found) + sum(drops.reasons.values()) == sum(drops.languages.values())
        tables.check_enough(len(found), drops, lyrics)

    yield Target("lyrics CSV", place, (LYRICS_CSV,), songs, 1500)
    jpegs = (make_picture("JPEG"), make_picture("JPEG", 1, 40))
    facts = functools.partial(pixels.read_facts, name="a.jpg")
    yield Target("JPEG, built", r"^a\.jpg: ", jpegs, facts, 2500)

    def decode(data: bytes) -> None:
        for channels in (1, 3):
            with contextlib.suppress(PictureError):  # its caller adds the place
                assert decode_pictures([data], 8, channels).shape == (1, 8, 8, channels)

    yield Target("JPEG, decoded", "^never", jpegs, decode, 2000)
    pngs = (make_picture("PNG"), make_picture("PNG", 1, 40))
    yield Target("PNG, decoded", "^never", pngs, decode, 2000)


def _record_targets(folder: Path, schemas: dict[str, Schema]) -> Iterator[Target]:
    shard = folder / "fuzz-train.tfrecord-00000-of-00001"
    rng = np.random.default_rng(1)
    payloads = [rng.bytes(int(n)) for n in rng.integers(0, 90, 12)]
    one_shard = dataclasses.replace(
        schemas["fetal_health"], shards={"train": (str(shard),)}, split_counts={"train": 12},
        shard_lengths={"train": (12,)},
    )  # fmt: skip

    def walk(data: bytes) -> None:
        _write(shard, data)
        scan = walk_shard(str(shard), 12)
        good = np.flatnonzero(scan.usable)
        assert len(scan.layout.offset) >= 12, "records are lost, and not named"
        for start, size in zip(scan.layout.offset[good] + 12, scan.layout.length[good]):
            assert data[start : start + size] in payloads
        index = frame(one_shard, "train", [scan_shard(str(shard))])
        assert set(RecordReader(index).read(np.arange(12))) <= set(payloads)

    place = r"^shards: "
    yield Target("shard", place, (frame_records(payloads),), walk, 2000)
    for name, schema in schemas.items():
        read, seeds = _payload_reader(schema, folder / f"{name}-train.tfrecord-00000-of-00001")
        yield Target(f"record of {name}", place, seeds, read, 700)


def _payload_reader(schema: Schema, shard: Path) -> tuple[Callable[[bytes], None], Any]:
    paths = list(schema.shards["train"])
    first = [bytes(r) for r in tf.data.TFRecordDataset(paths).take(3).as_numpy_iterator()]
    one = dataclasses.replace(
        schema, shards={"train": (str(shard),)}, split_counts={"train": 1},
        shard_lengths={"train": (1,)},
    )  # fmt: skip
    checker = ContentChecker(one, "train")
    number = np.zeros(1, np.int64)
    decoders: dict[str, Callable[[Any], Any]] = {
        TABULAR: lambda rows: rows,
        TOKENS: lambda rows: pad_ids(rows[0], rows[1], 8, np.arange(500, dtype=np.int32), 400),
        IMAGE: lambda rows: decode_pictures(rows, 8, 1),
    }
    loader: list[Loader] = []  # traced once

    def read(data: bytes) -> None:
        _write(shard, frame_records([data]))
        found = checker.check(0, number, [data])
        assert all(row == 0 and reason for row, reason in found.items())
        index = build_index(one, "train")
        if not loader:
            loader.append(Loader(one, index, decoders[schema.modality]))
        loader[0].index, loader[0].reader = index, RecordReader(index)
        loader[0].load(number)

    return read, tuple(first)


def _set_targets(folder: Path, schema: Schema) -> Iterator[Target]:
    source, copy = Path(schema.directory), folder / "a_set"
    copy.mkdir()
    for file in source.iterdir():
        if file.is_file():
            _write(copy / file.name, file.read_bytes())
    write_fingerprint(copy)

    def reader(name: str, read: Callable[[], object]) -> Any:
        original = (copy / name).read_bytes()

        def attempt(data: bytes) -> None:
            _write(copy / name, data)
            try:
                read()
            finally:
                _write(copy / name, original)

        return (original,), attempt

    place = r"^(data set|shards): "
    seeds, attempt = reader("fingerprint.json", lambda: check_shards(copy).content)
    yield Target("fingerprint.json", place, seeds, attempt, 1500, change_json)
    described = (("dataset_info.json", 800), ("features.json", 800), ("metadata.json", 800))
    for name, count in described:
        seeds, attempt = reader(name, lambda: read_schema(str(copy)))
        yield Target(name, place, seeds, attempt, count, change_json)
    own = read_schema(str(copy))
    write_indexes(str(copy))

    def read_index_file() -> None:
        index = read_stored_index(own, "train")
        if index is not None:
            RecordReader(index).read(np.arange(index.num_records))

    seeds, attempt = reader("train.index.npz", read_index_file)
    yield Target("index.npz", place, seeds, attempt, 600, change_zip)
    cached, rows = folder / "cached.npy", np.arange(60, dtype=np.float32).reshape(20, 3)
    np.save(cached, rows)

    def open_cached(data: bytes) -> None:
        _write(cached, data)
        for mapped in (False, True):
            found = disk_cache.open_stored(cached, (20, 3), np.float32, mapped)
            assert found is None or (found.shape == (20, 3) and found.dtype == np.float32)

    yield Target("decoded cache", "^never", (cached.read_bytes(),), open_cached, 1000)


def _run_targets(folder: Path) -> Iterator[Target]:
    run = make_run_folder(folder / "run")
    place = r"^(run folder|settings|results): "
    originals = {p.name: p.read_bytes() for p in run.iterdir()}

    def attempt(name: str, read: Callable[[], object]) -> Callable[[bytes], None]:
        def one(data: bytes) -> None:
            _write(run / name, data)
            try:
                read()
            finally:
                _write(run / name, originals[name])

        return one

    def target(name: str, label: str, read: Callable[[], object], count: int, change: Any) -> Any:
        return Target(label, place, (originals[name],), attempt(name, read), count, change)

    known = open_run(run).settings.to_dict()
    yield target("config.json", "config.json, read", lambda: open_run(run), 1500, change_json)

    def claim() -> None:
        with RunFolder(str(run), known, "0" * 64):
            pass

    yield target("config.json", "config.json, to go on", claim, 800, change_json)
    name = "model_input.json"
    yield target(name, name, lambda: make_preparation(open_run(run).input), 800, change_json)
    name = "metrics.json"
    yield target(name, name, lambda: results._read_run(run), 800, change_json)
    name = "model.keras"
    yield target(name, name, lambda: open_run(run).load_model(), 300, change_zip)
    arrays: dict[str, list[np.ndarray]] = {
        "model": [np.zeros((3, 2), np.float32), np.arange(4)],
        "totals": [np.zeros(2)],
    }
    write_checkpoint(folder / "checkpoints", 7, arrays, {"epoch": 1})
    (step,) = (folder / "checkpoints").iterdir()
    read = _reading(step, lambda file: read_checkpoint(file.parent))
    yield Target("checkpoint", "^never", (step.read_bytes(),), read, 1000, change_zip)
    weights, model = folder / "small.weights.h5", small_model()
    model.save_weights(weights)
    read = _reading(weights, lambda file: load_weights_file(model, str(file), "URL"))
    yield Target("weights.h5", r"^model: ", (weights.read_bytes(),), read, 1000)
    read = _reading(folder / "weights.pth", read_state_dict)
    yield Target("weights.pth", r"^model: ", (make_torch_file(),), read, 2500)
    example = {
        "cluster": {"chief": ["a:1"], "worker": ["b:2", "c:3"]},
        "task": {"type": "worker", "index": 1},
    }
    seed = json.dumps(example).encode()
    place = r"^workers: "
    yield Target("TF_CONFIG", place, (seed,), _read_tf_config, 500, change_json)
    stored = sorted((Path(__file__).parents[2] / "benchmarks/results").rglob("*.json"))
    seed = min((p.read_bytes() for p in stored), key=len)
    read = _reading(folder / "result.json", read_result)
    yield Target(
        "benchmark result", r"^benchmark: .*result\.json ", (seed,), read, 1000, change_json
    )


def _predict_targets(folder: Path) -> Iterator[Target]:
    run, source = make_run_folder(folder / "predicting"), folder / "rows.csv"
    call = open_run(run).make_call()
    opened = dataclasses.replace(open_run(run))
    object.__setattr__(opened, "make_call", lambda: call)  # loaded once

    def table(data: bytes) -> None:
        items = read_raw(_write(source, data), opened.input, None)
        list(predict.predict_items(opened, iter(items)))  # type: ignore[arg-type]

    place = r"^predict: "
    rows = b'b,a,c,note\n1,2,3,x\n4.5,-1e3,0,"y, z"\n'
    yield Target("table to predict", place, (rows,), table, 1500)
    words = ModelInput(
        "s", "text", ("a", "b"), sequence_length=9, text_rule="basic",
        vocabulary=("", "[UNK]", "red", "sea"),
    )  # fmt: skip
    prepare = make_preparation(words)

    def texts(file: Path) -> None:
        for _, text in read_raw(file, words, None):
            prepare(text)

    seeds = {"texts.csv": b'text,n\n"a red, sea",1\nblue,2\n', "texts.txt": b"a red\nsea\n"}
    for name, seed in seeds.items():
        read = _reading(folder / name, texts)
        yield Target(f"{name} to predict", place, (seed,), read, 1000)


def _read_tf_config(data: bytes) -> None:
    _from_tf_config(data.decode("utf-8", "replace"))


def main() -> None:
    """Fuzzes all targets and prints the outcomes as JSON."""
    folder, data_dir, share = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    faulthandler.enable()
    found = {}
    for target in make_targets(folder, data_dir):
        outcome = fuzz(target, int(share * target.inputs), folder / "current")
        found[target.name] = dataclasses.asdict(outcome)
        print(f"{target.name}: {outcome.seconds:.1f} s", file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
