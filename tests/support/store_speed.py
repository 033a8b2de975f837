"""Streams pictures from a bucket on this machine, each request 20 ms late.

`python -m tests.support.store_speed DATA_DIR`, the data folder with `brain_tumor_mri/kaggle`.
Prints the first batch, and rates, requests and bytes of two epochs: local, larger than the cache,
and kept in the cache.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import records
from records.decoding.input_config import InputConfig
from records.sets.find import find_directory
from records.stores.client import traffic
from tests.support.stores import Store, environment, serve_s3

NAME = "brain_tumor_mri/kaggle"
_BATCH, _BLOCK, _LATENCY_S = 64, 1024, 0.02


def measure(place: str, label: str) -> None:
    """Prints a line of two epochs."""
    opened = time.perf_counter()
    data = records.open_data(NAME, place, InputConfig(cache="none"))
    steps = -(-data.examples("train").num_examples // _BATCH)
    options = {"global_batch_size": _BATCH, "shuffle_block": _BLOCK, "epochs": 2}
    arrays = records.make_arrays(data, "train", **options)  # type: ignore[arg-type]
    said: list[str] = []
    for _ in range(2):
        began, requests, read = time.perf_counter(), traffic.requests, traffic.bytes
        next(arrays)
        if not said:
            said.append(f"first batch after {time.perf_counter() - opened:.2f} s")
        count = _BATCH + sum(_BATCH for _ in itertools.islice(arrays, steps - 1))
        rate = count / (time.perf_counter() - began)
        asked, megabytes = traffic.requests - requests, (traffic.bytes - read) / 1e6
        said.append(f"{rate:,.0f} pictures/s, {asked} requests, {megabytes:.0f} MB")
    print(f"{label}: {'; then '.join(said)}", flush=True)


def main(data_dir: str) -> None:
    """Measures the three cases, one after the other."""
    with serve_s3() as (proxy, server), tempfile.TemporaryDirectory() as cache:
        os.environ.update(environment(proxy, Path(cache)))
        store = Store(proxy, server, "measured")
        source = Path(find_directory(NAME, data_dir))
        store.upload(source, f"{NAME}/{source.name}")
        proxy.latency_s = _LATENCY_S
        records.open_data(NAME, data_dir)  # imports TensorFlow
        measure(data_dir, "local")
        os.environ["RECORDS_LOCAL_CACHE_BYTES"] = "0"
        measure(store.url, "larger than the cache")
        os.environ["RECORDS_LOCAL_CACHE_BYTES"] = "1e9"
        measure(store.url, "kept in the cache")


if __name__ == "__main__":
    main(sys.argv[1])
