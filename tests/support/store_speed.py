"""Streams pictures from a bucket on this machine, each request late and the line narrow.

`python -m tests.support.store_speed DATA_DIR`, the data folder with `brain_tumor_mri/kaggle`.
Prints the first batch, rates, requests and bytes of two epochs, and the memory that they took:
local, larger than the cache, and kept in the cache; each several times, in turn.

The server is a process of its own that sends files as the kernel can (`sendfile`): moto, behind
which the tests stand, takes longer to answer than the pictures to decode, and on the same cores.
"""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

_BUCKET, _BATCH, _BLOCK, _PICTURES, _ROUNDS = "bucket", 64, 1024, 12_000, 3
_LATENCY_S, _BYTES_PER_S = 0.02, 200e6
_PIECE = 2**20


def serve(folder: str, port: Connection) -> None:
    """Answers GET of objects (whole, or one range) and lists of S3, from the files of a folder."""
    root, line, free_at = Path(folder), threading.Lock(), 0.0

    def wait_for_line(size: int) -> None:
        nonlocal free_at
        with line:
            free_at = max(free_at, time.monotonic()) + size / _BYTES_PER_S
            wait = free_at - time.monotonic()
        time.sleep(max(0.0, wait))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            time.sleep(_LATENCY_S)
            where, _, query = self.path.partition("?")
            key = urllib.parse.unquote(where).strip("/").removeprefix(_BUCKET).strip("/")
            if "list-type" in query:
                asked = dict(urllib.parse.parse_qsl(query))
                self._answer(200, _listing(root, asked.get("prefix", ""), "delimiter" in asked))
            elif (root / key).is_file():
                self._send_file(root / key)
            else:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _send_file(self, path: Path) -> None:
            size, tag = _facts(path)
            asked = self.headers.get("Range", "")
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first or 0), min(int(last or size - 1) + 1, size)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(end - start))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", tag)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.end_headers()
            self.wfile.flush()
            with open(path, "rb") as file:
                while start < end:
                    piece = min(_PIECE, end - start)
                    wait_for_line(piece)
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, piece)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port.send(server.server_address[1])
    server.serve_forever()


def _facts(path: Path) -> tuple[int, str]:
    found = path.stat()
    return found.st_size, f'"{found.st_mtime_ns:x}-{found.st_size:x}"'


def _listing(root: Path, prefix: str, is_folder: bool) -> bytes:
    below = [p for p in sorted(root.rglob("*")) if str(p.relative_to(root)).startswith(prefix)]
    rows, folders = "", set()
    for path in filter(Path.is_file, below):
        key = str(path.relative_to(root))
        if is_folder and "/" in key[len(prefix) :]:
            folders.add(prefix + key[len(prefix) :].split("/")[0] + "/")
            continue
        size, tag = _facts(path)
        rows += (
            f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{tag}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        )
    rows += "".join(
        f"<CommonPrefixes><Prefix>{one}</Prefix></CommonPrefixes>" for one in sorted(folders)
    )
    return f"<ListBucketResult>{rows}</ListBucketResult>".encode()


@dataclasses.dataclass
class Measured:
    """Two epochs of a set: (pictures/s, requests, MB read) of each."""

    first_batch_s: float
    epochs: list[tuple[float, int, float]]
    # The most resident memory, above what there was at the start.
    memory_mb: float


def measure(place: str) -> Measured:
    """Opens a set and reads two epochs of it."""
    import records
    from records.decoding.input_config import InputConfig
    from records.stores.client import traffic

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, opened = _memory_mb("VmRSS"), time.perf_counter()
    data = records.open_data(place, None, InputConfig(cache="none"))
    steps = -(-data.examples("train").num_examples // _BATCH)
    arrays = records.make_arrays(
        data, "train", global_batch_size=_BATCH, shuffle_block=_BLOCK, epochs=2
    )
    first_s, epochs = 0.0, []
    for _ in range(2):
        began, requests, read = time.perf_counter(), traffic.requests, traffic.bytes
        next(arrays)
        first_s = first_s or time.perf_counter() - opened
        count = _BATCH + sum(_BATCH for _ in itertools.islice(arrays, steps - 1))
        rate = count / (time.perf_counter() - began)
        epochs.append((rate, traffic.requests - requests, (traffic.bytes - read) / 1e6))
    return Measured(first_s, epochs, _memory_mb("VmHWM") - before)


def _memory_mb(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1000


def main(data_dir: str) -> None:
    """Measures the cases in turn, and prints the median of each."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(folder, theirs), daemon=True)
        server.start()  # before TensorFlow, which does not survive a fork
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ours.recv()}",
            "AWS_ACCESS_KEY_ID": "KEYOFTHETEST",
            "AWS_SECRET_ACCESS_KEY": "SECRETOFTHETEST",
            "AWS_REGION": "us-east-1",
        }
        import records
        from benchmarks.measuring.repeat import repeat_set

        schema = records.open_data("brain_tumor_mri/kaggle", data_dir).schema
        local = repeat_set(schema, "train", _PICTURES, folder)
        remote = f"s3://{_BUCKET}/{Path(local).relative_to(folder)}"
        cases = {"local": local, "larger than the cache": remote, "kept in the cache": remote}
        found: dict[str, list[Measured]] = {label: [] for label in cases}
        for number, (label, place) in itertools.product(range(_ROUNDS), cases.items()):
            os.environ["RECORDS_LOCAL_CACHE"] = f"{folder}/cache-{number}"
            os.environ["RECORDS_LOCAL_CACHE_BYTES"] = "1e10" if "kept" in label else "0"
            found[label].append(measure(place))
        for label, runs in found.items():
            print(f"{label}: {_summary(runs, found['local'])}", flush=True)


def _summary(runs: list[Measured], local: list[Measured]) -> str:
    said = [f"first batch after {statistics.median(r.first_batch_s for r in runs):.2f} s"]
    for epoch in range(2):
        rate, asked, megabytes = (
            statistics.median(run.epochs[epoch][k] for run in runs) for k in range(3)
        )
        ratio = rate / statistics.median(run.epochs[epoch][0] for run in local)
        traffic = f"{asked:.0f} requests, {megabytes:.0f} MB"
        said.append(f"{rate:,.0f} pictures/s ({ratio:.2f} of local), {traffic}")
    memory_mb = statistics.median(run.memory_mb for run in runs)
    return "; then ".join(said) + f"; at most {memory_mb:,.0f} MB more memory"


if __name__ == "__main__":
    main(sys.argv[1])
