"""Sets in a bucket give the batches of the same sets on this machine, bit for bit."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import records
from records.decoding.input_config import InputConfig
from records.sets.find import find_directory
from records.stores import cache, mirror
from records.stores.client import traffic
from records.verify import __main__ as verify
from tests.support.stores import Store, WebServer, serve_google

SIZES = InputConfig(image_size=32, sequence_length=12, vocab_size=300)


def _batches(place: str, name: str, cache_level: str, epochs: int = 2, **options: Any) -> list[Any]:
    config = InputConfig(image_size=32, sequence_length=12, vocab_size=300, cache=cache_level)
    data = records.open_data(name, place, config)
    arrays = records.make_arrays(
        data, "train", global_batch_size=24, seed=4, epochs=epochs, **options
    )
    return [tuple(np.copy(x) for x in batch) for batch in arrays]


def _same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(
        np.array_equal(x, y) for a, b in zip(left, right) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "level", "most_bytes"),
    [
        ("fetal_health/synthetic", "memory", "1e9"),
        ("fetal_health/synthetic", "none", "0"),
        ("brain_tumor_mri/synthetic", "none", "1e9"),
        ("brain_tumor_mri/synthetic", "memory", "0"),
        ("song_lyrics/synthetic", "memory", "1e9"),
        ("song_lyrics/synthetic", "none", "0"),
    ],
    ids=str,
)
def test_batches_are_those_of_the_local_set(
    name: str,
    most_bytes: str,
    level: str,
    store: Store,
    synthetic_data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(cache.BYTES_VARIABLE, most_bytes)
    source = Path(find_directory(name, str(synthetic_data_dir)))
    store.upload(source, f"data/{name}/{source.name}")
    options = {"shuffle_block": 96} if level == "none" else {}
    remote = _batches(f"{store.url}/data", name, level, **options)
    assert _same(remote, _batches(str(synthetic_data_dir), name, level, **options))
    mirrored = Path(find_directory(name, f"{store.url}/data"))
    if most_bytes == "0":
        assert not list(mirrored.glob("*-of-*")), "nothing of a set that does not fit is kept"


def test_a_second_epoch_asks_for_nothing(store: Store, synthetic_data_dir: Path) -> None:
    source = Path(find_directory("brain_tumor_mri/synthetic", str(synthetic_data_dir)))
    store.upload(source, "set")
    config = InputConfig(image_size=32, cache="none")
    data = records.open_data(f"{store.url}/set", config=config)
    arrays = records.make_arrays(data, "train", global_batch_size=24, epochs=3)
    steps = -(-data.examples("train").num_examples // 24)
    for _ in itertools.islice(arrays, steps):
        pass
    deadline = time.monotonic() + 20
    paths = data.examples("train").index.paths
    while not all(Path(path).exists() for path in paths) and time.monotonic() < deadline:
        time.sleep(0.01)
    before = len(store.proxy.asked), traffic.requests
    assert sum(1 for _ in arrays) == 2 * steps
    assert (len(store.proxy.asked), traffic.requests) == before
    # A process that comes later asks for lists only.
    mirror._manifest.cache_clear()
    store.proxy.asked.clear()
    again = records.open_data(f"{store.url}/set", config=config)
    assert sum(1 for _ in records.make_arrays(again, "train", global_batch_size=24)) == steps
    assert [one for one in store.proxy.asked if "list-type" not in one] == []


def test_a_set_on_a_web_server(store: Store, synthetic_data_dir: Path) -> None:
    name = "fetal_health/synthetic"
    source = Path(find_directory(name, str(synthetic_data_dir)))
    server = WebServer(synthetic_data_dir)
    root = f"http://127.0.0.1:{server.port}"
    try:
        local = _batches(str(synthetic_data_dir), name, "memory", 1)
        assert _same(_batches(root, f"{name}/{source.name}", "memory", 1), local)
        with pytest.raises(FileNotFoundError, match="A web server is not searched: give the whole"):
            find_directory(name, root)
    finally:
        server.close()


def test_a_set_in_a_bucket_of_google(
    store: Store, synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "fetal_health/synthetic"
    source = Path(find_directory(name, str(synthetic_data_dir)))
    local = _batches(str(synthetic_data_dir), name, "memory", 1)
    with serve_google(source, "sets-bucket") as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{proxy.port}")
        assert _same(_batches("gs://sets-bucket", "set", "memory", 1), local)
        with pytest.raises(FileNotFoundError, match="prepared there: gs://sets-bucket/set"):
            find_directory("other", "gs://sets-bucket")
        assert verify.main([str(source), "--upload", "gs://sets-bucket/data"]) == 0
        written = _batches("gs://sets-bucket/data", name, "memory", 1)
        assert _same(written, local)
