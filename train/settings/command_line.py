"""The command line that settings came from, for those who want the same again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from models import MODELS
from records.sets.schema import IMAGE
from train.settings.config import MODALITY_DEFAULTS, TrainConfig

# Where things lie is another matter on another machine.
_PLACES = ("data_dir", "manual_dir", "run_dir")


def _defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """What `train.settings.resolve` makes of a set, a model and weights alone."""
    defaults = json.loads(TrainConfig().to_json()) | {"dataset": None}
    entry = MODELS[settings["model"]]
    kind = {k: v for k, v in MODALITY_DEFAULTS[entry.modality].items() if k != "model"}
    frozen = entry.modality == IMAGE and settings["weights"] != "random"
    return defaults | kind | {"freeze": frozen, "image_size": entry.image_size or 224}


RUN = "python -m train.run"
CROSS_VALIDATE = "python -m train.cross_validate"


def format_command(command: str, settings: dict[str, Any], omit: Iterable[str] = ()) -> str:
    """A command that trains stored settings.

    Args:
      command: with flags of `TrainConfig`, such as `RUN`.
      settings, omit: as for `format_flags`.
    """
    return f"{command} {' '.join(format_flags(settings, omit))}"


def format_flags(settings: dict[str, Any], omit: Iterable[str] = ()) -> list[str]:
    """Each flag, with its value, of what differs from the defaults.

    Args:
      settings: of `config.json` or a trial, defaults filled in; other keys are left out.
      omit: settings that the module does not take, or that are of no interest.
    """
    usual = _defaults(settings)
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    flags = []
    for name in names:
        value = settings.get(name)
        if name in (*_PLACES, *omit) or value is None or value == usual[name]:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            flags.append(f"--{flag} {' '.join(map(str, value))}")
        else:
            flags.append(f"--{flag} {value}")
    return flags
