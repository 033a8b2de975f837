"""Settings out of files: `config.json` of a run folder, and those that other commands left.

The one place that reads them. `config.json` holds the settings that identify a run, and what it
found at its first start.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from records.system.json_file import read_json
from train.settings.config import PRECISIONS, RESULT_FIELDS, TrainConfig
from train.settings.resolved import KEPT_FROM_FIRST_START

FILE_NAME = "config.json"


@dataclasses.dataclass(frozen=True)
class StoredConfig:
    """What `config.json` holds.

    Attributes:
      asked: the settings that change a result; those that hardware decides as they were asked for.
      fingerprint: of the data.
      resolved: what hardware and free memory decided: precision, xla, shuffle_block.
    """

    asked: TrainConfig
    fingerprint: str
    resolved: dict[str, Any]


def read_config(run: Path, hint: str) -> StoredConfig:
    """Reads the settings of a run folder.

    `hint`: what the user can do where they cannot be read.

    Raises:
      OSError: there are none.
      ValueError: they are not those of a run of this version; says why.
    """
    file = run / FILE_NAME
    try:
        stored = dict(read_json(file))
        fingerprint, resolved = stored.pop("data_fingerprint"), stored.pop("resolved")
        if type(fingerprint) is not str:
            raise ValueError(f"data_fingerprint {fingerprint!r}")
        return StoredConfig(read_settings(stored), fingerprint, _check_resolved(resolved))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"run folder: {file} expected the settings of a run of this version, received "
            f"something else ({type(error).__name__}: {error}). {hint}"
        ) from error


def _check_resolved(found: Any) -> dict[str, Any]:
    precision, xla, block = (found[name] for name in KEPT_FROM_FIRST_START)
    if precision not in PRECISIONS[1:] or type(xla) is not bool:
        raise ValueError(f"precision {precision!r}, xla {xla!r}")
    if block is not None and (type(block) is not int or block < 1):
        raise ValueError(f"shuffle_block {block!r}")
    return {"precision": precision, "xla": xla, "shuffle_block": block}


def read_settings(stored: Mapping[str, Any]) -> TrainConfig:
    """The settings that `TrainConfig.to_dict` or `Settings.to_dict` wrote.

    Raises:
      ValueError: a setting is missing or unknown (another version of this project wrote the file),
        or not of its type.
    """
    missing = [name for name in RESULT_FIELDS if name not in stored]
    # Both ways: a setting of an older or a newer version may have changed the run.
    unknown = sorted(stored.keys() - set(RESULT_FIELDS))
    if missing or unknown:
        raise ValueError(
            f"settings of another version of this project: missing {', '.join(missing) or 'none'}, "
            f"unknown {', '.join(unknown) or 'none'}"
        )
    # A wrong type would be met much later, and not by its name.
    hints = get_type_hints(TrainConfig)
    for name, value in stored.items():
        if not _is_of(hints[name], value):
            raise ValueError(f"{name} expected of type {hints[name]}, received {value!r}")
    return TrainConfig(**stored)


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a value out of JSON is of the type of a setting."""
    if isinstance(hint, types.UnionType):
        return any(_is_of(one, value) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(type(one) is get_args(hint)[0] for one in value)
    # The exact type: for isinstance True is an int, and would pass as a number of epochs.
    return type(value) is hint or (hint is float and type(value) is int)
