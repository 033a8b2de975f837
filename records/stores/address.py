"""Addresses of object stores: taken apart, and refused where they hold a secret."""

from __future__ import annotations

import dataclasses
import os
import re
import urllib.parse

# `Path` makes one slash of two.
_ADDRESS = re.compile(r"(s3|gs|az|https?):/+(.*)", re.IGNORECASE | re.DOTALL)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclasses.dataclass(frozen=True)
class Address:
    """A place in a store."""

    scheme: str  # `s3`, `gs`, `az`, `https`, or `http` of this machine
    bucket: str  # the bucket or container; of `https` host and port
    key: str  # what stands behind it, without slashes at its ends; "" is the bucket itself

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")

    def __truediv__(self, name: str) -> Address:
        return dataclasses.replace(self, key="/".join(p for p in (self.key, name) if p))


def is_address(place: str | os.PathLike[str] | None) -> bool:
    """Whether a place is one of a store that can be read."""
    return place is not None and _ADDRESS.match(os.fspath(place)) is not None


def parse_address(place: str | os.PathLike[str], flag: str) -> Address:
    """Takes an address apart that a `flag` received, such as `--data-dir`.

    Raises:
      ValueError: it names no bucket, holds a password or a signature, or is `http` of another
        machine. A secret is not repeated.
    """
    match = _ADDRESS.match(os.fspath(place))
    if match is None:
        raise ValueError(f"place: {flag} expected an address such as s3://bucket/data")
    scheme, rest = match[1].lower(), match[2]
    plain = rest.split("?")[0].split("#")[0]
    bucket, _, key = plain.partition("/")
    if "@" in bucket or plain != rest:
        shown = f"{scheme}://{bucket.rpartition('@')[2]}/{key}"
        raise ValueError(
            f"place: {flag} expected an address without user, password, signature or other "
            f"parameters, received {shown} with some: they would stand in logs and run folders. "
            "Give credentials by the environment (docs/howto/object_stores.md)"
        )
    if scheme == "http" and bucket.rpartition(":")[0] not in _LOOPBACK:
        raise ValueError(
            f"place: {flag} expected https://, received http://{bucket}: nothing would tell "
            "whether the data were changed on their way"
        )
    if scheme in ("http", "https"):
        key = urllib.parse.unquote(key)
    parts = [part for part in key.split("/") if part]
    if not bucket or any(part in (".", "..") or "\0" in part for part in parts):
        raise ValueError(
            f"place: {flag} expected a bucket and a key without '..', received {place}"
        )
    return Address(scheme, bucket, "/".join(parts))


def parse_output(place: str | os.PathLike[str], flag: str) -> Address:
    """As `parse_address`, of a place that is written.

    Raises:
      ValueError: also for a web server, which is only read.
    """
    address = parse_address(place, flag)
    if address.scheme in ("http", "https"):
        raise ValueError(
            f"place: {flag} expected a bucket, such as s3://bucket/runs/one, received {address}: a "
            "web server is only read"
        )
    return address
