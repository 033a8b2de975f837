"""From a path to what it holds: a table, pictures or texts."""

import dataclasses
from pathlib import Path
from typing import Any

from builders.convert import pictures, texts
from builders.convert.folders import list_folder
from builders.convert.guesses import Holds, guess_column
from builders.convert.source import Conversion, Options
from builders.convert.table_file import Table, read_table
from builders.convert.tables import convert_table

_LOOKED_AT = 20  # cells that may be paths


def read_source(source: Path, options: Options, workers: Any = None) -> Conversion:
    """Reads all of a source; nothing is written. Of `workers`, see `pictures.convert_pictures`.

    Raises:
      ValueError: it is of no kind that can be converted, or a flag does not fit it.
      OSError: it cannot be read.
    """
    if not source.exists():
        raise FileNotFoundError(f"convert: {source} is not there")
    found = (_read_folder if source.is_dir() else _read_file)(source, options, workers)
    found.check()
    return found


def _read_folder(source: Path, options: Options, workers: Any) -> Conversion:
    wrong = [
        f"--{name}"
        for name in ("label", "task", "group", "split", "drop", "numeric", "categorical", "text")
        if getattr(options, name)
    ]
    if wrong or options.kind == "table":
        raise ValueError(
            f"convert: {source}: {', '.join(wrong) or '--kind table'} expected with a table, "
            "received a folder, whose folders name the classes"
        )
    files, left_out = list_folder(source)
    suffixes = [file.path.suffix.lower() for file in files]
    are_pictures = sum(suffix in pictures.SUFFIXES for suffix in suffixes)
    are_texts = suffixes.count(texts.SUFFIX)
    if options.kind == "texts" or (options.kind is None and are_texts > are_pictures):
        return texts.convert_text_files(source, files, left_out, options)
    if not are_pictures and options.kind is None:
        raise ValueError(
            f"convert: {source}: expected pictures ({', '.join(pictures.SUFFIXES)}) or texts "
            f"({texts.SUFFIX}) in its class folders, received {len(files):,} other files"
        )
    return pictures.convert_pictures(source, files, left_out, options, workers)


def _read_file(source: Path, options: Options, workers: Any) -> Conversion:
    _check_flags(source, options)
    table = read_table(source, options.separator, options.drop)
    table.check_columns("--path_column", (options.path_column,))
    table.check_columns("--text", (options.text,))
    kind = options.kind or _kind(table, options)
    if kind == "pictures":
        column = options.path_column or _path_column(table)
        if column is None:
            raise ValueError(
                f"convert: {source}: expected to know which column names the pictures' files. "
                "Name it with --path_column"
            )
        files, left_out, labels = pictures.list_pictures(table, options, column)
        found = pictures.convert_pictures(source, files, left_out, options, workers)
        found.metadata["conversion"]["column"] = column
        return dataclasses.replace(found, labels=labels)
    if kind == "texts":
        column = options.text or _text_column(table, options)
        if column is None:
            raise ValueError(
                f"convert: {source}: expected to know which column holds the texts. Name it with "
                "--text"
            )
        return texts.convert_text_column(table, options, column)
    return convert_table(table, options)


def _check_flags(source: Path, options: Options) -> None:
    """Raises ValueError for a column that two flags name."""
    names = ("label", "group", "split", "text", "path_column", "drop", "numeric", "categorical")
    seen: dict[str, str] = {}
    for flag in names:
        value = getattr(options, flag)
        for name in value if isinstance(value, tuple) else (value,):
            if name is not None and seen.setdefault(name, flag) != flag:
                raise ValueError(
                    f"convert: {source}: expected each column in one flag, received {name!r} in "
                    f"--{seen[name]} and --{flag}"
                )


def _kind(table: Table, options: Options) -> str:
    if options.path_column or (_path_column(table) and not options.text):
        return "pictures"
    if options.text or _text_column(table, options, alone=True):
        return "texts"
    return "table"


def _path_column(table: Table) -> str | None:
    """The first column whose cells name pictures that are there."""
    for name, cells in table.columns.items():
        paths = [cell.strip() for cell in cells if cell.strip()][:_LOOKED_AT]
        if all(Path(path).suffix.lower() in pictures.SUFFIXES for path in paths) and any(
            (table.path.parent / path).is_file() for path in paths
        ):
            return name
    return None


def _text_column(table: Table, options: Options, *, alone: bool = False) -> str | None:
    """The only column of texts; with `alone`, where no other could be an input beside it."""
    used = {*options.label, options.group, options.split, *options.drop}
    holds = {name: guess_column(table, name, options).holds for name in table.columns}
    found = [n for n, kind in holds.items() if kind is Holds.TEXTS and n not in used]
    if len(found) != 1:
        return None
    others = [
        name
        for name, kind in holds.items()
        if kind in (Holds.NUMBERS, Holds.CATEGORIES) and name not in used
    ]
    # One of them is the class, unless --label names it.
    most = 0 if options.label else 1
    return None if alone and len(others) > most else found[0]
