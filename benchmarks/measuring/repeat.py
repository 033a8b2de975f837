"""Sets of any size, made by repeating the records of a real one."""

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from records.decoding.indexing import read_index, write_indexes
from records.sets.fingerprint import write_fingerprint
from records.sets.schema import Schema
from records.shards.index import RecordReader

SHARDS = 8


def repeat_set(
    schema: Schema,
    split: str,
    count: int,
    folder: str,
    change: Callable[[bytes], bytes] = lambda record: record,
) -> str:
    """Writes `count` records, those of a split one after the other, as the only split of a set.

    `change` is called once for each record of the split.

    Returns:
      The directory of the new set, in `folder`, which TFDS opens, too.
    """
    source, target = Path(schema.directory), Path(folder, *schema.name.split("/"))
    target.mkdir(parents=True)
    for file in source.iterdir():
        # What depends on the records is written anew below; the rest describes the set.
        if file.is_file() and not re.search(r"tfrecord|index\.npz|fingerprint", file.name):
            shutil.copy(file, target)
    index = read_index(schema, split)
    used = np.arange(min(count, index.num_records))
    records = list(map(change, RecordReader(index).read(used)))
    bounds = [count * i // SHARDS for i in range(SHARDS + 1)]
    # One stream over all shards: each goes on where the one before has ended.
    stream = itertools.cycle(records)
    name = Path(index.paths[0]).name.partition("-")[0]
    for i, (first, last) in enumerate(itertools.pairwise(bounds)):
        path = target / f"{name}-{split}.tfrecord-{i:05d}-of-{SHARDS:05d}"
        with tf.io.TFRecordWriter(os.fspath(path)) as writer:
            for record in itertools.islice(stream, last - first):
                writer.write(record)
    info = json.loads((target / "dataset_info.json").read_text(encoding="utf-8"))
    kept = next(s for s in info["splits"] if s["name"] == split)
    kept["shardLengths"] = [str(b - a) for a, b in itertools.pairwise(bounds)]
    whole, rest = divmod(count, len(records))
    sizes = list(map(len, records))
    kept["numBytes"] = str(whole * sum(sizes) + sum(sizes[:rest]))
    # The shards of the other splits were not copied.
    info["splits"] = [kept]
    (target / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    metadata = {k: v for k, v in schema.metadata.items() if k != "part_of"}  # of the other splits
    (target / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    write_indexes(str(target))
    write_fingerprint(target)
    return str(target)
