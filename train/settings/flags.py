"""Command-line flags, generated from the fields of `TrainConfig`."""

from __future__ import annotations

import argparse
import dataclasses
import types
from typing import Any, get_args, get_origin, get_type_hints

from records.system.command import with_home
from train.settings.config import TrainConfig
from train.settings.defaults import MODALITY_DEFAULTS


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds one flag per field of `TrainConfig`; `--global_batch_size` is accepted as well."""
    hints = get_type_hints(TrainConfig)
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(TrainConfig):
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
        options: dict[str, Any] = {"dest": field.name, "default": field.default, "help": text}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": kind, "choices": field.metadata["choices"]}
            if not field.metadata["choices"]:
                options["metavar"] = {int: "N", float: "X"}.get(kind, "TEXT")
            if several:  # such as --hidden 64 32
                options |= {"nargs": "+"}
        groups[group].add_argument(*names, **options)


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
    if isinstance(hint, types.UnionType):
        hint = next(h for h in get_args(hint) if h is not type(None))
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False
