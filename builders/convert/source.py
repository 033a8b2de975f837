"""What is asked of a conversion, and what it finds before anything is written."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from records.decoding.table_columns import LabelColumns
from records.sets.target import REGRESSION, SINGLE_LABEL
from records.system.table_file import listed

KINDS = ("table", "pictures", "texts")
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags that overrule a guess; `python -m builders.convert --help` says what each means."""

    kind: str | None = None
    label: tuple[str, ...] = ()
    task: str | None = None
    group: str | None = None
    split: str | None = None
    drop: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    text: str | None = None
    path_column: str | None = None
    separator: str | None = None
    missing: tuple[str, ...] = ()
    test_share: float = 0.2
    max_side: int | None = None
    on_corrupt: str = "error"


@dataclasses.dataclass(frozen=True)
class Example:
    """One example, as far as its class and split need it."""

    name: str  # tells it apart: a file's path below the source, or its row
    place: str  # where it stands, for errors
    label: Any  # its class; or a tuple of its classes; or of numbers, one for each column
    split: str  # train, validation or test
    group: str | None = None  # what must stay in one split; None: itself


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A source that was read and understood."""

    kind: str  # one of KINDS
    # input_feature and id_feature: names of features.
    input_feature: str
    id_feature: str
    features: dict[str, Any]  # the set's TFDS features, without label, id and group
    examples: Sequence[Example]  # in the order of the source
    rows: Sequence[Any]  # of each example what its values are made of, beside `examples`
    # Row -> its values of `features`; pickled on Beam, as the row.
    make_row: Callable[[Any], dict[str, Any]]
    dropped: dict[str, int]  # {reason: examples left out}
    metadata: dict[str, Any]  # further metadata of the set
    findings: list[str]  # lines that say what was found, for people
    # What the examples' labels are.
    labels: LabelColumns = dataclasses.field(default_factory=LabelColumns)

    def make(self, number: int) -> dict[str, Any]:
        """The values of `features` of an example."""
        return self.make_row(self.rows[number])

    @property
    def class_names(self) -> list[str]:
        """Numbers in their order, then texts in theirs; of numbers their columns."""
        if self.labels.task == REGRESSION or len(self.labels.columns) > 1:
            return list(self.labels.columns)
        return sorted(self.count_classes(), key=_as_sorted)

    def count_classes(self) -> Counter[str]:
        """Examples of each class; empty of numbers."""
        if self.labels.task == REGRESSION:
            return Counter()
        if self.labels.task == SINGLE_LABEL:
            return Counter(example.label for example in self.examples)
        return Counter(name for example in self.examples for name in example.label)

    def of_split(self, split: str) -> Conversion:
        """The same with the examples of one split alone."""
        own = [example for example in self.examples if example.split == split]
        return dataclasses.replace(self, examples=own)

    def check(self) -> None:
        """Raises ValueError where nothing could be trained: fewer than two classes, no train."""
        names, counts = self.class_names, self.split_counts()
        fewest = 2 if self.labels.task == SINGLE_LABEL else 1
        if len(names) < fewest:
            raise ValueError(
                f"convert: expected examples of two classes or more, received {len(names)}: "
                f"{listed(names) or 'none'}. Name the column of the classes with --label, or put "
                "the files in a folder for each class"
            )
        bad = [name for name in names if "\n" in name or "\r" in name or not name]
        if bad:
            raise ValueError(
                f"convert: class names expected to be not empty and without line breaks, received "
                f"{listed(bad)}"
            )
        if not counts.get("train"):
            raise ValueError(
                f"convert: split train expected examples, received none: {counts}. Give more "
                "data, or a smaller --test_share"
            )

    def split_counts(self) -> dict[str, int]:
        """{split: examples}, train first."""
        counts = Counter(example.split for example in self.examples)
        return {name: counts[name] for name in ("train", "validation", "test") if counts[name]}


def find_copies(examples: Sequence[Example], keys: Iterable[object], what: str) -> list[str]:
    """Warnings of equal examples, by their keys, that stand in two classes, or in two splits."""
    seen: dict[tuple[str, object], Example] = {}
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for example, key in zip(examples, keys, strict=True):
        for kind, value in (("class", example.label), ("split", example.split)):
            other = seen.setdefault((kind, key), example)
            if (other.label if kind == "class" else other.split) != value:
                counts[kind] += 1
                first.setdefault(kind, listed((other.name, example.name)))
    return [
        f"warning: {count:,} {what} also stand in another {kind}, such as {first[kind]}"
        for kind, count in counts.items()
    ]


def choose_split(key: str | bytes, test_share: float) -> str:
    """train or test, by a hash of what must stay together: a new example moves no other."""
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    drawn = int.from_bytes(hashlib.sha256(data).digest()[:8]) / 2**64
    return "test" if drawn < test_share else "train"


def named_split(text: str) -> str | None:
    """The split that a folder or cell names, such as Training or val; None of other texts."""
    return SPLITS.get(text.strip().lower())


def _as_sorted(name: str) -> tuple[int, float, str]:
    try:
        value = float(name)
    except ValueError:
        return 1, 0.0, name
    return (0, value, name) if value == value else (1, 0.0, name)
