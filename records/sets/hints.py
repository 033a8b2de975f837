"""The commands that mend a damaged set, for error messages."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from records.sets.origin import read_origin
from records.stores.mirror import address_of, place_of
from records.system.json_file import read_json

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_REPOSITORY = Path(__file__).resolve().parents[2]


def builder_path(name: str) -> str | None:
    """The folder of a set's builder, for `tfds build` from here: ours, or one that lies here."""
    # A name from metadata or the command line: no other folder may be meant by it.
    if name != os.path.basename(name):
        return None
    for folder in (Path(name), _REPOSITORY / "builders" / name):
        if (folder / f"{name}_dataset_builder.py").is_file():
            return os.path.relpath(folder)
    return None


def prepare_hint(dataset: str, data_dir: str | os.PathLike[str]) -> str:
    """The command that prepares a set that is not there."""
    name, _, config = dataset.strip("/").partition("/")
    config, builder = config.partition("/")[0], builder_path(name)
    if builder is None and Path(dataset).exists():
        return convert_command([dataset, "--data_dir", os.fspath(data_dir)])
    if _VERSION.fullmatch(config):  # of a set without configs: NAME/VERSION
        config = ""
    command = ["tfds", "build", builder or name]
    if config or _is_ours(name):
        command += ["--config", config or "kaggle"]
    command += ["--data_dir", os.fspath(data_dir)]
    said = shlex.join(command)
    if config == "synthetic":
        return said
    if _is_ours(name):
        return f"{said} (with --manual_dir FOLDER, that of the downloaded files)"
    if builder:
        return f"{said} (with --manual_dir FOLDER where it reads files)"
    return (
        f"{said} (where TFDS ships it; a set of your own: the path of its builder's folder, in "
        f"place of {shlex.quote(name)})"
    )


def verify_hint(directory: str | os.PathLike[str]) -> str:
    """The command that lists all damage of a set, and how to train in spite of it."""
    command = f"python -m records.verify {shlex.quote(place_of(directory))}"
    return (
        f"To list all damage: {command} (--repair DIR also writes a clean copy; "
        "train.run --on-corrupt skip trains without the damaged records)."
    )


def has_fingerprint_when_built(directory: str | os.PathLike[str]) -> bool:
    """Whether one of this project's builders made a set: then it had a fingerprint."""
    try:
        name = read_json(Path(directory) / "dataset_info.json")["name"]
        return _is_ours(name) or read_origin(directory) is not None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_ours(name: str) -> bool:
    return (_REPOSITORY / "builders" / name / f"{name}_dataset_builder.py").is_file()


def convert_command(flags: Sequence[str]) -> str:
    """`builders.convert` with these arguments, as a shell takes it."""
    return f"python -m builders.convert {shlex.join(flags)}"


def rebuild_hint(directory: str | os.PathLike[str]) -> str:
    """The command that builds a damaged set again in its place, as far as its metadata tell."""
    folder = Path(directory).absolute()
    try:
        info = read_json(folder / "dataset_info.json")
        name, config = info["name"], info.get("configName") or ""
        module, version = str(info.get("moduleName", "")), str(info["version"])
        place = Path(name, config, version)  # as TFDS lays a data folder out
        found = builder_path(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "Build the set again, with --overwrite"
    if made := read_origin(folder):
        return f"Convert its files again: {convert_command(made['flags'])} --overwrite"
    if found:
        builder = found
    elif module.startswith("tensorflow_datasets."):
        # TFDS finds its own builders by name.
        builder = name
    else:
        return f"Build the set again with the builder that made it ({name!r}), with --overwrite"
    command = ["tfds", "build", builder, *(["--config", config] if config else [])]
    data_dir = folder
    for _ in place.parts:
        data_dir = data_dir.parent
    # A copied or renamed set: `tfds build` would write beside it, not in its place.
    if address_of(folder) or data_dir / place != folder:
        return f"Build the set again ({shlex.join(command)}) and copy it to {place_of(folder)}"
    command += ["--data_dir", str(data_dir), "--overwrite"]
    return f"Build the set again: {shlex.join(command)}"
