"""Which places data and runs can lie in: file systems that this machine has mounted."""

from __future__ import annotations

import os
import re

_COPY = {"gs": "gcloud storage cp -r {place} .", "s3": "aws s3 cp --recursive {place} ."}
_MOUNT = {"gs": "gcsfuse BUCKET FOLDER", "s3": "mount-s3 BUCKET FOLDER"}


def check_local(place: str | os.PathLike[str] | None, flag: str) -> None:
    """Refuses addresses such as gs://bucket/folder.

    Records are read by their byte offsets from several threads, caches are mapped into memory, and
    files appear whole by renaming them: object stores have none of the three.

    Args:
      place: a path, an address, or None.
      flag: that named it.

    Raises:
      ValueError: it is an address; names what to do instead.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", os.fspath(place or ""))
    if found is None:
        return
    scheme = found[1].lower()
    ways = [table[scheme].format(place=place) for table in (_COPY, _MOUNT) if scheme in table]
    raise ValueError(
        f"records/places: {flag} expected a folder of a mounted file system, received {place}: "
        "records are read by offset, caches are mapped into memory and files are renamed, which an "
        f"object store cannot do. Copy it or mount it: {' or '.join(ways) or 'with its own tools'}"
    )
