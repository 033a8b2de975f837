"""Labelled examples from elsewhere for a run's model: files with their classes, other sets."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from records.decoding import json_lines
from records.decoding.table_columns import CellError, LabelColumns
from records.loading.load import Loader
from records.opened import OpenedSet, open_set
from records.sets.origin import hash_source
from records.sets.schema import IMAGE, TABULAR, TEXT, TOKENS, Schema
from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from records.shards.index import RecordIndex
from records.system.table_file import listed
from train.folders.finished_run import FinishedRun
from train.folders.model_input import ModelInput
from train.serving.read_inputs import (
    Items,
    as_stored,
    read_file,
    read_raw,
    read_records,
    shown_path,
)

_TABLES = (".csv", ".tsv", *json_lines.SUFFIXES)
# What an example is to predict: the name of a class, names of several, numbers; None: not said.
Target = str | tuple[str, ...] | tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Examples with what they are to predict."""

    about: dict[str, Any]  # what they are, JSON-ready
    items: Items  # as `train.serving.read_inputs.read_raw` gives them; read once
    # By the name of the item; of a folder the names of its folders, which are classes.
    targets: Mapping[str, Target]
    # What is drawn together, by the name of the item; None: each alone.
    groups: Mapping[str, int] | None = None
    group_name: str | None = None  # what the groups are
    no_target: str = "no class"  # why one has none
    is_folder: bool = False  # whether they lie in class folders

    def target_of(self, name: str) -> Target:
        """The target of an item."""
        if self.is_folder:
            folder, slash, _ = name.partition("/")
            return folder if slash and not folder.startswith(".") else None
        return self.targets[name]


def read_labelled(
    path: Path, wanted: ModelInput, column: str | None, label: Sequence[str] | None
) -> Labelled:
    """Files: a folder for each class, or a table with a column of classes, or of each number.

    Args:
      path: as for `read_raw`; of pictures a table, too, with a column of files beside it.
      column: that of texts, or of the pictures' files; None: as the run's own set has it.
      label: the columns of the target; None: as the run's own set has them.

    Raises:
      ValueError: neither, or a table without such columns.
      OSError: there is no such input.
    """
    about = {"source": str(path.absolute())}
    if path.is_dir() and wanted.task == REGRESSION:
        raise ValueError(f"evaluate: {path} expected a table with numbers, received a folder")
    if path.is_dir():
        items = read_raw(path, wanted, column)
        entries = [entry.name for entry in path.iterdir() if entry.is_dir()]
        folders = {shown_path(name) for name in entries if not name.startswith(".")}
        if not folders:
            raise ValueError(
                f"evaluate: {path} expected a folder for each class, received none in it"
            )
        about |= {"sha256_of_names_sizes_and_times": hash_source(path)}
        names = {name: name for name in folders}
        return Labelled(about, items, names, no_target="in no class folder", is_folder=True)
    if path.exists() and not (path.is_file() and path.suffix.lower() in _TABLES):
        raise ValueError(
            f"evaluate: {path} expected a folder with a folder for each class, or a table "
            f"({', '.join(f'*{suffix}' for suffix in _TABLES)}) with a column of classes"
        )
    conversion = wanted.conversion or {}
    if wanted.modality == IMAGE and (column := column or conversion.get("column")) is None:
        raise ValueError(
            f"evaluate: {path} expected to know which column names the pictures' files, received "
            "no --column"
        )
    items = read_raw(path, wanted, column) if wanted.modality != IMAGE else iter(())
    columns = _label_columns(path, wanted, label)
    said = ", ".join(columns.columns)
    what = "numbers" if wanted.task == REGRESSION else "classes"
    expected = f"the column {said!r} of the {what} (--label names another)"
    rows = list(read_records(path, (*columns.columns, *([column] if column else [])), expected))
    if wanted.modality == IMAGE:
        files = [path.parent / row[str(column)].strip() for _, _, row in rows]
        items = ((str(n), as_stored(read_file(file), wanted)) for n, file in enumerate(files, 1))
    targets = {}
    for number, line, row in rows:
        try:
            targets[str(number)] = columns.read(row)
        except CellError as error:
            raise ValueError(f"evaluate: {path}, line {line}, {error}") from None
    about |= {"label": said, "sha256": hash_source(path)}
    return Labelled(about, items, targets, no_target=f"no {said}")


