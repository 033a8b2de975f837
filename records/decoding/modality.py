"""What differs between pictures, tables, ids and texts: one class for each kind of input.

`modality_of(schema)` picks the class. An input's way through it:

    payload --parse_spec--> feature --rows--> parsed rows --decoder--> inputs [n, ...], as in `spec`

To add a kind of input: name it in `records.sets.schema`, write its `Modality` here and list it in
`_CLASSES`; docs/architecture.md lists what else compares the modality, and what works without. To
decode pictures by other means: `records.decoding.decode`, and `records.decoding.decode_ops` for
exported models. What `records.describe` draws of a kind lies there, in a module of its own, because
it needs a plotting library.
"""

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.decoding import decode
from records.decoding.input_config import InputConfig
from records.decoding.modality_base import Decoder, Finding, FindingKind, Modality
from records.decoding.parsing import PARSE_ERRORS, Payloads
from records.decoding.pixels import is_grey_picture
from records.decoding.row_layout import RowLayout
from records.sets.schema import IMAGE, TABULAR, TEXT, TOKENS, Schema
from records.shards.index import RecordIndex, record_damage

# Ids of a set that stores no vocabulary lie below. Counts are kept of all up to the largest one, at
# 8 bytes each.
MOST_IDS = 2**24


_FEW = 16  # records that a layout is sought in at once
# Rows that are loaded together: 12,288 rows of 40 KB took 1 GB at once, 4,096 to a thread.
_UNIT_BYTES = 4 * 2**20
_EXACT = 2**24  # float32 holds every whole number below it


def not_utf8(texts: Iterable[bytes]) -> Iterator[int]:
    """The numbers of the texts that are not UTF-8."""
    texts = list(texts)
    try:
        b"\n".join(texts).decode()  # a line's end ends every character
        return
    except UnicodeDecodeError:
        pass
    for number, text in enumerate(texts):
        try:
            text.decode()
        except UnicodeDecodeError:
            yield number


class Pictures(Modality):
    """JPEGs or PNGs. Parsed rows: buffers [n]; inputs: uint8 [n, S, S, C]."""

    unit_rows = 32  # enough to hide what a call costs
    has_channels = True
    is_slow = True

    @property
    def feature(self) -> Any:
        """The file's bytes."""
        return tf.io.FixedLenFeature([], tf.string)

    def spec(self, config: InputConfig, channels: int) -> tf.TensorSpec:
        """uint8 [S, S, C]."""
        return tf.TensorSpec([config.image_size, config.image_size, channels], tf.uint8)

    def decoder(self, config: InputConfig, channels: int, ranks: np.ndarray | None) -> Decoder:
        """Decodes and resizes."""
        return functools.partial(
            decode.decode_pictures,
            image_size=config.image_size,
            channels=channels,
            max_pixels=config.max_pixels,
        )

    def rows(self, index: RecordIndex, numbers: np.ndarray, payloads: Payloads) -> Any:
        """Cuts the pictures out where the index says they are.

        `tf.io.parse_example` copies each one four times, most of it under Python's lock, and took a
        tenth of the time of decoding.
        """
        starts = index.input_start[numbers]
        ends = starts + index.input_bytes[numbers]
        spans = zip(payloads, starts.tolist(), ends.tolist(), strict=True)
        return [memoryview(payload)[a:b] for payload, a, b in spans]

    def unpack(self, feature: Any) -> Any:
        """Bytes [n]."""
        return feature.numpy().tolist()

    def hashed_bytes(self, feature: Any) -> Iterable[bytes]:
        """The files."""
        return feature.numpy()

    def check_content(self, row: dict[str, Any], max_pixels: int) -> Iterator[Finding]:
        """Pictures that cannot be decoded whole, or are no grey ones where the set says so."""
        pictures, grey = row[self.schema.input_name].numpy().tolist(), self.schema.grey_name
        flags = row[grey].numpy().tolist() if grey else [0] * len(pictures)
        for number, (picture, is_grey) in enumerate(zip(pictures, flags, strict=True)):
            try:
                found = decode.decode_whole(number, picture, 3 if is_grey else 1, max_pixels)
            except decode.PictureError as error:
                if error.remedy:
                    reason = f"its picture is not supported: {error}. {error.remedy}"
                    yield Finding(number, reason, FindingKind.UNSUPPORTED)
                else:
                    yield Finding(number, f"its picture cannot be decoded ({error})")
                continue
            if is_grey and not is_grey_picture(found):
                reason = f"{grey} is set, and its picture has colours, which training drops"
                yield Finding(number, reason, FindingKind.MISREAD)

    def fill_index(
        self, index: RecordIndex, numbers: np.ndarray, payloads: np.ndarray, row: dict[str, Any]
    ) -> None:
        """Whether it is grey, and where in the payload the file stands."""
        schema = self.schema
        one_channel = schema.input_shape[-1] == 1
        index.is_grey[numbers] = row[schema.grey_name].numpy() if schema.grey_name else one_channel
        pictures = row[schema.input_name].numpy()
        pairs = zip(payloads, pictures, strict=True)
        index.input_start[numbers] = [payload.find(picture) for payload, picture in pairs]
        index.input_bytes[numbers] = list(map(len, pictures))


