"""A set whose records are those of another one, many times over: sizes that real sets lack."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from records.fingerprint import write_fingerprint
from records.index import RecordReader, read_index, write_indexes
from records.schema import Schema

_SHARDS = 8


def repeat_set(schema: Schema, split: str, repeats: int, folder: str) -> str:
    """Writes the records of a split `repeats` times, as the only split of a set.

    Args:
      schema, split: what is repeated.
      repeats: how often.
      folder: where the set goes, into a folder of the same name.

    Returns:
      The directory of the new set, which TFDS opens, too.
    """
    source, target = Path(schema.directory), Path(folder, *schema.name.split("/"))
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file() and not re.search(r"tfrecord|index\.npz|fingerprint", file.name):
            shutil.copy(file, target)
    index = read_index(schema, split)
    records = RecordReader(index).read(np.arange(index.num_records)).tolist()
    total = repeats * len(records)
    bounds = [total * i // _SHARDS for i in range(_SHARDS + 1)]
    stream = itertools.chain.from_iterable(itertools.repeat(records, repeats))
    name = Path(index.paths[0]).name.partition("-")[0]
    for i, (first, last) in enumerate(itertools.pairwise(bounds)):
        path = target / f"{name}-{split}.tfrecord-{i:05d}-of-{_SHARDS:05d}"
        with tf.io.TFRecordWriter(os.fspath(path)) as writer:
            for record in itertools.islice(stream, last - first):
                writer.write(record)
    info = json.loads((target / "dataset_info.json").read_text(encoding="utf-8"))
    kept = next(s for s in info["splits"] if s["name"] == split)
    kept["shardLengths"] = [str(b - a) for a, b in itertools.pairwise(bounds)]
    kept["numBytes"] = str(repeats * sum(map(len, records)))
    info["splits"] = [kept]
    (target / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    write_indexes(str(target))
    write_fingerprint(target)
    return str(target)
