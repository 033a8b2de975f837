"""The files that say what the shards of a set hold, and their hashes for its fingerprint.

The same shards under other features, classes, groups or splits would be other examples.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from records.system.json_file import read_json

INFO = "dataset_info.json"
_FILES = ("features.json", "metadata.json", "*.labels.txt", "*.vocabulary.txt")
# Of dataset_info.json what shapes training: a description may be reworded.
_INFO_KEYS = ("fileFormat", "supervisedKeys", "splits")


def hash_description(folder: Path) -> dict[str, str]:
    """{name: SHA-256} of the files beside the shards that shape what is read of them."""
    paths = (path for pattern in _FILES for path in sorted(folder.glob(pattern)))
    found = {path.name: _hash(path.read_bytes()) for path in paths if path.is_file()}
    info = folder / INFO
    if info.is_file():
        found[INFO] = _hash(_shaping(info))
    return found


def _shaping(info: Path) -> bytes:
    """What of dataset_info.json is hashed; all of one that is none."""
    try:
        known = read_json(info)
        return json.dumps([known.get(key) for key in _INFO_KEYS], sort_keys=True).encode()
    except (ValueError, AttributeError):
        return info.read_bytes()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