def _label_columns(path: Path, wanted: ModelInput, label: Sequence[str] | None) -> LabelColumns:
    """Where a table says what is predicted: as the run's own did, unless `label` names columns."""
    own = wanted.label_columns
    if own is not None and label in (None, [*own.columns]):
        return own
    usual = wanted.class_names if wanted.task == REGRESSION else ("label",)
    columns = tuple(label or usual)
    separator = (own.separator if own else None) or ";"
    most = {SINGLE_LABEL: 1, REGRESSION: wanted.num_classes}.get(wanted.task, len(columns))
    if len(columns) != most:
        raise ValueError(
            f"evaluate: {path}: --label expected {most} columns, for "
            f"{', '.join(wanted.class_names)}, received {listed([*columns])}"
        )
    is_list = wanted.task == MULTI_LABEL and len(columns) == 1
    missing = own.missing if own else ()
    return LabelColumns(wanted.task, columns, separator if is_list else None, missing)


def open_other(
    run: FinishedRun, name: str, split: str | None, data_dir: str | None, skip_damaged: bool
) -> Labelled:
    """Another prepared set: a split, or all of them.

    Raises:
      ValueError: it is the run's own, or as `read_set`.
      FileNotFoundError: it is not there.
    """
    opened = open_set(
        name,
        data_dir,
        feature=run.settings.feature,
        task=run.input.task,
        skip_damaged=skip_damaged,
    )
    if opened.fingerprint == run.fingerprint:
        raise ValueError(
            f"evaluate: --on expected another set than the run was trained on, received {name}, "
            "which is that set. Leave --on out, and name a split with --split"
        )
    schema = opened.schema
    if split:
        schema.check_split(split)
    # A part repeats examples of another split.
    every = [one for one in schema.split_counts if one not in schema.parts]
    return read_set(opened, [split] if split else every, run.input)


def read_set(opened: OpenedSet, splits: Iterable[str], wanted: ModelInput) -> Labelled:
    """Another prepared set: its records of these splits, as files of theirs would be read.

    Raises:
      ValueError: it holds another kind of input, or columns that are not the run's.
    """
    schema, splits = opened.schema, tuple(splits)
    _check_kind(schema, wanted)
    places: dict[str, tuple[str, int]] = {}
    for split in splits:
        index = opened.read_index(split)
        sound = np.ones(index.num_records, bool) if index.damaged is None else ~index.damaged
        places |= {f"{split} {n}": (split, int(n)) for n in np.flatnonzero(sound)}
    of = {split: opened.read_index(split) for split in splits}
    about = {"set": schema.name, "data_fingerprint": opened.fingerprint, "splits": list(splits)}
    groups = {name: int(of[s].group[n]) for name, (s, n) in places.items()}
    return Labelled(
        about | {"directory": schema.directory},
        _records(opened, places, wanted),
        {name: _target(schema, of[s], n) for name, (s, n) in places.items()},
        groups if schema.group_name else None,
        schema.group_name,
    )


def _target(schema: Schema, index: RecordIndex, number: int) -> Target:
    """What a record says; None of -1, as sets label what says nothing."""
    label = int(index.label[number])
    if not 0 <= label < schema.num_classes:
        return None
    if index.target is None:
        return schema.class_names[label]
    target = index.target[number]
    if schema.task == REGRESSION:
        return tuple(target.tolist())
    return tuple(name for name, there in zip(schema.class_names, target, strict=True) if there)


def _check_kind(schema: Schema, wanted: ModelInput) -> None:
    fits = schema.modality == wanted.modality or (schema.modality, wanted.modality) == (
        TEXT,
        TOKENS,
    )
    # Words are cleaned by the rules of a language.
    if schema.modality == TOKENS:
        fits = fits and schema.metadata.get("language") == wanted.language
    if not fits:
        raise ValueError(
            f"evaluate: --on {schema.name} expected inputs as of {wanted.dataset} "
            f"({wanted.modality}), received {schema.modality}"
        )
    # Numbers are the same by their names; a single one may be called otherwise.
    is_alone = (schema.num_classes, wanted.num_classes) == (1, 1)
    if schema.task == REGRESSION and schema.class_names != wanted.class_names and not is_alone:
        raise ValueError(
            f"evaluate: --on {schema.name} expected the numbers "
            f"{', '.join(wanted.class_names)}, received {', '.join(schema.class_names)}"
        )
    if schema.modality != TABULAR:
        return
    own = schema.metadata.get("conversion")
    if wanted.conversion is not None and own != wanted.conversion:
        raise ValueError(
            f"evaluate: --on {schema.name} expected columns made as those of {wanted.dataset}, "
            "whose medians and categories were learned from it, received others. Name the file "
            "itself: python -m train.evaluate RUN FILE.csv"
        )
    if missing := [name for name in wanted.feature_names if name not in _columns(schema)]:
        raise ValueError(
            f"evaluate: --on {schema.name} expected the columns of {wanted.dataset}, received none "
            f"called {listed(missing)}"
        )


