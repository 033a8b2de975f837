"""Object stores for tests: moto's S3 on loopback, behind a proxy that adds latency and faults."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import logging
import os
import random
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.forks import Forked

_numbers = itertools.count()
# What a proxy does with a request, by its path: answer with a status, or cut the body half-way.
CUT = "cut"
Answer = tuple[int, list[tuple[str, str]], bytes]
_TIME = "Thu, 01 Jan 2026 00:00:00 GMT"
Fault = Callable[[str], int | str | None]


class Proxy:
    """Passes requests on to a server.

    Attributes:
      asked: the paths of all requests so far, with their ranges; "PUT /path" of what is written.
      fault: tells what to do with a request, by that; None passes it on.
      latency_s: before each answer.
    """

    def __init__(self, host: str, port: int):
        """Listens on a port of its own."""
        self.asked: list[str] = []
        self.fault: Fault = lambda path: None
        self.latency_s = 0.0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                proxy._pass_on(self, host, port)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

            def log_message(self, *arguments: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.port = self._server.server_address[1]

    def _pass_on(self, handler: BaseHTTPRequestHandler, host: str, port: int) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(size)
        command = "" if handler.command in ("GET", "HEAD") else f"{handler.command} "
        self.asked.append(f"{command}{handler.path} {handler.headers.get('Range', '')}".strip())
        time.sleep(self.latency_s)
        fault = self.fault(f"{command}{handler.path}")
        if isinstance(fault, int):
            answer: Answer = fault, [], b"<Error><Code>Faulty</Code></Error>"
        else:
            answer = self.answer(handler, body, host, port)
        status, headers, data = answer
        handler.send_response(status)
        hop = ("connection", "transfer-encoding", "content-length", "server", "date")
        for name, value in headers:
            if name.lower() not in hop:
                handler.send_header(name, value)
        length = next((v for k, v in headers if k.lower() == "content-length"), str(len(data)))
        handler.send_header("Content-Length", length)
        handler.end_headers()
        if fault == CUT:
            data, handler.close_connection = data[: len(data) // 2], True
        with contextlib.suppress(OSError):
            handler.wfile.write(data)

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes, host: str, port: int) -> Answer:
        """(status, headers, body) of the server's answer."""
        connection = http.client.HTTPConnection(host, port)
        connection.request(handler.command, handler.path, body, dict(handler.headers))
        found = connection.getresponse()
        data = found.read()
        connection.close()
        return found.status, found.getheaders(), data

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


def _answer_part(handler: BaseHTTPRequestHandler, data: bytes) -> Answer:
    """The answer with the part of an object that a request asks for."""
    asked = handler.headers.get("Range")
    first, end = (asked or "bytes=0-").removeprefix("bytes=").split("-")
    part = data[int(first) : int(end) + 1 if end else len(data)]
    headers: list[tuple[str, str]] = [
        ("Last-Modified", _TIME),
        ("ETag", f'"{hashlib.md5(data).hexdigest()}"'),
    ]
    if asked:
        headers += [("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")]
    return 206 if asked else 200, headers, part


class WebServer(Proxy):
    """A web server of the files below a folder."""

    def __init__(self, folder: Path):
        """Listens on a port of its own."""
        super().__init__("", 0)
        self._folder = folder

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes, host: str, port: int) -> Answer:
        """As `Proxy.answer`."""
        path = self._folder / urllib.parse.unquote(handler.path).strip("/")
        return _answer_part(handler, path.read_bytes()) if path.is_file() else (404, [], b"")


class GoogleProxy(Proxy):
    """Before Google's emulator, which speaks JSON: lists become XML, objects get their times."""

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes, host: str, port: int) -> Answer:
        """As `Proxy.answer`."""
        path, _, query = handler.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        bucket, _, key = urllib.parse.unquote(path).strip("/").partition("/")
        base = f"http://{host}:{port}/storage/v1/b/{bucket}/o"
        if handler.command == "PUT":
            _google_put(host, port, bucket, key, body)
            return 200, [("ETag", f'"{hashlib.md5(body).hexdigest()}"')], b""
        if "list-type" not in asked:
            name = urllib.parse.quote(key, safe="")
            try:
                with urllib.request.urlopen(f"{base}/{name}?alt=media") as f:
                    return _answer_part(handler, f.read())
            except urllib.error.HTTPError as error:
                return error.code, [], b""
        found: dict[str, Any] = {}
        with contextlib.suppress(urllib.error.HTTPError):  # its answer where nothing is there
            url = f"{base}?prefix={asked.get('prefix', '')}&delimiter=%2F"
            with urllib.request.urlopen(url) as f:
                found = json.load(f)
        rows = "".join(
            f"<Contents><Key>{one['name']}</Key><Size>{one['size']}</Size><ETag>"
            f"{base64.b64decode(one['md5Hash']).hex()}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for one in found.get("items", [])
        )
        for prefix in found.get("prefixes", []):
            rows += f"<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"
        return 200, [], f"<ListBucketResult>{rows}</ListBucketResult>".encode()


