"""Reads the metadata of a prepared set, which may be damaged or hostile."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from records.sets.hints import rebuild_hint
from records.stores.mirror import shard_size
from records.system.json_file import read_json

_MOST_MISSING = 2**24  # the most records that are believed of a shard cut short


def open_builder(directory: str) -> Any:
    """TFDS's builder of a prepared set's directory.

    Raises:
      FileNotFoundError: there is no such set.
      ValueError: its `dataset_info.json` or `features.json` cannot be used, or names a class that
        would have to be imported.
    """
    import tensorflow_datasets as tfds

    if not (Path(directory) / "dataset_info.json").exists():
        raise FileNotFoundError(
            f"data set: {directory}: expected a prepared set, received a folder without "
            "dataset_info.json"
        )
    _check_classes(Path(directory) / "features.json")
    _check_metadata(Path(directory) / "metadata.json")
    lengths: list[tuple[list[str], list[int]]] = []
    try:
        builder = tfds.builder_from_directory(directory)
        # TFDS reads these lazily: damage must show here, not in the middle of a run.
        for split in builder.info.splits.values():
            _ = split.num_examples
            lengths.append((list(map(str, split.filepaths)), list(map(int, split.shard_lengths))))
    except Exception as error:  # protobuf, TFDS and NumPy raise some ten kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"data set: {directory}: expected dataset_info.json and features.json as TFDS "
            f"writes them, received something else ({reason[:300]}). {rebuild_hint(directory)}"
        ) from None
    _check_format(builder.info, directory)
    for paths, found in lengths:
        _check_lengths(paths, found)
    return builder


def _check_format(info: Any, directory: str) -> None:
    """Raises ValueError for a set of other files than TFRecords."""
    found = str(getattr(info.file_format, "value", info.file_format))
    if found != "tfrecord":
        raise ValueError(
            f"data set: {directory}: file format expected tfrecord, received {found}, which is not "
            "supported. Nothing is damaged: build the set again with tfds build ... "
            "--file_format tfrecord --overwrite"
        )


def _check_lengths(paths: list[str], lengths: list[int]) -> None:
    """Raises ValueError where a shard cannot hold as many records as the metadata say."""
    for path, length in zip(paths, lengths, strict=True):
        size = shard_size(path)
        # A record takes 16 bytes at least. One that was cut short, or is missing, held more.
        most = max(_MOST_MISSING, size // 16)
        if not 0 <= length <= most:
            raise ValueError(
                f"data set: {path}: shardLengths of dataset_info.json expected 0 to {most:,} "
                f"records, received {length:,}. {rebuild_hint(os.path.dirname(path))}"
            )


def _check_metadata(file: Path) -> None:
    """Raises ValueError where the builder's own metadata are no JSON object."""
    try:
        found = read_json(file)
    except FileNotFoundError:
        return  # a set need not have any
    except (ValueError, OSError) as error:
        received = error.strerror if isinstance(error, OSError) else error
    else:
        if isinstance(found, dict):
            return
        received = repr(found)[:100]
    raise ValueError(
        f"data set: {file}: expected a JSON object, received: {received}. "
        f"{rebuild_hint(file.parent)}"
    )


def _check_classes(file: Path) -> None:
    """Raises ValueError where TFDS would import a module because a file names it.

    Importing runs a module: also one that somebody put into the folder where Python was started.
    """
    try:
        names = list(_class_names(read_json(file)))
    except FileNotFoundError:
        return  # TFDS says what it misses
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"data set: {file}: expected JSON, received: {error}. {rebuild_hint(file.parent)}"
        ) from None
    for name in names:
        module = str(name).rpartition(".")[0]
        if module.partition(".")[0] != "tensorflow_datasets" and module not in sys.modules:
            raise ValueError(
                f"data set: {file}: expected feature classes of tensorflow_datasets or of "
                f"modules that are imported, received {name!r}. Metadata alone never make the "
                "project import a module: import it first, if you trust it"
            )


def _class_names(node: Any) -> Iterator[Any]:
    """What stands anywhere in the tree under one of the names that TFDS takes a class from."""
    if isinstance(node, list):
        for value in node:
            yield from _class_names(value)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        is_type = key == "type" and isinstance(value, str) and "." in value  # of old sets
        if key in ("pythonClassName", "python_class_name") or is_type:
            yield value
        elif key == "json" and isinstance(value, str):  # a tree in a text
            yield from _class_names(json.loads(value))
        else:
            yield from _class_names(value)
