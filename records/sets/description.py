"""The files that say what the shards of a set hold, and their hashes for its fingerprint.

The same shards under other features, classes, groups or splits would be other examples.
"""

import hashlib
import json
from pathlib import Path

from records.sets import origin
from records.system.json_file import read_json

_INFO, _METADATA = "dataset_info.json", "metadata.json"
_FILES = (_INFO, "features.json", _METADATA, "*.labels.txt", "*.vocabulary.txt")
# Of dataset_info.json what shapes training: a description may be reworded.
_INFO_KEYS = ("fileFormat", "supervisedKeys", "splits")
# Of metadata.json what is only shown: generated files may be read as real ones are, and the same
# file at another place makes the same set.
_SHOWN_KEYS = ("generated", "dropped", "class_counts", origin.KEY)


def hash_description(folder: Path) -> dict[str, str]:
    """{name: SHA-256} of the files beside the shards that shape what is read of them."""
    paths = (path for pattern in _FILES for path in sorted(folder.glob(pattern)))
    return {p.name: hashlib.sha256(_shaping(p)).hexdigest() for p in paths if p.is_file()}


def _shaping(path: Path) -> bytes:
    """What of a file shapes training; all of one that cannot be parsed."""
    if path.name not in (_INFO, _METADATA):
        return path.read_bytes()
    try:
        known = read_json(path).items()
    except (ValueError, AttributeError):
        return path.read_bytes()
    kept = {k: v for k, v in known if k in _INFO_KEYS}
    if path.name == _METADATA:
        kept = {k: v for k, v in known if k not in _SHOWN_KEYS}
    return json.dumps(kept, sort_keys=True).encode()
