"""What a run stored: the settings and metrics of its folder, and settings that others left.

The one place that reads them. `config.json` holds the settings that identify a run, and what it
found at its first start.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from records.sets.target import SINGLE_LABEL
from records.system.json_file import read_json
from train.measures.metrics import FIGURES_OF
from train.settings.config import PRECISIONS, RESULT_FIELDS, TrainConfig
from train.settings.resolved import KEPT_FROM_FIRST_START
from train.settings.settings_file import describe_type, is_of

FILE_NAME, METRICS = "config.json", "metrics.json"
TIMES_READ = "times_read.json"
# The second where Keras cannot write the classes of a user's own model.
MODEL, WEIGHTS = "model.keras", "model.weights.h5"
# With all of these a run is finished: else the same command goes on, and writes what is missing.
_LAST_FILES = (MODEL, "model_input.json", METRICS)
SECONDS = ("setup", "input", "step", "rest")


@dataclasses.dataclass(frozen=True)
class StoredConfig:
    """What `config.json` holds."""

    # The settings that change a result; those that hardware decides as they were asked for.
    asked: TrainConfig
    fingerprint: str  # of the data
    resolved: dict[str, Any]  # what hardware and free memory decided: precision, xla, shuffle_block
    # Where the data lay when the run began, a place for each set; () where an older run did not
    # say.
    directories: tuple[str, ...] = ()


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
        place = stored.pop("data_directory", None)
        directories = tuple(place) if isinstance(place, list) else (place,) * (place is not None)
        if not all(type(text) is str for text in (fingerprint, *directories)):
            raise ValueError(f"data_fingerprint {fingerprint!r}, data_directory {place!r}")
        resolved = _check_resolved(resolved)
        return StoredConfig(read_settings(stored), fingerprint, resolved, directories)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"run folder: {file} expected the settings of a run of this version, received "
            f"something else ({type(error).__name__}: {error}). {hint}"
        ) from error


def missing_files(run: Path) -> list[str]:
    """What a run folder lacks to be that of a finished run."""
    # `os.path` takes a name that is too long for one of nothing.
    present = {file.name for file in run.iterdir()} if os.path.isdir(run) else set()
    present |= {MODEL} if WEIGHTS in present else set()
    return [name for name in _LAST_FILES if name not in present]


def read_metrics(run: Path) -> dict[str, Any]:
    """The metrics of a finished run.

    Raises:
      OSError: there are none.
      ValueError: they are not what a run writes.
    """
    file = run / METRICS
    try:
        found = read_json(file)
        _check_metrics(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"run folder: {file} expected the metrics of a run, received something else "
            f"({type(error).__name__}: {error}). Remove it, and the same train.run command writes "
            "it anew"
        ) from error
    return dict(found)


def times_read(evaluation: Path) -> int:
    """How often a run was measured on the examples of one of its `evaluation-*`, `measured-*`."""
    try:
        return int(read_json(evaluation / TIMES_READ)["times_read"])
    except (OSError, ValueError, KeyError, TypeError):
        # A folder of before it was counted stands for one time.
        return int((evaluation / "evaluation.json").is_file())


def _check_metrics(found: Any) -> None:
    """Raises an error unless all that is shown of a finished run is there."""
    for name, kind in {"dataset": str, "model": str, "seed": int}.items():
        if type(found[name]) is not kind:
            raise ValueError(f"{name} {found[name]!r}")
    numbers = [found["input_share"], *(found["seconds"][name] for name in SECONDS)]
    for role in ("validation", *({"test"} & found.keys())):
        task = found.get("task", SINGLE_LABEL)
        numbers += [found[role][name] for name in FIGURES_OF[task]]
        of_each = found[role]["recall"] if task == SINGLE_LABEL else {}
        numbers += [share for share in of_each.values() if share is not None]
    wrong = [number for number in numbers if type(number) not in (int, float)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} in place of a number")


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
    # Of one class no task is stored, and older versions knew no choice of classes.
    stored = {"task": None, "classes": None} | dict(stored)
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
        if not is_of(hints[name], value):
            raise ValueError(f"{name} expected {describe_type(hints[name])}, received {value!r}")
    return TrainConfig(**stored)
