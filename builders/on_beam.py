"""Builds on Apache Beam: a pipeline's workers decode, hash, clean, encode and write.

What a local build does to rows by threads or processes, `BeamRun` does by pipelines, with the same
functions; the builder still decides on splits, classes and ids, from what comes back. The records,
their order and the shards are those of a local build, byte for byte.

Rows go to workers and results come back as files of pickled chunks, in the folder of the set that
is being written, which every worker must reach by the same path. So a pipeline's own description
stays small, whatever the set.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import pickle
import shutil
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions

from builders.encoding import Encoder
from builders.tfds_private import (
    Hasher,
    ShardedFileTemplate,
    get_shard_boundaries,
    open_beam_shards,
)
from builders.writing import NumberedExamples, doubled_key, finalize, serialise

_CHUNK = 512  # rows of a file: a task of some 50 ms or more
# A bucket of hashes holds some 15,000 of 10^9 keys; hashes have 128 bits.
_BUCKET_SHIFT = 128 - 16

# (hash, key, where its example stands in the source)
_Key = tuple[int, str, str]


class BeamRun:
    """Work on many rows by pipelines, with the interface of `writing.Here`.

    Use it as a context: its files are gone when it ends.
    """

    def __init__(self, request: tfds.download.DownloadConfig, folder: Path):
        """Pipelines by the runner and options of `request`, with their files in a new `folder`."""
        self._options, self._runner = request.beam_options, request.beam_runner
        self._folder = folder.absolute()  # workers may have another working directory
        self._folder.mkdir(parents=True)
        self._counter = itertools.count()

    def __enter__(self) -> BeamRun:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yields `function(item)` in order, once all are made.

        Raises:
          ValueError, OSError: what the function raised for the first item that it raised for.
          RuntimeError: the pipeline failed.
        """
        chunks = self._store(items)
        with self._pipeline() as pipeline:
            _ = _distribute(pipeline, chunks) | beam.Map(_run_chunk, function)
        for chunk in chunks:
            for result in _load(_results(chunk)):
                if isinstance(result, _Raised):
                    raise result.error
                yield result

    def first_equal(self, keys: Iterable[Hashable]) -> np.ndarray:
        """The number of the first equal key, int64 [N], found by a shuffle: see `Here`.

        Args:
          keys: texts or bytes.
        """
        chunks = self._store(enumerate(keys))
        found = self._new_folder()
        with self._pipeline() as pipeline:
            _ = (
                _distribute(pipeline, chunks)
                | beam.FlatMap(_load)
                | beam.KvSwap()
                | beam.GroupByKey()
                | beam.FlatMap(_copies)
                | beam.BatchElements(min_batch_size=1000)
                | beam.Map(_save_in, found)
            )
        first = np.arange(sum(len(_load(chunk)) for chunk in chunks))
        for path in found.iterdir():
            for number, its_first in _load(path):
                first[number] = its_first
        return first

    def write_splits(
        self,
        splits: Iterable[tuple[str, Any]],
        features: tfds.features.FeaturesDict,
        templates: dict[str, ShardedFileTemplate],
        request: tfds.download.DownloadConfig,
    ) -> list[tfds.core.SplitInfo]:
        """Writes all splits by one pipeline; arguments and errors as `writing.write_split`."""
        writers = {}
        with self._pipeline() as pipeline:
            for name, examples in splits:
                info, place = features.get_serialized_info(), templates[name]
                place = place.replace(data_dir=Path(place.data_dir).absolute())
                writers[name] = open_beam_shards(name, place, info, request)
                make = examples.make if isinstance(examples, NumberedExamples) else _as_it_is
                rows = examples.rows if isinstance(examples, NumberedExamples) else examples
                chunks = self._store(itertools.islice(rows, request.max_examples_per_split))
                encode = functools.partial(_encode_chunk, make=make, features=features, split=name)
                _ = (
                    pipeline
                    | f"{name} rows" >> beam.Create(list(map(str, chunks)))
                    | f"{name} spread" >> beam.Reshuffle()
                    | f"{name} encode" >> beam.FlatMap(encode)
                    | f"{name} cut" >> _Cut(name, request.get_shard_config())
                    | f"{name} write" >> _Write(writers[name])
                )
        return [finalize(writer, name, templates[name]) for name, writer in writers.items()]

    def _pipeline(self) -> beam.Pipeline:
        options = self._options or PipelineOptions()
        # As TFDS does: Beam cannot tell the types of rows.
        options.view_as(TypeOptions).pipeline_type_check = False
        return beam.Pipeline(runner=self._runner, options=options)

    def _new_folder(self) -> Path:
        # Not a temporary folder of Python's: no other user, such as a worker's, could read it.
        folder = self._folder / str(next(self._counter))
        folder.mkdir()
        return folder

    def _store(self, rows: Iterable[Any]) -> list[Path]:
        """Writes the rows as files of chunks."""
        folder, rows = self._new_folder(), iter(rows)
        paths: list[Path] = []
        while chunk := list(itertools.islice(rows, _CHUNK)):
            paths.append(folder / f"{len(paths):06d}")
            _save(chunk, paths[-1])
        return paths


