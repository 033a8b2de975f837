"""Files in place of a prepared set: they are converted first, in a process of its own."""

import contextlib
import itertools
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from records.decoding.table_columns import LabelColumns
from records.sets.find import (
    default_data_dir,
    default_place,
    find_directory,
    is_run_folder,
    name_from_path,
)
from records.sets.hints import builder_path, convert_command
from records.sets.origin import hash_source, read_origin
from records.stores.address import is_address
from records.system.places import check_local
from records.system.tfds_command import run_printed


def convert_source(dataset: str, data_dir: str | None, asked: Sequence[str] = ()) -> str:
    """The name of the set that a file or a folder was converted to.

    It is converted by `builders.convert` unless that was done before. What is no such path, but
    the name or the folder of a set, comes back as it is.

    Args:
      asked: flags for `builders.convert`; of them --task fits a set, too.

    Raises:
      ValueError: the files cannot be converted without flags, have changed since or were converted
        with other flags, another set has the name, or a set was named; says what to do.
    """
    if not is_address(dataset):
        check_local(dataset, "dataset")
    if is_address(dataset) or not _is_source(dataset, data_dir):
        if given := _by_flag(asked).keys() - {"--task"}:
            raise ValueError(
                f"settings: {', '.join(sorted(given))} expected with a file to convert in "
                f"--dataset, received {dataset}, which is none: a set is as it was built"
            )
        return dataset
    source, place = Path(dataset), default_place(data_dir)
    name = name_from_path(source)
    found = Path(place).expanduser() / name / "1.0.0"
    if is_address(place):
        with contextlib.suppress(FileNotFoundError):
            found = Path(find_directory(name, place))
    else:
        place = os.fspath(default_data_dir(place))
    flags = [dataset, "--name", name, "--data_dir", place]
    if (found / "dataset_info.json").exists():
        _check_origin(source, found, flags, _by_flag(asked))
        print(f"{dataset} was converted before: {found} is used", flush=True)
        return name
    command = convert_command([*flags, *asked])
    print(f"{dataset} is no prepared set yet: {command}", flush=True)
    code = run_printed(command)
    if code == 130:  # Ctrl-C reached the child, too
        raise KeyboardInterrupt
    if code:
        raise ValueError(
            f"data set: {dataset} could not be converted; see the message above. Give that command "
            f"the flags that are missing, then train its set: --dataset {name}"
        )
    return name


def _is_source(dataset: str, data_dir: str | None) -> bool:
    path = Path(dataset)
    # Nor the folder of a set, of its versions or of its configs, nor of a run.
    sets = (p for up in ("", "*/", "*/*/") for p in path.glob(f"{up}dataset_info.json"))
    if not path.exists() or any(sets) or is_run_folder(path):
        return False
    if builder_path(dataset.partition("/")[0]) is not None:
        return False
    try:
        # A folder here may have the name of a set that was not made of it.
        return read_origin(find_directory(dataset, data_dir)) is not None
    except (FileNotFoundError, ValueError):
        return True


def _check_origin(source: Path, found: Path, flags: list[str], asked: dict[str, list[str]]) -> None:
    """Raises ValueError where the set of that name was not made of these files as they are, or so.

    `asked`: values by flag. A class can be taken for a task that the build was not told.
    """
    origin = read_origin(found)
    if origin is None:
        raise ValueError(
            f"data set: {source} expected to become {found}, where another set lies. Train that "
            f"one by its name, --dataset {found.parent.name}, or convert under another: "
            f"{convert_command([*flags[:2], 'ANOTHER', *flags[3:]])}"
        )
    if origin["sha256"] != hash_source(source):
        raise ValueError(
            f"data set: {found} was made of other files than {source} holds now. Convert them "
            f"again: {convert_command(origin['flags'])} --overwrite; or train the set as it is: "
            f"--dataset {found.parent.name}"
        )
    made = _by_flag(origin["flags"])
    if "label" in origin:  # it may have been guessed
        made["--label"] = list(LabelColumns.from_json(origin["label"]).columns)
    for flag in asked.keys() - {"--task"}:
        if made.get(flag) != asked[flag]:
            received = shlex.join(made.get(flag, [])) or "none"
            pairs = (_by_flag(origin["flags"]) | asked).items()
            again = [str(source), *itertools.chain(*([f, *values] for f, values in pairs))]
            raise ValueError(
                f"data set: {found} expected to be made with {flag} {shlex.join(asked[flag])}, "
                f"received {received}. Convert the files again: {convert_command(again)} "
                f"--overwrite; or train the set as it is, without {flag}"
            )


def _by_flag(words: Sequence[str]) -> dict[str, list[str]]:
    """The values of each flag "--name", in their order."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            values = found.setdefault(word, [])
        elif found:
            values.append(word)
    return found
