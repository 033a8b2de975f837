"""Where a prepared set lies: from its name to its directory; what a place is that is none."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from pathlib import Path

from records.sets.hints import builder_path, convert_command, prepare_hint
from records.system.json_file import read_json
from records.system.places import check_local

_MOST_NAMED = 8


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
        raise _no_set(dataset, root)
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
    if is_run_folder(Path(dataset)) or sets_below(Path(dataset)):
        raise _no_set(dataset, root)
    there = ", ".join(sorted(prepared or others))
    # A file, or a set itself, or the folder of a set's name.
    if not there and root.exists() and (not root.is_dir() or sets_below(root)):
        raise ValueError(
            f"data set: --data-dir expected the folder that prepared sets lie in, received {root}, "
            f"which is {describe_place(root)}"
        )
    raise FileNotFoundError(
        f"data set: no prepared set {dataset!r} in {root}; prepared there: "
        f"{there or 'nothing'}. Prepare it with: {prepare_hint(dataset, root)}"
    )


def _no_set(dataset: str, root: Path) -> ValueError:
    """The error for what is no set's name: what it is, where it is there, and what to type."""
    path, said = Path(dataset), repr(dataset)
    if dataset and path.exists():
        said = f"{said}, which is {describe_place(path)}"
        if not is_run_folder(path) and not sets_below(path):
            command = convert_command([dataset, "--data_dir", str(root)])
            said = f"{said}. Make a set of it: {command}"
    return ValueError(
        "data set: dataset expected as name, name/config, name/config/version or the "
        f"path of a prepared set, received {said}"
    )


def describe_place(path: Path) -> str:
    """What a path is that was named in place of a prepared set, and what to name instead."""
    if not path.exists():
        return "no such folder"
    if not path.is_dir():
        return "a file"
    if is_run_folder(path):
        place = read_json(path / "config.json").get("data_directory")
        return "a run folder" + (f": name its data, {shlex.quote(str(place))}" if place else "")
    if sets := [shlex.quote(str(one)) for one in sets_below(path)]:
        more = f", or one of {len(sets) - _MOST_NAMED:,} more" if len(sets) > _MOST_NAMED else ""
        return f"a folder of prepared sets: name {' or '.join(sets[:_MOST_NAMED])}{more}"
    return "a folder without dataset_info.json"


def is_run_folder(path: Path) -> bool:
    """Whether `train.run` has written a folder."""
    try:
        return "data_fingerprint" in read_json(path / "config.json")
    except (OSError, ValueError, TypeError):
        return False


def sets_below(folder: Path) -> list[Path]:
    """The prepared sets that a folder is or holds, three folders below (name, config, version)."""
    patterns = ("", "*/", "*/*/", "*/*/*/")
    return sorted(p.parent for one in patterns for p in folder.glob(f"{one}dataset_info.json"))


def name_from_path(source: Path) -> str:
    """The name of the set that files become: lower case, ASCII letters, digits and "_".

    Never that of a builder, ours or one that lies here.
    """
    path = source.absolute()
    plain = unicodedata.normalize("NFKD", path.name if path.is_dir() else path.stem)
    plain = plain.encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    name = name if name[:1].isalpha() else f"set_{name}".rstrip("_")
    return name if builder_path(name) is None else f"{name}_files"


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