def _columns(schema: Schema) -> tuple[str, ...]:
    numbered = (f"{schema.input_name}_{i}" for i in range(int(schema.input_shape[0] or 0)))
    return schema.feature_names or tuple(numbered)


def _records(
    opened: OpenedSet, places: Mapping[str, tuple[str, int]], wanted: ModelInput
) -> Iterator[tuple[str, Any]]:
    schema, words = opened.schema, opened.schema.vocabulary()
    if schema.modality == TOKENS and words is None:
        raise ValueError(
            f"evaluate: --on {schema.name} expected words of its ids, received none: they cannot "
            "be told apart"
        )
    for split, found in itertools.groupby(places.items(), key=lambda item: item[1][0]):
        loader = Loader(schema, opened.read_index(split), lambda rows: rows)
        while unit := list(itertools.islice(found, loader.unit)):
            numbers = np.array([number for _, (_, number) in unit])
            rows = loader.rows(numbers, loader.read(numbers))
            yield from zip(
                (name for name, _ in unit), _raw(rows, schema, words, wanted), strict=True
            )


def _raw(rows: Any, schema: Schema, words: Any, wanted: ModelInput) -> Iterator[Any]:
    """What a file of each parsed row would give."""
    if schema.modality == IMAGE:
        yield from (as_stored(bytes(row), wanted) for row in rows)
    elif schema.modality == TABULAR:
        columns = _columns(schema)
        order = [columns.index(name) for name in wanted.feature_names]
        yield from rows[:, order].astype(wanted.dtype)
    elif schema.modality == TEXT:
        yield from (str(row, "utf-8", "replace") for row in rows)
    else:
        ids, starts = rows
        for first, end in itertools.pairwise(starts):
            yield tuple(words[i] for i in ids[first:end])


def make_reader(
    wanted: ModelInput, targets: Iterable[Target], pairs: list[str], source: str
) -> Callable[[Any], Any]:
    """The function from an item's target to a label as `Examples` have it; None: it is left out.

    `targets` are all that were found; the others are as of `number_classes`.

    Raises: as `number_classes`; also where --map is given for numbers.
    """
    if wanted.task == REGRESSION:
        if pairs:
            raise ValueError(f"evaluate: --map expected with classes, received {REGRESSION}")
        return lambda numbers: np.array(numbers, np.float64)
    found = {n for of in targets if of for n in ((of,) if isinstance(of, str) else of)}
    numbers = number_classes(map(str, found), wanted.class_names, pairs, source)
    if wanted.task == SINGLE_LABEL:
        return lambda name: numbers[name]

    def read(names: Any) -> np.ndarray:
        chosen = [numbers[name] for name in ((names,) if isinstance(names, str) else names)]
        return np.isin(np.arange(wanted.num_classes), [n for n in chosen if n is not None]) * 1.0

    return read


def number_classes(
    found: Iterable[str], names: tuple[str, ...], pairs: list[str], source: str
) -> dict[str, int | None]:
    """The number of the model's class for each class that was found; None: it is left out.

    `names` are the model's classes, in the order of its outputs; `pairs` are those of --map:
    FOUND=CLASS, or FOUND= to leave it out.

    Raises:
      ValueError: classes that the model does not know; names all of them.
    """
    found, mapped = {name for name in found if name}, {}
    for pair in pairs:
        # Names may hold a "=": the cut is where both sides are names.
        cuts = [(pair[:i], pair[i + 1 :]) for i, c in enumerate(pair) if c == "="]
        fits = [(a, b) for a, b in cuts if a in found and b in ("", *names)]
        if not fits:
            raise ValueError(
                f"evaluate: --map expected FOUND=CLASS (or FOUND= to leave it out), FOUND one of "
                f"{listed(sorted(found))} and CLASS one of {listed(list(names))}, received {pair!r}"
            )
        mapped[fits[0][0]] = fits[0][1]
    mapped = {name: name for name in found if name in names} | mapped
    if unknown := sorted(found - mapped.keys()):
        raise ValueError(
            f"evaluate: {source} expected classes of the run, {listed(list(names))}, received "
            f"others, too: {listed(unknown)}. Say which they are: --map "
            f"{' '.join(f'{name}=CLASS' for name in unknown[:3])}; NAME= leaves a class out"
        )
    return {name: names.index(to) if to else None for name, to in mapped.items()}
