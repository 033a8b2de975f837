"""How a build's shards are written: how many, by all cores, and with the same bytes every time.

TFDS makes, encodes and serialises one example after the other in one process. Where a builder can
make any example by its number, chunks of numbers go to a pool of processes instead; what is
written, and its order, are the same.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from builders.encoding import Encoder
from builders.tfds_private import ShardedFileTemplate, open_shards
from records.system.processes import map_in_order

_KeyExample = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class NumberedExamples:
    """Examples that can be made in any order, by number."""

    numbers: Sequence[int]  # of the examples, in their order
    # Row -> (key, example); depends on nothing that it changes. On Beam, row and function are
    # pickled: the function is one of a module `builders...`, with `functools.partial` at most.
    make: Callable[[Any], _KeyExample]
    # Number -> what the example is made of, all that `make` needs of it; default the number.
    row: Callable[[int], Any] = int
    in_pool: bool = True  # whether a local build may fork processes that make them

    @property
    def rows(self) -> Iterator[Any]:
        """What the examples are made of, in their order."""
        return map(self.row, self.numbers)

    def __iter__(self) -> Iterator[_KeyExample]:
        return map(self.make, self.rows)


@dataclasses.dataclass(frozen=True)
class Here:
    """How this machine works on many rows; `on_beam.BeamRun` does so in a pipeline's workers."""

    # (function, items) -> the results, in order.
    map: Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

    def first_equal(self, keys: Iterable[Hashable]) -> Sequence[int]:
        """The number of the first equal key, of each key: its own where there is none before."""
        seen: dict[Hashable, int] = {}
        return [seen.setdefault(key, number) for number, key in enumerate(keys)]


class SourcedKey(str):
    """A key that knows where its example stands in the source files."""

    source: str  # such as `FILE, line 7`

    def __new__(cls, key: str, source: str) -> SourcedKey:
        """The key `key` of what stands at `source`."""
        made = super().__new__(cls, key)
        made.source = source
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        # Pickled on its way from a worker process: without this the copy would lose its source.
        return str(self), self.source


def _check_keys(split: str, pairs: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Passes pairs on; raises ValueError at a key that has come before.

    TFDS names such keys by a hash, once all is written.
    """
    seen: dict[str, tuple[int, str]] = {}
    for key, data in pairs:
        here = len(seen) + 1, getattr(key, "source", "")
        before = seen.setdefault(str(key), here)
        if before is not here:
            places = (source or f"example {number}" for number, source in (before, here))
            raise doubled_key(split, key, places)
        yield key, data


def doubled_key(split: str, key: str, places: Iterable[str]) -> ValueError:
    """The error of a key that stands at several places."""
    return ValueError(
        f"build: split {split!r}: keys of examples expected to be unique, "
        f"received {str(key)!r} for {' and for '.join(places)}. Remove one of them, or "
        "give each a key of its own in the builder"
    )


def serialise(pair: _KeyExample, encoder: Encoder) -> tuple[str, bytes]:
    """(key, the bytes of its record); an example that does not fit the features is shown."""
    key, example = pair
    try:
        return key, encoder.encode(example)
    except Exception as error:
        tfds.core.utils.reraise(error, prefix=f"Failed to encode example:\n{example}\n")
        raise  # not reached: `reraise` raises


def finalize(shards: Any, name: str, filename_template: ShardedFileTemplate) -> tfds.core.SplitInfo:
    """Writes what the writer of a split still holds."""
    try:
        lengths, size = shards.finalize()
    except Exception as error:
        tfds.core.utils.reraise(error, prefix=f"Failed to finalize writing of split {name!r}: ")
    return tfds.core.SplitInfo(
        name=name, shard_lengths=lengths, num_bytes=size, filename_template=filename_template
    )


def write_split(
    name: str,
    examples: Iterable[_KeyExample],
    features: tfds.features.FeaturesDict,
    filename_template: ShardedFileTemplate,
    request: tfds.download.DownloadConfig,
) -> tfds.core.SplitInfo:
    """Writes the shards of one split, shuffled by the hash of their keys, as TFDS does.

    Args:
      examples: (key, example), keys unique; `NumberedExamples` are encoded on one process per
        core that this one may use.
      request: number of shards, and the most examples.

    Raises:
      ValueError, TypeError: an example does not fit the features; the message shows it. Or two
        have one key; names both, by `SourcedKey.source` where they have it.
      RuntimeError: a worker process was killed.
    """
    to_bytes = functools.partial(serialise, encoder=Encoder(features))
    pairs: Iterable[tuple[str, bytes]]
    most, total = request.max_examples_per_split, None
    if isinstance(examples, NumberedExamples) and examples.in_pool:
        numbers, make, row = examples.numbers[:most], examples.make, examples.row
        total = len(numbers)
        # Workers get numbers and send bytes: examples themselves never cross between processes.
        pairs = map_in_order(lambda number: to_bytes(make(row(number))), numbers)
    else:
        pairs = map(to_bytes, itertools.islice(examples, most))
    shards = open_shards(name, filename_template, features.get_serialized_info(), request)
    shown = {"desc": f"Generating {name} examples...", "unit": " examples", "total": total}
    pairs = pairs if request.ignore_duplicates else _check_keys(name, pairs)
    for key, data in tfds.core.utils.tqdm(pairs, leave=False, mininterval=1.0, **shown):
        shards.write(key, data)
    return finalize(shards, name, filename_template)
