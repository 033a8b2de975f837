"""Looks at a prepared set: prints what it holds and writes figures of it.

    python -m records.describe fetal_health --data-dir D --output describe/fetal_health

Class balance, duplicates and the builder's own notes for every set; ranges and correlations
for tables, lengths and words for texts, sizes, bytes and colour for pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS
from records.stores.flags import add_cache_flags
from records.stores.mirror import place_of
from records.system.command import run_as_command, with_home
from records.system.writing import check_output, write_atomically

if TYPE_CHECKING:
    from records.describe.read import Section
    from records.sets.schema import Schema
    from records.shards.index import RecordIndex

_SHOWN_CLASSES = 30
_TEXT_FILE = "description.txt"


def describe(
    dataset: str,
    data_dir: str | None = None,
    output: str | None = None,
    feature: str | None = None,
    task: str | None = None,
) -> tuple[str, Path]:
    """Describes a prepared set and writes the text and the figures.

    Args:
      dataset, data_dir: as `records.open_data`.
      output: the folder for `description.txt` and the PNG files; default `describe/<name>`.
      feature: the input feature, where the set has several.
      task: what is predicted; None: what the label feature is made for.

    Returns:
      (the text, the folder). Every file appears whole under its final name.

    Raises:
      FileNotFoundError: there is no such set.
      ValueError: it has no input or label that can be read, a record is damaged, or the folder
        cannot be made.
      OSError: the folder cannot be written.
    """
    from records.opened import open_set
    from records.system import plotting

    opened = open_set(dataset, data_dir, feature=feature, task=task)
    schema = opened.schema
    folder = Path(output or Path("describe") / schema.name.rpartition("/")[0].replace("/", "-"))
    check_output(folder, "describe", is_folder=True)
    folder.mkdir(parents=True, exist_ok=True)
    # A part repeats records of another split: counted twice, every one would be a copy.
    whole = [split for split in schema.split_counts if split not in schema.parts]
    indexes = {split: opened.read_index(split) for split in whole}
    section = _modality(schema)(schema, indexes)
    counts = {split: _class_counts(index, schema) for split, index in indexes.items()}
    said = _class_lines(schema, counts, indexes)
    if schema.task == REGRESSION:
        said = _number_lines(schema, indexes)
    lines = [*_head_lines(schema), *said, *section.lines]
    for part, of in schema.parts.items():
        lines.append(f"Split {part} repeats {schema.split_counts[part]:,} examples of {of}")
    for what, content in section.copies.items():
        lines += _copy_lines(what, content, _distinct_labels(indexes))
    lines += _group_lines(schema, indexes)
    figures = section.figures
    if schema.task == REGRESSION:
        known = {split: _known_targets(index) for split, index in indexes.items()}
        numbers = plotting.number_histograms(schema.class_names, known)
        figures = {"numbers.png": numbers} | figures
    else:
        balance = plotting.class_balance(schema.class_names, counts)
        figures = {"classes.png": balance} | figures
    text = "\n".join(lines) + "\n"
    write_atomically(folder / _TEXT_FILE, text.encode(errors="backslashreplace"))
    for name, png in figures.items():
        write_atomically(folder / name, png)
    return text, folder


def _modality(schema: Schema) -> Callable[[Schema, dict[str, RecordIndex]], Section]:
    from records.describe.pictures import describe_pictures
    from records.describe.tables import describe_table
    from records.describe.texts import describe_text
    from records.sets.schema import IMAGE, TABULAR

    return {IMAGE: describe_pictures, TABULAR: describe_table}.get(schema.modality, describe_text)


def _head_lines(schema: Schema) -> list[str]:
    """Name, place, input, and what the builder noted."""
    shape = ", ".join("?" if n is None else str(n) for n in schema.input_shape)
    lines = [
        f"{schema.name}: {schema.modality}, {schema.input_name} {schema.input_dtype} [{shape}] -> "
        f"{schema.label_name} ({_outputs(schema)})",
        f"  {place_of(schema.directory)}",
    ]
    if schema.metadata.get("generated"):
        lines.append("  GENERATED data: its figures say nothing about the real task")
    if schema.names_note:
        lines.append(f"  note: {schema.names_note}")
    dropped = schema.metadata.get("dropped") or {}
    for reason, count in dropped.items():
        lines.append(f"  dropped when it was built: {count:,} ({reason})")
    return lines


def _outputs(schema: Schema) -> str:
    if schema.task == SINGLE_LABEL:
        return f"{schema.num_classes} classes"
    what = "numbers: " + ", ".join(schema.class_names[:8])
    several = f"{schema.num_classes} classes, several at once"
    return several if schema.task == MULTI_LABEL else what


def _distinct_labels(indexes: dict[str, RecordIndex]) -> dict[str, np.ndarray]:
    """int64 [N] by split: the classes, or a number for each different target."""
    targets = [index.target for index in indexes.values() if index.target is not None]
    if not targets:
        return {split: index.label for split, index in indexes.items()}
    _, found = np.unique(np.concatenate(targets), axis=0, return_inverse=True)
    parts = np.split(found.ravel(), np.cumsum([len(t) for t in targets])[:-1])
    return dict(zip(indexes, parts, strict=True))


def _known_targets(index: RecordIndex) -> np.ndarray:
    """[n, C] of the records that have a target."""
    assert index.target is not None
    return index.target[index.label >= 0]


def _number_lines(schema: Schema, indexes: dict[str, RecordIndex]) -> list[str]:
    """Quantiles, mean and deviation of each number that is to be predicted, per split."""
    width = max(12, *(len(name) for name in schema.class_names))
    columns = ("least", "quarter", "median", "3 quarters", "most", "mean", "deviation")
    lines = ["Numbers to predict"]
    lines += [f"  {'':{width}}  {'':10}" + "".join(f"{name:>15}" for name in columns)]
    for i, name in enumerate(schema.class_names[:_SHOWN_CLASSES]):
        for split, index in indexes.items():
            found = _known_targets(index)[:, i]
            if len(found):
                cells = (*np.percentile(found, (0, 25, 50, 75, 100)), found.mean(), found.std())
                said = "".join(f"{cell:15.10g}" for cell in cells)
                lines.append(f"  {name:{width}}  {split:10}{said}")
    return lines


def _class_counts(index: RecordIndex, schema: Schema) -> np.ndarray:
    """int64 [C]; examples without a class (label -1) are not counted."""
    if index.target is not None:
        return index.target[index.label >= 0].sum(0).astype(np.int64)
    labels = index.label[index.label >= 0]
    counts = np.bincount(labels, minlength=schema.num_classes)
    if len(counts) > schema.num_classes:
        raise ValueError(
            f"describe: {schema.name}: label expected 0 to {schema.num_classes - 1}, "
            f"received {labels.max()}"
        )
    return counts


def _class_lines(
    schema: Schema, counts: dict[str, np.ndarray], indexes: dict[str, RecordIndex]
) -> list[str]:
    """Counts and shares of the classes per split and over all splits."""
    total = np.sum(list(counts.values()), 0)
    # Of the examples: one with two classes counts once for each.
    known = {split: int((index.label >= 0).sum()) for split, index in indexes.items()}
    known |= {"all": sum(known.values())}
    columns = counts | ({"all": total} if len(counts) > 1 else {})
    width = max(12, *(len(name) for name in schema.class_names))
    lines = ["Classes", f"  {'':{width}}" + "".join(f"{name:>19}" for name in columns)]

    def line(name: str, cells: list[tuple[int, int]]) -> str:
        texts = [f"{n:,} {100 * n / max(of, 1):5.1f} %" for n, of in cells]
        return f"  {name:{width}}" + "".join(f"{text:>19}" for text in texts)

    for i, name in list(enumerate(schema.class_names))[:_SHOWN_CLASSES]:
        lines.append(line(name, [(int(c[i]), known[s]) for s, c in columns.items()]))
    if schema.num_classes > _SHOWN_CLASSES:
        lines.append(f"  ... and {schema.num_classes - _SHOWN_CLASSES} more classes")
    lines.append(line("together", [(int(c.sum()), known[s]) for s, c in columns.items()]))
    for split in counts:
        unlabelled = schema.split_counts[split] - known[split]
        if unlabelled:
            lines.append(f"  {split}: {unlabelled:,} examples without a class")
    stored = schema.metadata.get("class_counts") or {}
    received = {name: int(n) for name, n in zip(schema.class_names, total, strict=True)}
    if (
        stored
        and schema.task == SINGLE_LABEL
        and {k: int(v) for k, v in stored.items()} != received
    ):
        lines.append(f"  the builder counted otherwise: {dict(stored)}")
    return lines


def _copy_lines(
    what: str, content: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> list[str]:
    """Exact copies within and across splits; content uint64 [N] by split, equal for copies."""
    together = np.concatenate(list(content.values()))
    _, number, sizes = np.unique(together, return_inverse=True, return_counts=True)
    lines = [
        f"Copies by {what}: {len(sizes):,} of {len(together):,} are distinct"
        + (f", the most frequent stands {sizes.max():,} times" if len(sizes) < len(number) else "")
    ]
    if len(sizes) == len(number):
        return lines
    for split, mine in content.items():
        extra = len(mine) - len(np.unique(mine))
        others = [
            f"{int(found.sum()):,} ({100 * found.mean():.1f} %) also in {other}"
            for other, theirs in content.items()
            if other != split and (found := np.isin(mine, theirs)).any()
        ]
        lines.append(f"  {split}: {'; '.join([f'{extra:,} repeat another one', *others])}")
    # Copies contradict each other where their least and their greatest class differ.
    low, high = np.full(len(sizes), np.iinfo(np.int64).max), np.full(len(sizes), -1)
    every_label = np.concatenate(list(labels.values()))
    np.minimum.at(low, number, every_label)
    np.maximum.at(high, number, every_label)
    conflicts = int((low != high).sum())
    lines.append(f"  {conflicts:,} of those that stand several times have different classes")
    return lines


def _group_lines(schema: Schema, indexes: dict[str, RecordIndex]) -> list[str]:
    """Groups (near copies, one artist's songs) and those that straddle splits."""
    if schema.group_name is None:
        return []
    groups = {split: np.unique(index.group) for split, index in indexes.items()}
    together = np.concatenate([index.group for index in indexes.values()])
    distinct, sizes = np.unique(together, return_counts=True)
    several = int((sizes > 1).sum())
    lines = [
        f"Groups by {schema.group_name}: {len(distinct):,}, of which {several:,} hold several "
        f"examples, at most {sizes.max(initial=0):,}"
    ]
    names = list(groups)
    for i, split in enumerate(names):
        for other in names[i + 1 :]:
            shared = np.intersect1d(groups[split], groups[other])
            if len(shared):
                inside = int(np.isin(indexes[other].group, shared).sum())
                lines.append(
                    f"  {len(shared):,} groups are both in {split} and {other} "
                    f"({inside:,} examples of {other})"
                )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m records.describe",
        description="Prints what a prepared TFDS set holds and writes figures of it.",
        allow_abbrev=False,
    )
    parser.add_argument("dataset", help="name[/config[/version]], or a prepared set's directory")
    place = "where prepared sets lie (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)"
    parser.add_argument("--data-dir", "--data_dir", help=place)
    add_cache_flags(parser)
    parser.add_argument("--output", help="folder for the figures (default: describe/<name>)")
    parser.add_argument("--feature", help="the input feature, where a set has several")
    parser.add_argument("--task", choices=TASKS, help="what is predicted (default: as train.run)")
    flags = parser.parse_args(with_home(arguments))

    def work() -> None:
        text, folder = describe(
            flags.dataset, flags.data_dir, flags.output, flags.feature, flags.task
        )
        names = sorted(path.name for path in folder.glob("*.png"))
        print(f"{text}Figures in {folder}: {', '.join(names)}")

    return run_as_command(work)


if __name__ == "__main__":
    sys.exit(main())