class Vectors(Modality):
    """Rows of a table. Parsed rows: numbers [n, F]; inputs: float32 or float64 [n, F]."""

    cuts_rows = True

    @functools.cached_property
    def unit_rows(self) -> int:  # type: ignore[override]
        """Many: threads with few wait for Python's lock (a million rows in 0.23 s, not 0.68)."""
        return max(1, min(4096, _UNIT_BYTES // max(1, self._layout.row_bytes)))

    @functools.cached_property
    def _dtype(self) -> np.dtype:
        """Of the parsed rows."""
        declared = np.dtype(tf.as_dtype(self.schema.input_dtype).as_numpy_dtype)
        if self.schema.input_in_bytes:
            return declared
        # tf.train.Example knows float32 and int64 only, and TFDS writes float64 as float32.
        if tf.as_dtype(declared).is_floating:
            return np.dtype(np.float32)
        return np.dtype(np.uint64 if declared == np.uint64 else np.int64)

    @functools.cached_property
    def _layout(self) -> RowLayout:
        row_bytes = int(self.schema.input_shape[0] or 0) * self._dtype.itemsize
        return RowLayout(self.schema.input_name, row_bytes)

    def rows(self, index: RecordIndex, numbers: np.ndarray, payloads: Payloads) -> Any:
        """Cuts the numbers out where the records' layout is known; the same as parsed ones."""
        if self._layout.is_sought:
            self._seek_layout(list(map(bytes, payloads[:_FEW])))
        if (found := self._layout.cut(payloads)) is None:
            found = super().rows(index, numbers, list(map(bytes, payloads)))
        return found.view(self._dtype)

    def _seek_layout(self, records: list[bytes]) -> None:
        """Learns from a few records, parsed in 0.5 ms: to trace what parses many takes 9 ms."""
        # What does not parse is named by who parses all.
        with contextlib.suppress(*PARSE_ERRORS, ValueError):
            parsed = tf.io.parse_example(tf.constant(records, tf.string), self.parse_spec())
            self._layout.learn(records, self.unpack(parsed[self.schema.input_name]))

    @property
    def feature(self) -> Any:
        """F numbers, or their bytes."""
        if self.schema.input_in_bytes:
            return tf.io.FixedLenFeature([], tf.string)
        stored = tf.float32 if self._dtype == np.float32 else tf.int64
        return tf.io.FixedLenFeature(self.schema.input_shape, stored)

    def spec(self, config: InputConfig, channels: int) -> tf.TensorSpec:
        """float32 [F], or float64 where float32 would round what is stored (a time stamp, an id).

        The models shift and scale in this dtype, and go on in float32.
        """
        declared = np.dtype(tf.as_dtype(self.schema.input_dtype).as_numpy_dtype)
        is_exact = self._dtype == np.float32 or np.can_cast(declared, np.float32)
        return tf.TensorSpec(self.schema.input_shape, tf.float32 if is_exact else tf.float64)

    def decoder(self, config: InputConfig, channels: int, ranks: np.ndarray | None) -> Decoder:
        """Casts."""
        dtype = self.spec(config, channels).dtype.as_numpy_dtype
        return lambda rows: rows.astype(dtype, copy=False)

    def check_parsed(self, feature: Any, index: RecordIndex, numbers: np.ndarray) -> None:
        """Bytes of another length than a row's name their record."""
        for row, reason in self._wrong_bytes(feature):
            raise record_damage(index, int(numbers[row]), f"rows of one length ({reason})")

    def unpack(self, feature: Any) -> Any:
        """[n, F]."""
        rows = feature.numpy()
        if self.schema.input_in_bytes:
            rows = np.frombuffer(b"".join(rows), self._dtype).reshape(len(rows), -1)
        return rows.view(self._dtype)

    def hashed_bytes(self, feature: Any) -> Iterable[bytes]:
        """The numbers' bytes."""
        rows = feature.numpy()
        return rows if self.schema.input_in_bytes else (row.tobytes() for row in rows)

    def check_content(self, row: dict[str, Any], max_pixels: int) -> Iterator[Finding]:
        """Rows with NaN or infinity, bytes that are no row, and float64 without its digits."""
        feature = row[self.schema.input_name]
        if wrong := dict(self._wrong_bytes(feature)):
            yield from itertools.starmap(Finding, wrong.items())
            return
        numbers = self.unpack(feature)
        for number in np.flatnonzero(~np.isfinite(numbers).all(1)):
            yield Finding(int(number), "a number is not finite")
        if self.schema.input_dtype == "float64" and self._dtype == np.float32:
            reason = (
                f"a number of {_EXACT:,} or more is stored as float32, which keeps seven of its "
                "digits; Tensor(..., dtype=np.float64, encoding='bytes') keeps all"
            )
            for number in np.flatnonzero((np.abs(numbers) >= _EXACT).any(1)):
                yield Finding(int(number), reason, FindingKind.NOTE)

    def _wrong_bytes(self, feature: Any) -> Iterator[tuple[int, str]]:
        """(row, what is wrong) of rows in bytes that are not F numbers long."""
        if not self.schema.input_in_bytes:
            return
        expected = self._dtype.itemsize * int(self.schema.input_shape[0] or 0)
        for row, stored in enumerate(feature.numpy()):
            if len(stored) != expected:
                yield row, f"{expected} bytes expected, received {len(stored)}"

    def check_decoded(self, inputs: np.ndarray, split: str) -> None:
        """Every number must be finite: one NaN makes all weights NaN."""
        # Looking at all is fast; where the first one stands is asked only if there is one.
        if np.isfinite(inputs).all():
            return
        row, column = np.argwhere(~np.isfinite(inputs))[0]
        of = f" ({names[column]})" if (names := self.schema.feature_names) else ""
        raise ValueError(
            f"input: {self.schema.name}: split {split}, record {row}, feature "
            f"{self.schema.input_name!r}[{column}]{of}: expected a finite number, received "
            f"{inputs[row, column]}"
        )


class Ids(Modality):
    """Stored ids. Parsed rows: (ids int32, row starts int64 [n + 1]); inputs: int32 [n, T]."""

    has_ids = True

    @property
    def feature(self) -> Any:
        """As many ids as there are."""
        return tf.io.RaggedFeature(tf.int64)

    def spec(self, config: InputConfig, channels: int) -> tf.TensorSpec:
        """int32 [T]."""
        return tf.TensorSpec([config.sequence_length], tf.int32)

    def decoder(self, config: InputConfig, channels: int, ranks: np.ndarray | None) -> Decoder:
        """Ranks the ids, and pads or cuts them on the right."""
        assert ranks is not None, "ids are ranked"
        length, size = config.sequence_length, config.vocab_size
        return lambda rows: decode.pad_ids(rows[0], rows[1], length, ranks, size)

    def unpack(self, feature: Any) -> Any:
        """(ids int32 of all rows, row starts int64 [n + 1])."""
        return feature.flat_values.numpy().astype(np.int32), feature.row_splits.numpy()

    def hashed_bytes(self, feature: Any) -> Iterable[bytes]:
        """The ids' bytes."""
        return (ids.numpy().tobytes() for ids in feature)

    @functools.cached_property
    def _num_ids(self) -> int:
        """Ids are below this: the size of the stored vocabulary, else `MOST_IDS`."""
        return len(self.schema.vocabulary() or ()) or MOST_IDS

    def _wrong_ids(self, feature: Any) -> np.ndarray:
        """bool [ids of all rows]."""
        # In int64, as stored: in int32 an id of 2^32 + 5 would pass for 5.
        ids = feature.flat_values.numpy()
        return (ids < 0) | (ids >= self._num_ids)

    def check_content(self, row: dict[str, Any], max_pixels: int) -> Iterator[Finding]:
        """Ids beyond the vocabulary."""
        feature = row[self.schema.input_name]
        of_row = feature.value_rowids().numpy()
        for number in np.unique(of_row[self._wrong_ids(feature)]):
            yield Finding(int(number), f"an id lies outside 0 to {self._num_ids - 1}")

    def check_parsed(self, feature: Any, index: RecordIndex, numbers: np.ndarray) -> None:
        """Ids are subscripts of tables: a negative one would take another id's entry."""
        wrong = np.flatnonzero(self._wrong_ids(feature))
        if len(wrong):
            row = int(feature.value_rowids().numpy()[wrong[0]])
            expected = f"ids of feature {self.schema.input_name!r} in 0 to {self._num_ids - 1}"
            received = str(feature.flat_values.numpy()[wrong[0]])
            raise record_damage(index, int(numbers[row]), expected, received)

    def fill_index(
        self, index: RecordIndex, numbers: np.ndarray, payloads: np.ndarray, row: dict[str, Any]
    ) -> None:
        """How many ids a record has."""
        index.sequence_length[numbers] = row[self.schema.input_name].row_lengths().numpy()


class Texts(Ids):
    """Stored text. Parsed rows: bytes [n]; its words become ids (`records.vocabulary`)."""

    is_text = True

    @property
    def feature(self) -> Any:
        """UTF-8."""
        return tf.io.FixedLenFeature([], tf.string)

    def unpack(self, feature: Any) -> Any:
        """Bytes [n]."""
        return feature.numpy().tolist()

    def hashed_bytes(self, feature: Any) -> Iterable[bytes]:
        """The texts."""
        return feature.numpy()

    def check_parsed(self, feature: Any, index: RecordIndex, numbers: np.ndarray) -> None:
        """Any bytes are split into words."""
        return

    def check_content(self, row: dict[str, Any], max_pixels: int) -> Iterator[Finding]:
        """Texts that are not UTF-8."""
        for number in not_utf8(row[self.schema.input_name].numpy()):
            yield Finding(number, "its text is not UTF-8")

    def fill_index(
        self, index: RecordIndex, numbers: np.ndarray, payloads: np.ndarray, row: dict[str, Any]
    ) -> None:
        """Nothing: how many words there are is known when they are split."""


_CLASSES: dict[str, type[Modality]] = {
    IMAGE: Pictures,
    TABULAR: Vectors,
    TOKENS: Ids,
    TEXT: Texts,
}


def modality_of(schema: Schema) -> Modality:
    """The kind of input that a set has."""
    return _CLASSES[schema.modality](schema)
