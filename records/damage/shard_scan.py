"""What a scan finds out about a shard: where its records lie, and which are damaged, and how."""

import dataclasses
import enum
from collections.abc import Callable, Sequence

import numpy as np

# (numbers int64 [n] in the shard, payloads [n]) -> {row: what is wrong with its content}.
ContentCheck = Callable[[np.ndarray, Sequence[bytes]], dict[int, str]]


class DamageKind(enum.Enum):
    """What is wrong with a record; the value is the sentence for people."""

    SHARD_MISSING = "the shard is missing"
    CUT_OFF = "the shard ends at byte {}"
    HEADER = "its length or the length's CRC is broken"
    PAYLOAD = "its payload does not match its CRC"
    HEADER_AND_PAYLOAD = "its header and its payload are broken"
    # Without an index: where the record ends is unknown, too.
    LENGTH = "its length is broken"
    NOT_FOUND = "not found behind a broken length"
    CUT_OUT = "not found: bytes of the shard were cut out, put in or changed here"
    UNREADABLE = "the shard cannot be read: {}"
    CONTENT = "{}"  # both CRCs match
    NO_CLASS = "it has no class, others of its split do"


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is wrong with a record."""

    kind: DamageKind  # decides what is done about it
    detail: str = ""  # for people: the byte of CUT_OFF, the sentence of CONTENT and UNREADABLE

    def __str__(self) -> str:
        return self.kind.value.format(self.detail)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the records of a shard lie."""

    offset: np.ndarray  # int64 [n], byte at which each header starts
    length: np.ndarray  # int64 [n], bytes of each payload


@dataclasses.dataclass(frozen=True)
class ShardScan:
    """What a scan found in a shard."""

    path: str  # the file
    # Of all records that it should hold; of a damaged one without an index the length is what is
    # known of it, 0 at least.
    layout: Layout
    damaged: dict[int, Damage]  # what is wrong, by the number of the record in the shard
    is_relaid: bool = False  # the file holds other records than those that were indexed
    # The bytes at which whole records begin that are none of those that were indexed, among others
    # that are.
    strange: tuple[int, ...] = ()

    @property
    def usable(self) -> np.ndarray:
        """bool [n], the record is not damaged."""
        found = np.ones(len(self.layout.offset), bool)
        found[list(self.damaged)] = False
        return found

    def describe(self, number: int) -> str:
        """Shard, record, byte offset and damage in one line."""
        place = f"record {number} at byte {self.layout.offset[number]}"
        return f"{self.path}, {place}: {self.damaged[number]}"
