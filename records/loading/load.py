"""From record numbers to decoded inputs: read, parse, decode. Each stage is timed.

One definition for filling a cache and for reading without one, so that both give the same bytes.
Whole units (thousands of rows, or 32 pictures) go through the stages on a pool of
threads, one per core: reading, parsing and decoding leave Python's lock.
"""

import contextlib
import dataclasses
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from records.decoding.decode import PictureError
from records.decoding.modality import modality_of
from records.decoding.modality_base import Decoder
from records.decoding.parsing import read_text
from records.ordering.splits import Numbers
from records.sets.schema import Schema
from records.shards.index import RecordIndex, RecordReader, record_damage, record_place
from records.stores.mirror import place_of
from records.system.quiet import native_lines, written_bytes

_MOST_TOLD = 8  # pictures of which the decoder's words are told
STAGES = ("read", "parse", "decode", "order", "gather")


@dataclasses.dataclass
class StageTime:
    """What a stage did so far: seconds summed over threads, examples, bytes that came out."""

    seconds: float = 0.0
    examples: int = 0
    bytes: int = 0


class Loader:
    """Loads records of one split: numbers -> payloads -> parsed rows -> inputs."""

    def __init__(self, schema: Schema, index: RecordIndex, decode: Decoder):
        """Opens nothing yet; `decode` maps parsed rows to inputs [n, ...]."""
        self.schema, self.index, self.modality = schema, index, modality_of(schema)
        self.reader = RecordReader(index)
        self.times = {stage: StageTime() for stage in STAGES}
        self.decode_rows = decode
        # Of `times`, sums over all threads: += on a float is not atomic between them.
        self._lock = threading.Lock()
        self._told: set[int] = set()
        self._telling = threading.Lock()

    def load(self, numbers: np.ndarray) -> np.ndarray:
        """The inputs [n, ...] of the records `numbers` int [n]; any thread may call it.

        Raises:
          ValueError: a record is damaged; names shard, record and byte offset.
        """
        return self.finish(numbers, self.read(numbers, self.modality.cuts_rows))

    def finish(self, numbers: np.ndarray, payloads: np.ndarray, **options: Any) -> Any:
        """As `load`, of payloads that are read already; `options` go to `decode`."""
        rows = self.parse(numbers, payloads)
        is_heard = self.modality.is_slow
        before = written_bytes() if is_heard else 0
        with self.timed("decode", len(numbers)) as done:
            try:
                inputs = self.decode_rows(rows, **options)
            except PictureError as error:
                number = int(numbers[error.row])
                name = self._name(payloads[error.row])
                if error.remedy:
                    place = record_place(self.index, number)
                    raise ValueError(
                        f"shards: {place}: the picture of feature {name} is not supported: "
                        f"{error}. {error.remedy}"
                    ) from None
                expected = f"feature {name} to be a whole picture ({error})"
                raise record_damage(self.index, number, expected) from None
            is_array = isinstance(inputs, np.ndarray)
            done.bytes = inputs.nbytes if is_array else sum(x.nbytes for x in inputs)
        if is_heard and written_bytes() != before:
            with self._telling:
                self._tell_warnings(numbers, payloads, rows)
        return inputs

    def _name(self, payload: bytes) -> str:
        """The input feature of a record, and the record's id where it has one, for people."""
        found = read_text(payload, self.schema.id_name)
        return repr(self.schema.input_name) + (f" of {found!r}" if found else "")

    def _tell_warnings(self, numbers: np.ndarray, payloads: np.ndarray, rows: Any) -> None:
        """Says which pictures libjpeg or libpng has warned of: their own lines name no file.

        Each is decoded again, alone, and told once.
        """
        for number, payload, row in zip(numbers.tolist(), payloads, rows, strict=True):
            if number in self._told or len(self._told) >= _MOST_TOLD:
                continue
            with native_lines() as lines:
                before = written_bytes()
                self.decode_rows([row])
                written = written_bytes() - before
            # Another thread may have written meanwhile: then its words are not quoted as these.
            if not written:
                print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
                continue
            self._told.add(number)
            said = "; ".join(lines) if sum(len(x) + 1 for x in lines) == written else "a warning"
            place = record_place(self.index, number)
            verify = f"python -m records.verify {shlex.quote(place_of(self.schema.directory))}"
            more = f". {verify} names all of them" * (len(self._told) == _MOST_TOLD)
            print(
                f"note: {place}: the picture of feature {self._name(payload)} is read, and its "
                f"decoder says: {said}{more}",
                file=sys.stderr,
                flush=True,
            )

    def read(self, numbers: Numbers, as_rows: bool = False) -> np.ndarray:
        """The payloads of records, as bytes objects [n] or rows of bytes: `RecordReader.read`."""
        numbers = np.asarray(numbers)
        with self.timed("read", len(numbers)) as done:
            payloads = self.reader.read(numbers, as_rows)
            done.bytes = int(self.index.length[numbers].sum())
        return payloads

    def parse(self, numbers: np.ndarray, payloads: np.ndarray) -> Any:
        """The parsed rows of records: as `rows`, timed."""
        with self.timed("parse", len(payloads)) as done:
            rows = self.rows(numbers, payloads)
            # Ids come as (ids, row starts), of which the starts do not count; files and texts as a
            # list.
            array = rows[0] if isinstance(rows, tuple) else rows
            done.bytes = sum(map(len, array)) if isinstance(rows, list) else array.nbytes
        return rows

    def rows(self, numbers: np.ndarray, payloads: np.ndarray) -> Any:
        """The parsed rows of records, see `records.decoding.modality`."""
        return self.modality.rows(self.index, numbers, payloads)

    @property
    def unit(self) -> int:
        """Records of one unit of work."""
        return self.modality.unit_rows

    def units(self) -> Iterator[np.ndarray]:
        """The numbers of the whole split in units of work, in record order."""
        size = self.unit
        for start in range(0, self.index.num_records, size):
            yield np.arange(start, min(start + size, self.index.num_records))

    @contextlib.contextmanager
    def timed(self, stage: str, examples: int) -> Iterator[StageTime]:
        """Adds the time of the block, and the bytes it sets, to a stage."""
        done = StageTime(examples=examples)
        start = time.perf_counter()
        yield done
        seconds = time.perf_counter() - start
        with self._lock:
            total = self.times[stage]
            total.seconds += seconds
            total.examples += done.examples
            total.bytes += done.bytes
