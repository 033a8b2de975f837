"""The command line that settings came from, for those who want the same again."""

import shlex
from collections.abc import Iterable
from typing import Any

import models
from train.settings.config import TrainConfig, json_ready, setting_fields
from train.settings.defaults import BY_SIZE, MODALITY_DEFAULTS
from train.settings.resolve import IMAGE_SIZE, fill

RUN = "python -m train.run"
CROSS_VALIDATE = "python -m train.cross_validate"


def format_command(
    command: str,
    settings: dict[str, Any],
    omit: Iterable[str] = (),
    data_dir: str | None = None,
) -> str:
    """A command that trains stored settings, as a shell takes it."""
    place = [f"--data-dir {shlex.quote(data_dir)}"] if data_dir else []
    return " ".join([command, *format_flags(settings, omit), *place])


def format_flags(settings: dict[str, Any], omit: Iterable[str] = ()) -> list[str]:
    """Each flag, with its value, of what differs from the defaults, but of `omit`.

    Other keys than settings are left out, and places: where things lie is another matter on another
    machine.
    """
    flags = []
    for name, value in unusual(settings).items():
        if name in omit:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            flags.append(f"--{flag} {shlex.join(map(str, value))}")
        else:
            flags.append(f"--{flag} {shlex.quote(str(value))}")
    return flags


def unusual(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of stored settings that differ from the defaults, by name, without places."""
    usual = _usual(settings)
    found = {f.name: settings.get(f.name) for f in setting_fields() if not f.metadata["is_place"]}
    return {n: value for n, value in found.items() if value is not None and value != usual[n]}


def _usual(settings: dict[str, Any]) -> dict[str, Any]:
    """What a run has without flags, given the set, the model and its weights alone."""
    asked = TrainConfig(
        model=settings["model"], weights=settings.get("weights", TrainConfig.weights)
    )
    own = models.is_own(settings["model"])
    # One of the user's own takes data of any kind, on which its other defaults depend.
    found = {"image_size": IMAGE_SIZE, "freeze": False}
    if not own:
        found = fill(asked, models.check_model(settings["model"]).modality)
    plain = {field.name: field.default for field in setting_fields()}
    # Always named: what depends on the set, and its size.
    named = dict.fromkeys(("dataset", "model", *BY_SIZE))
    if own:
        named |= dict.fromkeys(MODALITY_DEFAULTS["tabular"])
    return json_ready(plain | found | named)