class _Cut(beam.PTransform):
    """((hash, key, source), bytes) to ((shard, hash), bytes), shards as TFDS's local writer cuts.

    The keys alone are shuffled, by the first bits of their hashes: each bucket is sorted by one
    worker, which finds doubled keys and the first key of each shard that begins in it.
    """

    def __init__(self, split: str, shard_config: Any):
        super().__init__()
        self._split, self._config = split, shard_config

    def expand(self, examples: Any) -> Any:
        buckets = (
            examples
            | beam.Keys()
            | "bucket" >> beam.Map(lambda key: (key[0] >> _BUCKET_SHIFT, key))
            | beam.GroupByKey()
            | "sort" >> beam.Map(_sort_bucket, self._split)
        )
        begins = (
            buckets
            | "count" >> beam.Map(lambda bucket: (bucket[0], len(bucket[1])))
            | "counts" >> beam.combiners.ToList()
            | "begin" >> beam.Map(_shard_begins, self._config)
        )
        cuts = (
            buckets
            | "first keys" >> beam.FlatMap(_first_keys, beam.pvalue.AsSingleton(begins))
            | "all first keys" >> beam.combiners.ToList()
            | "in order" >> beam.Map(sorted)
        )
        return examples | "shard" >> beam.Map(_with_shard, beam.pvalue.AsSingleton(cuts))


class _Write(beam.PTransform):
    """TFDS's Beam writer, within a label of its own."""

    def __init__(self, writer: Any):
        super().__init__()
        self._writer = writer

    def expand(self, examples: Any) -> Any:
        return self._writer.write_from_pcollection(examples)


class _Raised:
    """What a function raised for a row: it crosses to the builder, and no worker tries again."""

    def __init__(self, error: Exception):
        self.error = error


def _distribute(pipeline: beam.Pipeline, chunks: list[Path]) -> Any:
    return pipeline | beam.Create(list(map(str, chunks))) | beam.Reshuffle()


def _run_chunk(path: str, function: Callable[[Any], Any]) -> None:
    results: list[Any] = []
    for row in _load(path):
        try:
            results.append(function(row))
        except (ValueError, OSError) as error:
            results.append(_Raised(error))
            break
    _save(results, _results(path))


def _results(path: Path | str) -> Path:
    return Path(f"{path}.results")


def _copies(group: tuple[Hashable, Iterable[int]]) -> list[tuple[int, int]]:
    """(number, number of the first) of all but the first."""
    first, *others = sorted(group[1])
    return [(number, first) for number in others]


def _encode_chunk(
    path: str, make: Callable[[Any], Any], features: tfds.features.FeaturesDict, split: str
) -> Iterator[tuple[_Key, bytes]]:
    encoder, hasher = Encoder(features), Hasher(split)
    for row in _load(path):
        key, data = serialise(make(row), encoder)
        yield (hasher.hash_key(key), str(key), getattr(key, "source", "")), data


def _as_it_is(pair: Any) -> Any:
    return pair


def _sort_bucket(bucket: tuple[int, Iterable[_Key]], split: str) -> tuple[int, list[int]]:
    keys = sorted(bucket[1])
    for before, here in itertools.pairwise(keys):
        if before[0] == here[0]:
            raise doubled_key(split, here[1], [before[2] or "one", here[2] or "another example"])
    return bucket[0], [key[0] for key in keys]


def _shard_begins(counts: list[tuple[int, int]], shard_config: Any) -> dict[int, list[int]]:
    """{bucket: places in it, in the order of hashes, at which a shard but the first begins}."""
    total = sum(count for _, count in counts)
    ends = get_shard_boundaries(total, shard_config.get_number_shards(0, total))
    begins, at = {}, 0
    for bucket, count in sorted(counts):
        low, high = (bisect.bisect_left(ends, n, hi=len(ends) - 1) for n in (at, at + count))
        begins[bucket] = [end - at for end in ends[low:high]]
        at += count
    return begins


def _first_keys(bucket: tuple[int, list[int]], begins: dict[int, list[int]]) -> list[int]:
    return [bucket[1][place] for place in begins[bucket[0]]]


def _with_shard(example: tuple[_Key, bytes], cuts: list[int]) -> tuple[tuple[int, int], bytes]:
    key = example[0][0]
    return (bisect.bisect_right(cuts, key), key), example[1]


def _save_in(rows: list[Any], folder: Path) -> None:
    _save(rows, folder / uuid.uuid4().hex)


def _save(rows: list[Any], path: Path) -> None:
    """Whole or not at all: a runner may do a piece of work twice, also at the same time."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(part, "wb") as file:
        pickle.dump(rows, file, pickle.HIGHEST_PROTOCOL)
    os.replace(part, path)


def _load(path: Path | str) -> list[Any]:
    with open(path, "rb") as file:
        return pickle.load(file)  # type: ignore[no-any-return]
