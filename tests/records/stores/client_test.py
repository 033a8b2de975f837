"""What a store can do wrong is named, tried again where that may help, and mixes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import records
from records.decoding.input_config import InputConfig
from records.sets.find import find_directory
from records.stores import cache, client, mirror
from records.stores.address import parse_address
from records.stores.client import Object, StoreError, traffic
from tests.support.stores import CUT, Store

NAME = "fetal_health/synthetic"


def _upload(store: Store, data_dir: Path, name: str = NAME) -> Path:
    source = Path(find_directory(name, str(data_dir)))
    store.upload(source, "set")
    store.proxy.asked.clear()
    return source


def _read_all(store: Store, level: str = "memory") -> list[np.ndarray]:
    data = records.open_data(f"{store.url}/set", config=InputConfig(cache=level, image_size=32))
    return [np.copy(batch[0]) for batch in records.make_arrays(data, "train", global_batch_size=32)]


def test_a_key_that_is_missing_is_named_and_not_asked_for_again(store: Store) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        client.read(parse_address(f"{store.url}/a/b.bin", "test"), None)
    assert f"bucket {store.bucket!r}" in str(caught.value) and "'a/b.bin'" in str(caught.value)
    assert len(store.proxy.asked) == 1


def test_a_set_that_is_missing_is_told_with_those_that_are_there(
    store: Store, synthetic_data_dir: Path
) -> None:
    _upload(store, synthetic_data_dir)
    with pytest.raises(FileNotFoundError) as caught:
        find_directory("nothing", store.url)
    assert f"bucket {store.bucket!r}; prepared there: {store.url}/set." in str(caught.value)
    with pytest.raises(StoreError, match=r"404 \(NoSuchBucket\). There is no bucket 'no-such"):
        find_directory("nothing", "s3://no-such-bucket")


def test_a_refusal_is_named_and_not_asked_for_again(store: Store) -> None:
    store.proxy.fault = lambda path: 403
    with pytest.raises(StoreError) as caught:
        client.read(parse_address(f"{store.url}/a/b.bin", "test"), None)
    assert f"bucket {store.bucket!r}, key 'a/b.bin'" in str(caught.value)
    assert "403" in str(caught.value) and "AWS_PROFILE" in str(caught.value)
    assert len(store.proxy.asked) == 1
    assert "OFTHETEST" not in str(caught.value), "no part of a key or signature"


@pytest.mark.parametrize("fault", [500, 503, 429, CUT], ids=str)
def test_what_passes_is_tried_again_and_counted(
    fault: int | str, store: Store, synthetic_data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _upload(store, synthetic_data_dir)
    expected = _read_all(store)
    counts = {"all": 0}

    def sometimes(path: str) -> int | str | None:
        counts["all"] += 1
        return fault if counts["all"] % 3 == 0 else None

    store.proxy.fault = sometimes
    before, cache_folder = traffic.retries, os.environ[cache.FOLDER_VARIABLE]
    os.environ[cache.FOLDER_VARIABLE] = cache_folder + "-anew"
    received = _read_all(store)
    assert all(np.array_equal(a, b) for a, b in zip(expected, received, strict=True))
    assert traffic.retries - before == counts["all"] // 3 > 0


def test_a_store_that_stays_away_ends_what_reads(store: Store) -> None:
    store.proxy.fault = lambda path: 503
    with pytest.raises(StoreError, match=r"received 8 times: HTTP 503 \(Faulty\)$"):
        client.read(parse_address(f"{store.url}/a", "test"), None)
    assert len(store.proxy.asked) == 8


def test_a_truncated_shard_is_refused_when_the_set_is_opened(
    store: Store, synthetic_data_dir: Path
) -> None:
    source = _upload(store, synthetic_data_dir)
    shard = sorted(source.glob("*-of-*"))[0]
    store.put(f"set/{shard.name}", shard.read_bytes()[:-7])
    size = shard.stat().st_size
    with pytest.raises(ValueError, match=f"expected {size} bytes, received {size - 7} bytes"):
        _read_all(store)


@pytest.mark.parametrize("most_bytes", ["1e9", "0"], ids=["whole shards", "ranges"])
def test_a_changed_shard_of_the_same_size_is_refused(
    most_bytes: str, store: Store, synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _upload(store, synthetic_data_dir)
    monkeypatch.setenv(cache.BYTES_VARIABLE, most_bytes)
    shard = sorted(source.glob("*train*-of-*"))[0]
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    store.put(f"set/{shard.name}", bytes(content))
    folder = Path(find_directory(f"{store.url}/set"))
    if most_bytes == "0":
        with pytest.raises(ValueError, match=rf"{shard.name}, record 0 at byte 0: expected a pay"):
            _read_all(store)
    else:
        with pytest.raises(StoreError, match=rf"{store.url}/set/{shard.name}: expected the shard"):
            mirror.fetch(folder / shard.name)
    assert not list(folder.glob(f"{shard.name}*"))


@pytest.mark.parametrize("most_bytes", ["1e9", "0"], ids=["whole shards", "ranges"])
def test_an_object_that_is_replaced_under_the_run_ends_it(
    most_bytes: str, store: Store, synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _upload(store, synthetic_data_dir)
    monkeypatch.setenv(cache.BYTES_VARIABLE, most_bytes)
    shards = sorted(source.glob("*train*-of-*"))
    data = records.open_data(f"{store.url}/set", config=InputConfig(cache="none"))
    arrays = records.make_arrays(data, "train", global_batch_size=32)
    # Whole records, in the place of others: no CRC would tell.
    content = bytearray(shards[0].read_bytes())
    size = int(data.examples("train").index.length[0]) + 16
    content = content[size : 2 * size] + content[:size] + content[2 * size :]
    store.put(f"set/{shards[0].name}", bytes(content))
    with pytest.raises(StoreError, match=rf"{shards[0].name}: .*it was replaced meanwhile"):
        for _ in arrays:
            time.sleep(0.01)
    # The next start reads the set as it is now, from a folder of its own.
    again = Path(find_directory(f"{store.url}/set"))
    assert str(again) != data.schema.directory


def test_shards_that_nobody_holds_make_room(store: Store) -> None:
    folder = cache.cache_folder() / "x"
    names = [f"a-train.tfrecord-0000{i}-of-00004" for i in range(4)]
    for i, name in enumerate(names):
        store.put(name, bytes([i]) * 1000)
    os.environ[cache.BYTES_VARIABLE] = "3000"

    def fetch(i: int) -> bool:
        address = parse_address(f"{store.url}/{names[i]}", "test")
        return cache.fetch(folder / names[i], address, Object(1000, None), None)

    assert fetch(0) and fetch(1) and fetch(2)
    with open(folder / names[0], "rb") as first, open(folder / names[1], "rb") as second:
        for file in (first, second):
            cache.hold(file)
        assert fetch(3), "the only one that is not held goes"
        assert sorted(p.name for p in folder.iterdir()) == [names[0], names[1], names[3]]
        with open(folder / names[3], "rb") as third:
            cache.hold(third)
            assert not fetch(2), "all are held"
    assert fetch(2)
    assert len(list(folder.iterdir())) == 3
    assert (folder / names[2]).read_bytes() == bytes([2]) * 1000


def test_a_killed_download_leaves_nothing_that_is_read(
    store: Store, synthetic_data_dir: Path
) -> None:
    source = _upload(store, synthetic_data_dir, "brain_tumor_mri/synthetic")
    folder = Path(find_directory(f"{store.url}/set"))
    shards = sorted(source.glob("*-of-*"))
    program = "import sys; from records.stores import mirror; mirror.fetch_all(sys.argv[1:])"
    paths = [str(folder / shard.name) for shard in shards]
    store.proxy.latency_s = 0.02
    for wait_s in np.linspace(0, 0.4, 10):
        child = subprocess.Popen([sys.executable, "-c", program, *paths])
        deadline = time.monotonic() + 30
        while not list(folder.glob("*-of-*")) and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(wait_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
        for path in folder.glob("*-of-?????"):
            assert path.read_bytes() == (source / path.name).read_bytes()
            path.unlink()
    store.proxy.latency_s = 0.0
    mirror.fetch_all(paths)
    assert all((folder / s.name).read_bytes() == s.read_bytes() for s in shards)
    assert not list(folder.glob("*.part"))
