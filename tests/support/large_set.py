"""Sets of any number of records on little disk: their index names the same places many times."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from records.decoding.indexing import read_index
from records.sets.schema import Schema, read_schema
from records.shards.index import RecordIndex
from records.shards.index_file import index_path, write_index
from records.system import npz


def make_large_set(schema: Schema, repeats: int, folder: Path) -> str:
    """Writes a set of `repeats` times the training records; the test records are to validate.

    Shards and records are those of `schema`, a set of rows; only the index is longer.

    Returns:
      Its directory. It has no fingerprint.
    """
    target = folder / "large" / "1.0.0"
    shutil.copytree(schema.directory, target)
    for file in target.iterdir():
        if re.search(r"index\.npz|fingerprint", file.name):
            file.unlink()
        elif "-test." in file.name:
            file.rename(target / file.name.replace("-test.", "-validation."))
    info = json.loads((target / "dataset_info.json").read_text(encoding="utf-8"))
    splits = {split["name"]: split for split in info["splits"]}
    splits["test"]["name"] = "validation"
    _write(target, info)
    stored = read_index(read_schema(str(target)), "train")
    lengths = [int(n) * repeats for n in splits["train"]["shardLengths"]]
    splits["train"]["shardLengths"] = list(map(str, lengths))
    _write(target, info)
    sizes = _extend(stored.paths, lengths)
    index = dataclasses.replace(_repeated(stored, repeats), shard_bytes=sizes)
    write_index(index, read_schema(str(target)), "train")
    return str(target)


def _repeated(stored: RecordIndex, repeats: int) -> RecordIndex:
    cuts = np.flatnonzero(np.diff(stored.shard)) + 1
    # Shard by shard, in each of which the same places come again and again.
    columns: dict[str, Any] = {
        name: np.concatenate([np.tile(p, repeats) for p in np.split(getattr(stored, name), cuts)])
        for name in ("shard", "offset", "label")
    }
    for name in ("length", "group", "sequence_length", "is_grey", "input_start", "input_bytes"):
        # Columns of one value take no memory here. There is a split to validate: no group counts.
        columns[name] = np.broadcast_to(getattr(stored, name)[:1], len(columns["shard"]))
    assert (stored.length == stored.length[0]).all()
    return dataclasses.replace(stored, **columns)


def _extend(paths: Sequence[str], lengths: Sequence[int]) -> np.ndarray:
    """Lets shards be as large as so many records are at least, by holes; int64, their sizes."""
    for path, length in zip(paths, lengths, strict=True):
        os.truncate(path, max(os.path.getsize(path), 16 * length))
    return np.array([os.path.getsize(path) for path in paths], np.int64)


def _write(target: Path, info: dict[str, Any]) -> None:
    (target / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def make_sparse_index(directory: str, count: int) -> None:
    """Makes the training split of a large set one of `count` records, whose index is all holes.

    Only the file's size and its first bytes are those of such a set: no record can be read.
    """
    schema = read_schema(directory)
    path = index_path(schema, "train")
    stored = {
        name: array[:1] if array.ndim else array for name, array in npz.map_arrays(path).items()
    }
    info = json.loads((Path(directory) / "dataset_info.json").read_text(encoding="utf-8"))
    (train,) = (split for split in info["splits"] if split["name"] == "train")
    shards = len(train["shardLengths"])
    lengths = [count - (shards - 1), *[1] * (shards - 1)]
    train["shardLengths"] = list(map(str, lengths))
    stored["shard_bytes"] = _extend(schema.shards["train"], lengths)
    _write(Path(directory), info)
    path.unlink()  # what is mapped is not written into
    with open(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in stored.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as out:
                if name in ("key", "shard_bytes"):
                    np.lib.format.write_array(out, array)
                    continue
                header = np.lib.format.header_data_from_array_1_0(array) | {"shape": (count,)}
                np.lib.format.write_array_header_1_0(out, header)
                size = count * array.itemsize
                out._file_size += size  # type: ignore[attr-defined]
                file.seek(size, 1)
        archive.close()
        file.flush()
        npz._mark(file.fileno(), archive.infolist())  # nobody looks at the sums of holes
