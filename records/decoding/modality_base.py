"""What every kind of input must be able to do; `records.decoding.modality` has the kinds."""

import abc
import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from records.decoding.input_config import InputConfig
from records.decoding.parsing import Parse, Payloads, make_parser, parse_records, target_feature
from records.sets.schema import Schema
from records.shards.index import RecordIndex

# Parsed rows to inputs [n, ...].
Decoder = Callable[..., Any]


class FindingKind(enum.Enum):
    """What follows for a record; the value is said of those that are not damaged."""

    DAMAGE = "damaged"
    UNSUPPORTED = "not damaged, and cannot be trained on"
    MISREAD = "whole, and read as something else than they are"
    NOTE = "sound, and worth a look"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong with an input that parses."""

    row: int  # which one of the batch
    reason: str  # for people
    kind: FindingKind = FindingKind.DAMAGE  # what follows


class Modality(abc.ABC):
    """One kind of input, of one set."""

    # Records that are loaded in one call: enough that the call's own cost (some 50 us) does not
    # count, few enough that all cores are busy to the end.
    unit_rows: ClassVar[int] = 1024
    has_channels: ClassVar[bool] = False  # inputs are pictures, all of one channel or all of three
    cuts_rows: ClassVar[bool] = False  # `rows` takes payloads of one length L as uint8 [n, L], too
    # Inputs are ids, ranked by their frequency, of texts of varying length.
    has_ids: ClassVar[bool] = False
    # The ids are those of words in stored text, known once the whole split is read.
    is_text: ClassVar[bool] = False
    # Decoding takes so long that the first epoch of a training does it on its way.
    is_slow: ClassVar[bool] = False

    def __init__(self, schema: Schema):
        """Of a set's input feature."""
        self.schema = schema

    @property
    @abc.abstractmethod
    def feature(self) -> Any:
        """The input feature as `tf.io.parse_example` is to read it."""

    @abc.abstractmethod
    def spec(self, config: InputConfig, channels: int) -> tf.TensorSpec:
        """One decoded input: shape and dtype."""

    @abc.abstractmethod
    def decoder(self, config: InputConfig, channels: int, ranks: np.ndarray | None) -> Decoder:
        """What maps parsed rows to inputs.

        Args:
          ranks: int32 [ids + 1], each id's rank, see `decode.rank_ids`; None without ids.
        """

    @abc.abstractmethod
    def unpack(self, feature: Any) -> Any:
        """The parsed rows in the parsed input feature."""

    @abc.abstractmethod
    def hashed_bytes(self, feature: Any) -> Iterable[bytes]:
        """Per record, bytes that are equal where the inputs are equal."""

    @abc.abstractmethod
    def check_content(self, row: dict[str, Any], max_pixels: int) -> Iterator[Finding]:
        """What is wrong with the inputs of parsed features.

        Pictures of more than `max_pixels` are told, and not decoded.
        """

    def parse_spec(self, index_features: bool = False) -> dict[str, Any]:
        """The `tf.io.parse_example` spec of the input and the label.

        With `index_features` also of the group and grey features that the index keeps.
        """
        schema = self.schema
        spec = {
            schema.label_name: target_feature(schema),
            schema.input_name: self.feature,
        }
        if index_features:
            if schema.grey_name:
                spec[schema.grey_name] = tf.io.FixedLenFeature([], tf.int64)
            # A set may be grouped by its own label or input.
            if schema.group_name and schema.group_name not in spec:
                stored = tf.string if schema.group_is_text else tf.int64
                spec[schema.group_name] = tf.io.FixedLenFeature([], stored)
        return spec

    @functools.cached_property
    def _parse(self) -> Parse:
        return make_parser(self.parse_spec())

    def rows(self, index: RecordIndex, numbers: np.ndarray, payloads: Payloads) -> Any:
        """Parsed rows of the records `numbers` int [n], from their payloads [n].

        Raises:
          ValueError: the content of a record does not fit the schema; names it.
        """
        feature = parse_records(self._parse, index, numbers, payloads)[self.schema.input_name]
        self.check_parsed(feature, index, numbers)
        return self.unpack(feature)

    def check_parsed(self, feature: Any, index: RecordIndex, numbers: np.ndarray) -> None:
        """Raises ValueError, naming the record, where a parsed feature must not be unpacked."""
        return

    def fill_index(
        self, index: RecordIndex, numbers: np.ndarray, payloads: np.ndarray, row: dict[str, Any]
    ) -> None:
        """Fills in, in place, what the index keeps of this kind of input alone.

        `numbers` are int64 [n], `payloads` as stored, `row` their features, parsed.
        """
        return

    def check_decoded(self, inputs: np.ndarray, split: str) -> None:
        """Raises ValueError where a decoded split [N, ...] cannot be trained on."""
        return
