"""Where a prepared set lies: from its name to its directory."""

from __future__ import annotations

import os
from pathlib import Path

from records.sets.hints import prepare_hint
from records.system.json_file import read_json
from records.system.places import check_local


def find_directory(dataset: str, data_dir: str | None = None) -> str:
    """Finds the directory of a prepared set.

    Args:
      dataset: `name`, `name/config`, `name/config/version`, or a path to the directory itself.
      data_dir: where TFDS keeps its sets; default `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Raises:
      FileNotFoundError: no prepared set lies there; the message gives the command that
        prepares one.
    """
    check_local(dataset, "dataset")
    check_local(data_dir, "--data-dir")
    if not data_dir:
        # TFDS itself would take gs://; our readers cannot.
        check_local(os.environ.get("TFDS_DATA_DIR"), "$TFDS_DATA_DIR")
    if (Path(dataset) / "dataset_info.json").exists():
        return str(Path(dataset))
    root = default_data_dir(data_dir)
    name, *rest = dataset.split("/")
    if not name or len(rest) > 2 or ".." in rest:
        raise ValueError(
            "data set: dataset expected as name, name/config, name/config/version or the "
            f"path of a prepared set, received {dataset!r}"
        )
    base = root / name
    if rest:
        candidates = [base / Path(*rest)]
    else:
        default = _default_config(base)
        candidates = [base / default, base] if default else [base]
    for folder in candidates:
        found = folder if (folder / "dataset_info.json").exists() else _newest_version(folder)
        if found is not None:
            return str(found)
    prepared = {_config_name(p, base) for p in base.glob("**/dataset_info.json")}
    # Not of that name: all there is, two folders below (name, config, version) at most.
    others = {
        _config_name(p, root / p.relative_to(root).parts[0])
        for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
        for p in root.glob(pattern)
    }
    raise FileNotFoundError(
        f"data set: no prepared set {dataset!r} in {root}; prepared there: "
        f"{', '.join(sorted(prepared or others)) or 'nothing'}. Prepare it with: "
        f"{prepare_hint(dataset, root)}"
    )


def default_data_dir(data_dir: str | None) -> Path:
    """`data_dir`, or TFDS's own default place."""
    place = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(place).expanduser()


def _config_name(info_file: Path, base: Path) -> str:
    return "/".join((base.name, *info_file.parent.relative_to(base).parts[:-1]))


def _default_config(base: Path) -> str | None:
    """The default config as TFDS stored it beside the configs, or the only one there is."""
    stored = base / ".config" / "metadata.json"
    try:
        name = read_json(stored)["default_config_name"]
        if isinstance(name, str) and name == os.path.basename(name):
            return name
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none of TFDS's: the folders themselves may tell
    configs = {p.parent.parent.name for p in base.glob("*/*/dataset_info.json")}
    return configs.pop() if len(configs) == 1 else None


def _newest_version(folder: Path) -> Path | None:
    # As numbers: 10.0.0 is newer than 9.0.0.
    def parts(path: Path) -> tuple[int, ...]:
        return tuple(int(n) for n in path.name.split("."))

    versions = [
        p.parent
        for p in folder.glob("*/dataset_info.json")
        if all(n.isdigit() for n in p.parent.name.split("."))
    ]
    return max(versions, key=parts) if versions else None
