"""Command-line flags, generated from the fields of `TrainConfig`, and the file they overrule."""

import argparse
import types
from typing import Any, get_args, get_origin, get_type_hints

from records.stores.flags import add_cache_flags
from records.system.command import with_home
from records.system.quiet import import_tensorflow_quietly
from train.settings.config import TrainConfig, find_fault, setting_fields
from train.settings.defaults import MODALITY_DEFAULTS
from train.settings.sets import read_sets
from train.settings.settings_file import FromFile, read_settings_file


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds one flag per field of `TrainConfig`; `--global_batch_size` is accepted as well.

    Parse with `parse_settings`.
    """
    # Some hundred flags would hide the error that follows them.
    parser.usage = "%(prog)s [FLAGS] (--help lists them)"
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings from a file, YAML or JSON, or the config.json of a run folder; flags "
        "overrule it",
    )
    hints = get_type_hints(TrainConfig)
    groups: dict[str, Any] = {}
    for field in setting_fields():
        group = field.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        names = [f"--{field.name.replace('_', '-')}"]
        kind, several = _scalar_type(hints[field.name])
        # Defaults that depend on the kind of data are told for each of them.
        text = field.metadata["help"]
        by_kind = [str(defaults.get(field.name, "")) for defaults in MODALITY_DEFAULTS.values()]
        if any(by_kind):
            text += f" (default, tables / pictures / texts: {' / '.join(by_kind)})"
        elif field.default is not None and kind is not bool:
            text += f" (default: {field.default})"
        options: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": kind, "choices": field.metadata["choices"]}
            if not field.metadata["choices"]:
                options["metavar"] = {int: "N", float: "X"}.get(kind, "TEXT")
            if several:  # such as --hidden 64 32
                options |= {"nargs": "+"}
        groups[group].add_argument(*names, **options)
    add_cache_flags(parser)


def parse_settings(
    parser: argparse.ArgumentParser, arguments: list[str], own: tuple[str, ...] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parses the flags; prints usage and exits with 2 where they, or their file, are wrong.

    `own`: settings of single runs, which are not taken from a run's `config.json`.

    Returns:
      The settings that were given, on the command line or in the file of --config, and the other
      flags of the parser.
    """
    found = vars(parser.parse_args(normalise_flags(arguments)))
    names, hints = {field.name for field in setting_fields()}, get_type_hints(TrainConfig)
    given = {name: found.pop(name) for name in names & found.keys()}
    file = found.pop("config")
    if file is None:
        return given, found
    try:
        read = read_settings_file(file, {name: hints[name] for name in names}, find_fault)
        values = _of_run(read, own) if read.is_run else read.values
    except OSError as error:
        parser.error(f"settings: --config {file}: {error.strerror or error}")
    except ValueError as error:
        parser.error(str(error) if file in str(error) else f"settings: --config {file}: {error}")
    if "dataset" in given and read.is_run:
        values.pop("data_dir", None)  # another set may lie elsewhere
    return values | given, found


def _of_run(read: FromFile, own: tuple[str, ...]) -> dict[str, Any]:
    """What a run's `config.json` asks for: the settings that differ from what it had without.

    A run of that set without flags has the others anyway. One of another kind of data may have no
    such flag.
    """
    import_tensorflow_quietly()
    from train.settings.command_line import unusual  # it imports TensorFlow

    values = {name: value for name, value in unusual(read.values).items() if name not in own}
    # Of ROOT/name/config/version, or ADDRESS/name/config/version in a store.
    first = TrainConfig(dataset=values.get("dataset", TrainConfig.dataset)).dataset
    name = next(iter(read_sets(first))).strip("/")
    root = f"{read.directory or ''}/".rpartition(f"/{name}/")[0]
    return values | ({"data_dir": root} if root else {})


def normalise_flags(arguments: list[str]) -> list[str]:
    """Writes `--global_batch_size=8` as `--global-batch-size=8`, and "~" as the home directory."""
    out = []
    for argument in with_home(arguments):
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
        out.append(name + equals + value)
    return out


def _scalar_type(hint: Any) -> tuple[Any, bool]:
    """(type of one value, whether the field holds several)."""
    if isinstance(hint, types.UnionType):  # the last: of one set and several it is the latter
        hint = next(h for h in reversed(get_args(hint)) if h is not type(None))
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False
