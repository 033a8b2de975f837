"""Finds a prepared set, or prepares it with `tfds build` in a process of its own."""

import re
import shlex
from pathlib import Path

from records.sets.builder_source import source_change, write_source_hash
from records.sets.find import default_data_dir, default_place, find_directory
from records.sets.hints import builder_path
from records.stores.address import is_address
from records.system.places import check_local
from records.system.tfds_command import run_tfds

_ROOT = Path(__file__).resolve().parents[2]


def prepare(dataset: str, data_dir: str | None, manual_dir: str | None) -> str:
    """The directory of a prepared set; prepares it where it is missing and its builder is known.

    That is one of this project's, or with `manual_dir` one in the working directory, `NAME/` of the
    set NAME. The arguments are those of `tfds build`; `dataset` may be a directory.

    Raises:
      FileNotFoundError: the set is not prepared, and no builder of it is known.
      ValueError: `tfds build` failed; its own message stands before this one.
    """
    check_local(manual_dir, "--manual-dir")
    name, _, config = dataset.partition("/")
    path = builder_path(name)
    builder = None if path is None else Path(path)
    is_ours = builder is not None and builder.resolve().parent == _ROOT / "builders"
    try:
        found = find_directory(dataset, data_dir)
    except FileNotFoundError:
        # Code in the working directory runs only where it was asked to prepare something.
        is_stored = is_address(dataset) or is_address(default_place(data_dir))
        if is_stored or builder is None or not (is_ours or manual_dir):
            raise
    else:
        if builder is not None and (change := source_change(found, builder)):
            print(f"note: {change}", flush=True)
        return found
    config = config.split("/")[0]  # without the version
    if is_ours:
        config = config or "kaggle"
        configs = _config_names(builder)
        if config not in configs:
            raise ValueError(
                f"data set: {name}: config expected one of {', '.join(configs)}, "
                f"received {config!r}"
            )
    _build(dataset, builder, config, data_dir, manual_dir)
    found = find_directory(dataset, data_dir)
    write_source_hash(found, builder)  # of TFDS's own class of builders nobody else does
    return found


def _build(
    dataset: str, builder: Path, config: str, data_dir: str | None, manual_dir: str | None
) -> None:
    """Runs `tfds build` in a process of its own."""
    flags = ["build", str(builder), *(["--config", config] if config else [])]
    flags += ["--data_dir", str(default_data_dir(data_dir))]
    if manual_dir:
        if not Path(manual_dir).is_dir():
            raise FileNotFoundError(
                f"data set: --manual-dir expected the folder of the downloaded files, "
                f"received {manual_dir}, which is not a folder"
            )
        flags += ["--manual_dir", manual_dir]
    print(f"{dataset} is not prepared yet: tfds {shlex.join(flags)}", flush=True)
    code = run_tfds(flags)
    if code == 130:  # Ctrl-C reached the child, too
        raise KeyboardInterrupt
    if code:
        raise ValueError(f"data set: {dataset} could not be prepared; see the message above")


def _config_names(builder: Path) -> list[str]:
    """The configs that a builder of this project declares, read from its source text."""
    source = (builder / f"{builder.name}_dataset_builder.py").read_text(encoding="utf-8")
    return sorted({"synthetic", *re.findall(r"name=\"(\w+)\"", source)})
