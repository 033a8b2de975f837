"""All requests to object stores: sent, counted, tried again, and their errors in plain words.

The client library's own retries are off: it does not count them. Its messages are not repeated,
because an address in them may carry a signature.
"""

import atexit
import contextlib
import dataclasses
import datetime
import functools
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from records.stores.address import Address
from records.stores.credentials import credentials_hint, store_settings

_MOST_TRIES = 8
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 10.0
_TIMEOUT_S = 60
# A larger object is sent in parts, of which a store takes 10,000 at most.
_PART_BYTES, _MOST_PARTS = 8 * 2**20, 9_000
_PARTS_AT_ONCE = 4
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_NO_CREDENTIALS = re.compile(
    r"169\.254\.169\.254|metadata\.google|[Cc]redential|Missing.*[Aa]ccount"
)
_Result = TypeVar("_Result")


@dataclasses.dataclass
class Traffic:
    """What this process has asked of stores: requests, bytes that came and went, second tries."""

    requests: int = 0
    bytes: int = 0
    sent: int = 0
    retries: int = 0

    def __str__(self) -> str:
        sent = f", {self.sent / 1e6:,.1f} MB sent" if self.sent else ""
        came = f"{self.requests:,} requests, {self.bytes / 1e6:,.1f} MB"
        return f"{came}{sent}, {self.retries} retries"


@dataclasses.dataclass(frozen=True)
class Object:
    """An object of a store: bytes, and the tag that changes with its content (None: unknown)."""

    size: int
    tag: str | None


traffic = Traffic()
_lock = threading.Lock()


class StoreError(OSError):
    """A store refuses, has not got, or cannot give what was asked for."""


def read(
    address: Address, expected: Object | None, start: int = 0, end: int | None = None
) -> bytes:
    """The bytes [start, end) of an object; all of them without `end`.

    `expected` is the object as it was listed; None takes whatever there is.

    Raises:
      FileNotFoundError: there is no such object.
      StoreError: access is denied, the object is not the one expected, or the store does not
        answer after some tries.
    """
    if end is None:
        end = expected.size if expected else None
    if end is not None and end <= start:
        return b""

    def get() -> bytes:
        import obstore

        options: Any = {"range": (start, end)} if end is not None else {}
        result = obstore.get(_store(address.scheme, address.bucket), address.key, options=options)
        _check_same(address, expected, result.meta)
        data = bytes(result.bytes())
        if end is not None and len(data) != end - start:
            raise _Cut(f"{len(data):,} of {end - start:,} bytes")
        return data

    data = _try(get, address)
    with _lock:
        traffic.bytes += len(data)
    return data


def list_folder(address: Address) -> tuple[list[str], dict[str, Object]]:
    """(names of the folders, objects by name) that stand directly below an address.

    Raises:
      StoreError: as `read`.
    """

    def ask() -> Any:
        import obstore

        store = _store(address.scheme, address.bucket)
        return obstore.list_with_delimiter(store, address.key or None)

    found = _try(ask, address)
    folders = [prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in found["common_prefixes"]]
    objects = {
        one["path"].rsplit("/", 1)[-1]: Object(one["size"], _plain(one.get("e_tag")))
        for one in found["objects"]
    }
    usual = [name for name in folders if name not in ("", ".", "..")]
    return usual, {k: v for k, v in objects.items() if k not in ("", ".", "..")}


def list_below(address: Address) -> dict[str, Object]:
    """All objects below an address, by what stands behind it in their keys.

    Raises:
      StoreError: as `read`.
    """

    def ask() -> list[Any]:
        import obstore

        store = _store(address.scheme, address.bucket)
        return [one for some in obstore.list(store, address.key or None) for one in some]

    first = len(f"{address.key}/") if address.key else 0
    found = {one["path"][first:]: one for one in _try(ask, address)}
    return {name: Object(one["size"], _plain(one.get("e_tag"))) for name, one in found.items()}


