"""Finds a prepared set, or prepares it with `tfds build` in a process of its own."""

from __future__ import annotations

import re
from pathlib import Path

from records.sets.find import default_data_dir, find_directory
from records.system.places import check_local
from records.system.tfds_command import run_tfds

_ROOT = Path(__file__).resolve().parents[2]


def prepare(dataset: str, data_dir: str | None, manual_dir: str | None) -> str:
    """The directory of a prepared set; prepares one of this project's sets where it is missing.

    The arguments are those of `tfds build`; `dataset` may be a directory.

    Raises:
      FileNotFoundError: the set is neither prepared nor one of this project's.
      ValueError: `tfds build` failed; its own message stands before this one.
    """
    check_local(manual_dir, "--manual-dir")
    try:
        return find_directory(dataset, data_dir)
    except FileNotFoundError:
        name, _, config = dataset.partition("/")
        builder = _ROOT / "builders" / name
        if not (builder / f"{name}_dataset_builder.py").exists():
            raise
    config = config.split("/")[0] or "kaggle"  # without the version
    configs = _config_names(builder)
    if config not in configs:
        raise ValueError(
            f"data set: {name}: config expected one of {', '.join(configs)}, received {config!r}"
        )
    flags = ["build", str(builder), "--config", config]
    flags += ["--data_dir", str(default_data_dir(data_dir))]
    if manual_dir:
        if not Path(manual_dir).is_dir():
            raise FileNotFoundError(
                f"data set: --manual-dir expected the folder of the downloaded files, "
                f"received {manual_dir}, which is not a folder"
            )
        flags += ["--manual_dir", manual_dir]
    print(f"{dataset} is not prepared yet: tfds {' '.join(flags)}", flush=True)
    code = run_tfds(flags)
    if code == 130:  # Ctrl-C reached the child, too
        raise KeyboardInterrupt
    if code:
        raise ValueError(f"data set: {dataset} could not be prepared; see the message above")
    return find_directory(dataset, data_dir)


def _config_names(builder: Path) -> list[str]:
    """The configs that a builder of this project declares, read from its source text."""
    source = (builder / f"{builder.name}_dataset_builder.py").read_text(encoding="utf-8")
    return sorted({"synthetic", *re.findall(r"name=\"(\w+)\"", source)})
