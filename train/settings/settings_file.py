"""Settings out of a file: YAML, JSON, or the `config.json` of a run folder."""

import dataclasses
import difflib
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from records.system.json_file import read_json

# What a run's config.json holds beside its settings; the last where the run is not older than it.
_FOUND_BY_A_RUN = ("data_fingerprint", "resolved", "data_directory")
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
}


@dataclasses.dataclass(frozen=True)
class FromFile:
    """What a file says."""

    values: dict[str, Any]  # the settings in it, by name
    is_run: bool  # a run wrote it
    # Where its data, or the first of its sets, lay; None where the file does not say.
    directory: str | None


def read_settings_file(
    file: str, hints: Mapping[str, Any], find_fault: Callable[[str, Any], str | None]
) -> FromFile:
    """Reads settings. Names are written with "_" or "-".

    Args:
      file: *.json, *.yaml or *.yml.
      hints: the type of every setting.
      find_fault: from a name and a value of its type to what was expected, None where it is right.

    Raises:
      ValueError: it holds something else; names every key that is unknown or has a wrong value.
      OSError: it cannot be read.
    """
    found = _read(Path(file))
    if not isinstance(found, dict):
        raise ValueError(
            f"settings: --config {file} expected names of settings with their values, received "
            f"{found!r:.80}"
        )
    values = {str(key).replace("-", "_"): value for key, value in found.items()}
    is_run, directory = {"data_fingerprint", "resolved", "model"} <= values.keys(), None
    if is_run:
        *_, directory = (values.pop(name, None) for name in _FOUND_BY_A_RUN)
        directory = directory[0] if isinstance(directory, list) and directory else directory
    faults = []
    for name, value in values.items():
        expected = None
        if name not in hints:
            near = difflib.get_close_matches(name, hints, 1)
            expected = f"a setting, such as {near[0]}" if near else "a setting"
            faults.append(f"{name} expected {expected}, received an unknown name")
        elif not is_of(hints[name], value):
            expected = describe_type(hints[name])
        else:
            expected = find_fault(name, value)
        if expected and name in hints:
            faults.append(f"{name} expected {expected}, received {value!r}")
    if faults:
        raise ValueError(
            f"settings: --config {file}: {'; '.join(faults)}. All settings: "
            "python -m train.run --help"
        )
    # null, where a setting may be that, asks for nothing.
    values = {name: value for name, value in values.items() if value is not None}
    return FromFile(values, is_run, directory)


def is_of(hint: Any, value: Any) -> bool:
    """Whether a value out of a file is of the type of a setting."""
    if isinstance(hint, types.UnionType):
        return any(is_of(one, value) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(type(one) is get_args(hint)[0] for one in value)
    # The exact type: for isinstance True is an int, and would pass as a number of epochs.
    return type(value) is hint or (hint is float and type(value) is int)


def describe_type(hint: Any) -> str:
    """A type in words that a writer of YAML and JSON knows."""
    if isinstance(hint, types.UnionType):
        return " or ".join(map(describe_type, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {describe_type(get_args(hint)[0])}"
    return _WORDS[hint]


class _Loader(yaml.SafeLoader):
    """YAML as a person means it: 1e-3 is a number, and a name stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise yaml.YAMLError(f"{', '.join(twice)} more than once")
        return dict(super().construct_mapping(node, deep))


# YAML 1.1 asks for a point and a sign: to it 1e-3 is text.
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))


def _read(file: Path) -> Any:
    kinds = {".json": "JSON", ".yaml": "YAML", ".yml": "YAML"}
    if file.is_dir():
        raise ValueError(
            f"settings: --config expected a file, received the folder {file}. Of a run folder name "
            f"{file / 'config.json'}"
        )
    kind = kinds.get(file.suffix.lower())
    if kind is None:
        raise ValueError(
            f"settings: --config expected a file named {', '.join(f'*{k}' for k in kinds)}, "
            f"received {file}"
        )
    try:
        if kind == "JSON":
            return read_json(file)
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"settings: --config {file} expected {kind}, received {said}") from error