def _google_put(host: str, port: int, bucket: str, key: str, data: bytes) -> None:
    name = urllib.parse.quote(key, safe="")
    url = f"http://{host}:{port}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
    kind = {"Content-Type": "application/octet-stream"}
    urllib.request.urlopen(
        urllib.request.Request(url, data=data, method="POST", headers=kind)
    ).close()


@contextlib.contextmanager
def serve_google(folder: Path, bucket: str) -> Iterator[GoogleProxy]:
    """Google's emulator with the files of a folder below `set/` in a bucket, behind a proxy."""
    from gcp_storage_emulator.server import create_server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=bucket)
    server.start()
    port = server._api._httpd.socket.getsockname()[1]
    for path in filter(Path.is_file, folder.iterdir()):
        _google_put("127.0.0.1", port, bucket, f"set/{path.name}", path.read_bytes())
    proxy = GoogleProxy("127.0.0.1", port)
    try:
        yield proxy
    finally:
        proxy.close()
        server.stop()


class Store:
    """A bucket of S3, and the proxy through which the code under test reaches it."""

    def __init__(self, proxy: Proxy, server: str, bucket: str):
        """Makes the bucket."""
        from obstore.store import S3Store

        self.proxy, self.bucket, self.url = proxy, bucket, f"s3://{bucket}"
        host, port = server.split(":")
        connection = http.client.HTTPConnection(host, int(port))
        connection.request("PUT", f"/{bucket}")
        connection.getresponse().read()
        options: Any = {"allow_http": True}
        self._store = S3Store(
            bucket,
            endpoint=f"http://{server}",
            access_key_id="a",
            secret_access_key="b",
            region="us-east-1",
            client_options=options,
        )

    def put(self, key: str, data: bytes) -> None:
        """Writes an object."""
        import obstore

        obstore.put(self._store, key, data)

    def get(self, key: str) -> bytes:
        """The bytes of an object, asked for behind the proxy."""
        import obstore

        return bytes(obstore.get(self._store, key).bytes())

    def remove(self, key: str) -> None:
        """Removes an object."""
        import obstore

        obstore.delete(self._store, key)

    def names(self) -> list[str]:
        """All objects, sorted."""
        import obstore

        return sorted(one["path"] for some in obstore.list(self._store) for one in some)

    def upload(self, folder: Path, key: str = "") -> None:
        """Writes all files of a folder and of those below it."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(
                    "/".join(p for p in (key, str(path.relative_to(folder))) if p),
                    path.read_bytes(),
                )

    def shards_asked(self) -> list[str]:
        """The requests for shards so far."""
        return [one for one in self.proxy.asked if ".tfrecord-" in one]


def kill_in_mid_request(
    child: subprocess.Popen[bytes] | Forked, proxy: Proxy, chance: random.Random
) -> None:
    """Kills a process at a random instant of its next twenty requests that write."""
    before, wanted = len(proxy.asked), chance.randrange(1, 20)
    deadline = time.monotonic() + 120
    while sum(one.startswith("P") for one in proxy.asked[before:]) < wanted:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(chance.uniform(0, 0.01))
    child.send_signal(signal.SIGKILL)
    child.communicate()


@contextlib.contextmanager
def serve_s3() -> Iterator[tuple[Proxy, str]]:
    """(a proxy, HOST:PORT of the server behind it)."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    proxy = Proxy(host, port)
    try:
        yield proxy, f"{host}:{port}"
    finally:
        proxy.close()
        server.stop()


def environment(proxy: Proxy, cache: Path) -> dict[str, str]:
    """Variables by which the code under test finds the server."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
        "AWS_ACCESS_KEY_ID": "KEYOFTHETEST",
        "AWS_SECRET_ACCESS_KEY": "SECRETOFTHETEST",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "RECORDS_LOCAL_CACHE": str(cache),
        "RECORDS_LOCAL_CACHE_BYTES": "1e9",
    }


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[Proxy, str]]:
    """(a proxy, HOST:PORT of the server behind it); started by the first test that asks."""
    with serve_s3() as found:
        yield found


@pytest.fixture
def store(
    s3_server: tuple[Proxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """An empty bucket, and an empty local cache."""
    from records.stores import client, mirror

    proxy, server = s3_server
    for name, value in environment(proxy, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.001)
    yield Store(proxy, server, f"bucket-{next(_numbers)}")
    proxy.fault, proxy.latency_s = lambda path: None, 0.0
    proxy.asked.clear()
    mirror.let_go()
