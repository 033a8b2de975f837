"""The files that other libraries start from: the split's content, in formats they all read.

Each library writes its own format from these before its clock starts.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.measuring.work import Work
from records.decoding.indexing import read_index
from records.decoding.modality import modality_of
from records.sets.schema import IMAGE, TABULAR, TOKENS
from records.shards.index import RecordIndex, RecordReader

_CHUNK = 256  # records read at once


def write_files(work: Work, folder: Path) -> dict[str, Any]:
    """Writes the inputs and labels of the split, in the order of the records.

    | kind | files |
    |---|---|
    | all | `labels.npy` int64 [N]; `<shard>.idx`, the shards' indexes as DALI reads them |
    | picture | `pictures/<label>/<number>.jpg`, the bytes of the records |
    | vector | `features.npy` float32 [N, F] |
    | text | `ids.npy` int32 [sum of lengths], cut to T, unknown ones 1; `offsets.npy` int64 |
    | | [N + 1]; `texts.txt`, one a line, the words of these ids; `words.txt`, those of id 2 on |

    Returns:
      What a peer is asked for, JSON-ready: `modality`, `directory` of the set, `split`,
      `input_name` and `label_name` of the records' features, `folder`, `shards`, `indexes`,
      `count`, `input_shape`, `input_dtype`, `vocab_size`, `global_batch_size`.
    """
    index = read_index(work.schema, work.split)
    labels = index.label.astype(np.int64)
    np.save(folder / "labels.npy", labels)
    column = read_inputs(work, index)
    if work.schema.modality == IMAGE:
        _write_pictures(folder, column, labels)
    elif work.schema.modality == TABULAR:
        np.save(folder / "features.npy", np.stack(column).astype(np.float32))
    else:
        _write_texts(work, folder, column)
    indexes = _write_shard_indexes(index, folder)
    return {
        "modality": work.schema.modality,
        "directory": work.schema.directory,
        "split": work.split,
        "input_name": work.schema.input_name,
        "label_name": work.schema.label_name,
        "folder": str(folder),
        "shards": list(index.paths),
        "indexes": indexes,
        "count": work.num_examples,
        "input_shape": list(work.input_shape),
        "input_dtype": work.input_dtype,
        "vocab_size": work.vocab_size,
        "global_batch_size": work.global_batch_size,
    }


def read_inputs(work: Work, index: RecordIndex) -> list[Any]:
    """The inputs as the split's records hold them: bytes of pictures, vectors, lists of ids."""
    reader, spec = RecordReader(index), modality_of(work.schema).parse_spec()
    column: list[Any] = []
    for start in range(0, work.num_examples, _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, work.num_examples))
        payloads = tf.constant(reader.read(numbers).tolist(), tf.string)
        values = tf.io.parse_example(payloads, spec)[work.schema.input_name]
        column += values.to_list() if work.schema.modality == TOKENS else list(values.numpy())
    return column


def _write_pictures(folder: Path, column: list[bytes], labels: np.ndarray) -> None:
    for number, (data, label) in enumerate(zip(column, labels.tolist(), strict=True)):
        # The folder is the class, as Keras's reader expects it; numbers of one width keep the
        # order.
        file = folder / "pictures" / str(label) / f"{number:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _write_texts(work: Work, folder: Path, column: list[list[int]]) -> None:
    limit, length = work.vocab_size, work.input_shape[0]
    # 1 is out of vocabulary, as our reader has it.
    texts = [[i if i < limit else 1 for i in ids[:length]] for ids in column]
    np.save(folder / "ids.npy", np.concatenate([np.array(t, np.int32) for t in texts]))
    np.save(folder / "offsets.npy", np.cumsum([0, *map(len, texts)], dtype=np.int64))
    words = list(work.schema.vocabulary() or ())
    lines = (" ".join(words[i] for i in ids) for ids in texts)
    (folder / "texts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "words.txt").write_text("\n".join(words[2:limit]) + "\n", encoding="utf-8")


def _write_shard_indexes(index: RecordIndex, folder: Path) -> list[str]:
    """The files, one per shard: a line of offset and size for each record, framing included."""
    indexes = []
    for shard, path in enumerate(index.paths):
        numbers = np.flatnonzero(index.shard == shard)
        # The frame of a TFRecord has 16 bytes: the length, 8, and two checksums of 4.
        offsets, sizes = index.offset[numbers], index.length[numbers] + 16
        rows = zip(offsets.tolist(), sizes.tolist(), strict=True)
        file = folder / f"{Path(path).name}.idx"
        file.write_text("".join(f"{offset} {size}\n" for offset, size in rows))
        indexes.append(str(file))
    return indexes