def write(address: Address, content: bytes | BinaryIO) -> None:
    """Writes an object, which holds the old bytes or all the new ones at any time.

    Raises:
      StoreError: it is not taken, as `read`.
    """
    size = len(content) if isinstance(content, bytes) else content.seek(0, 2)
    parts = max(1, -(-size // _PART_BYTES))

    def put() -> None:
        import obstore

        data: bytes | BinaryIO = content
        if not isinstance(data, bytes):
            data.seek(0)
            data = data if parts > 1 else data.read()
        obstore.put(
            # A part that fails is sent again by the library: the others are not lost with it.
            _store(address.scheme, address.bucket, tries_of_parts=_MOST_TRIES if parts > 1 else 0),
            address.key,
            data,
            use_multipart=parts > 1,
            chunk_size=max(_PART_BYTES, -(-size // _MOST_PARTS)),
            max_concurrency=_PARTS_AT_ONCE,
        )
        with _lock:
            traffic.requests += parts + 1 if parts > 1 else 0  # it begins, and ends, with one

    try:
        _try(put, address)
    except FileNotFoundError:
        raise StoreError(
            f"store: {address}: expected a bucket {address.bucket!r} to write to, received none"
        ) from None
    with _lock:
        traffic.sent += size


def delete(address: Address) -> None:
    """Removes an object; one that is gone already is none the worse.

    Raises:
      StoreError: as `read`.
    """

    def remove() -> None:
        import obstore

        obstore.delete(_store(address.scheme, address.bucket), address.key)

    with contextlib.suppress(FileNotFoundError):
        _try(remove, address)


class _Cut(Exception):
    """A response that ended early."""


@functools.lru_cache(maxsize=64)
def _store(scheme: str, bucket: str, tries_of_parts: int = 0) -> Any:
    """The client of a bucket; it is loaded where an address is met, and not before."""
    try:
        from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store
    except ImportError as error:
        raise StoreError(
            f"store: expected the package obstore, received: {error}. Install it: "
            "pip install obstore"
        ) from None
    kinds: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    waits = datetime.timedelta(seconds=_TIMEOUT_S if tries_of_parts else 1)
    options: dict[str, Any] = {
        "retry_config": {"max_retries": tries_of_parts, "retry_timeout": waits},
        # An endpoint that the environment names may be http; the clouds' own are https.
        "client_options": {"allow_http": True, "timeout": f"{_TIMEOUT_S}s"},
    }
    _report_at_the_end()
    if scheme in kinds:
        return kinds[scheme].from_url(f"{scheme}://{bucket}", **options, **store_settings(scheme))
    return HTTPStore.from_url(f"{scheme}://{bucket}", **options)


def _try(call: Callable[[], _Result], address: Address) -> _Result:
    """What a call returns, which is repeated where the store or the way to it failed."""
    wait_s = _FIRST_WAIT_S
    for attempt in range(1, _MOST_TRIES + 1):
        with _lock:
            traffic.requests += 1
        try:
            return call()
        except StoreError:
            raise
        except FileNotFoundError as error:
            code = f" ({found[1]})" if (found := _CODE.search(str(error))) else ""
            raise FileNotFoundError(
                f"store: {address}: expected an object in bucket {address.bucket!r}, received none "
                f"of the key {address.key!r}{code}"
            ) from None
        except Exception as error:  # the library has some ten kinds
            reason, may_pass = _reason(error)
            if not may_pass or attempt == _MOST_TRIES:
                tried = f" {attempt} times" if may_pass else ""
                denied = "" if may_pass else f". {_remedy(reason, address)}"
                raise StoreError(
                    f"store: {address}: expected an answer for bucket {address.bucket!r}, key "
                    f"{address.key!r}, received{tried}: {reason}{denied}"
                ) from None
        with _lock:
            traffic.retries += 1
            is_first = traffic.retries == 1
        if is_first:
            print(
                f"note: {address}: {reason}; it is asked again, up to {_MOST_TRIES} times. Further "
                "retries are counted only",
                file=sys.stderr,
                flush=True,
            )
        # Half of it at random: readers that failed together do not come back together.
        time.sleep(wait_s * random.uniform(0.5, 1))
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
    raise AssertionError


def _reason(error: Exception) -> tuple[str, bool]:
    """(what went wrong, without any address; whether another try may go well)."""
    if isinstance(error, _Cut):
        return f"a response cut after {error}", True
    text = str(error)
    kind = type(error).__name__
    code = f" ({found[1]})" if (found := _CODE.search(text)) else ""
    if found := _STATUS.search(text):
        status = int(found[1])
        return f"HTTP {status}{code}", status >= 500 or status in (408, 429)
    if kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return f"{'403 access denied' if 'Denied' in kind else '401 no access'}{code}", False
    if kind != "GenericError":
        return kind, False
    if _NO_CREDENTIALS.search(text):
        return "no credentials", False
    return "no connection, or one that was cut", True


def _remedy(reason: str, address: Address) -> str:
    """What mends an answer that will not change. A list of what is not there is empty, not 404."""
    if reason.startswith("HTTP 404"):
        return f"There is no bucket {address.bucket!r}: name another one, or make it"
    return credentials_hint(address.scheme)


def _check_same(address: Address, expected: Object | None, meta: Any) -> None:
    """Raises StoreError where an object is another one than was listed."""
    if expected is None:
        return
    tag = _plain(meta.get("e_tag"))
    if meta["size"] != expected.size or (expected.tag and tag and expected.tag != tag):
        raise StoreError(
            f"store: {address}: expected the object that was there when the set was opened "
            f"({expected.size:,} bytes, tag {expected.tag}), received another one "
            f"({meta['size']:,} bytes, tag {tag}): it was replaced meanwhile. Nothing of it was "
            "used. Start again with the set as it is now, or put the old one back"
        )


def _plain(tag: str | None) -> str | None:
    """A tag without its quotes, which lists of some clouds leave out."""
    return tag.removeprefix("W/").strip('"') if tag else None


@functools.cache
def _report_at_the_end() -> None:
    """Prints the closing line of a process that has asked a store, once."""
    atexit.register(lambda: print(f"stores: {traffic}", file=sys.stderr))
