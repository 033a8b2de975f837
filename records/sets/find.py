"""Where a prepared set lies: from its name to its directory; what a place is that is none."""

import json
import os
import re
import shlex
import unicodedata
from collections.abc import Callable
from pathlib import Path

from records.sets.hints import builder_path, convert_command, prepare_hint
from records.stores.address import Address, is_address, parse_address
from records.stores.client import read
from records.stores.mirror import list_sets, mirror
from records.system.json_file import read_json
from records.system.places import check_local

_MOST_NAMED = 8
_DEFAULT_CONFIG = ".config/metadata.json"  # of TFDS, beside the configs
_VERSION = re.compile(r"\d+(\.\d+)*")


def find_directory(dataset: str, data_dir: str | None = None) -> str:
    """Finds the directory of a prepared set.

    Args:
      dataset: `name`, `name/config`, `name/config/version`, or a path to the directory itself.
      data_dir: where TFDS keeps its sets; default `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Both may be addresses of an object store: the directory is then the set's mirror in the local
    cache, see `records.stores`.

    Raises:
      FileNotFoundError: no prepared set lies there; the message gives the command that
        prepares one.
      StoreError: the store refuses, or does not answer.
    """
    if is_address(dataset):
        return _find_stored("", parse_address(dataset, "dataset"))
    check_local(dataset, "dataset")
    root_flag = "--data-dir" if data_dir else "$TFDS_DATA_DIR"
    place = default_place(data_dir)
    if not is_address(place):
        check_local(place, root_flag)
    if (Path(dataset) / "dataset_info.json").exists():
        return str(Path(dataset))
    root = default_data_dir(data_dir)
    name, *rest = dataset.split("/")
    if not name or len(rest) > 2 or ".." in (name, *rest):
        raise _no_set(dataset, root)
    if is_address(place):
        return _find_stored(dataset, parse_address(place, root_flag))
    base = root / name
    below = {p.relative_to(base).as_posix() for p in sets_below(base)}
    found = _choose(rest, below, lambda: (base / _DEFAULT_CONFIG).read_bytes())
    if found is not None:
        return str(base / found)
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


def _choose(rest: list[str], below: set[str], read_default: Callable[[], bytes]) -> str | None:
    """Which set a name means: its path below the folder of the name; None where it is not there.

    Args:
      rest: of the name: nothing, a config or a version, or both.
      below: the paths of all sets there; "." is the folder itself.
      read_default: the file in which TFDS stored the default config.
    """
    folders = ["/".join(rest)]
    if not rest:
        default = _default_config(below, read_default)
        folders = [default, "."] if default else ["."]
    for folder in folders:
        if folder in below:
            return folder
        # As numbers: 10.0.0 is newer than 9.0.0.
        versions = [v for v in below if _VERSION.fullmatch(v.rpartition("/")[2])]
        inside = [v for v in versions if (v.rpartition("/")[0] or ".") == folder]
        if inside:
            return max(inside, key=lambda v: [int(n) for n in v.rpartition("/")[2].split(".")])
    return None


def _default_config(below: set[str], read_default: Callable[[], bytes]) -> str | None:
    """The default config as TFDS stored it beside the configs, or the only one there is."""
    configs = {path.split("/")[0] for path in below if path.count("/") == 1}
    if not configs:
        return None
    try:
        name = json.loads(read_default())["default_config_name"]
        if isinstance(name, str) and name == os.path.basename(name):
            return name
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # none of TFDS's: the folders themselves may tell
    return configs.pop() if len(configs) == 1 else None


def _find_stored(dataset: str, root: Address) -> str:
    """The mirror of a set in an object store."""
    name, *rest = dataset.split("/")
    # What cannot be listed is found by its whole name.
    base, rest = (root / dataset, []) if root.scheme in ("https", "http") else (root / name, rest)
    below = {path or ".": objects for path, objects in list_sets(base).items()}
    found = _choose(rest, set(below), lambda: read(base / _DEFAULT_CONFIG, None))
    if found is not None:
        return mirror(base if found == "." else base / found, below[found])
    if root.scheme in ("https", "http"):
        raise FileNotFoundError(
            f"data set: {base}: expected dataset_info.json and fingerprint.json of a prepared set, "
            "received none. A web server is not searched: give the whole path, such as "
            "name/config/1.0.0; a set without a fingerprint cannot be read from there"
        )
    if not dataset and below:
        said = " or ".join(str(root / path) for path in sorted(below)[:_MOST_NAMED])
        raise ValueError(f"data set: {root} is a folder of prepared sets: name {said}")
    there = ", ".join(str(root / path) for path in sorted(list_sets(root))[:_MOST_NAMED])
    raise FileNotFoundError(
        f"data set: no prepared set {dataset!r} in {root}, bucket {root.bucket!r}; prepared there: "
        f"{there or 'nothing'}. tfds build takes --data_dir {root}; a set that is here goes there "
        f"with: python -m records.verify DATA_DIR --upload {root}"
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
        places = place if isinstance(place, list) else [place] if place else []
        named = " and ".join(shlex.quote(str(one)) for one in places)
        return "a run folder" + (f": name its data, {named}" if named else "")
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
    # By its bytes: where the locale is ASCII or Latin-1, Python has not read them as UTF-8.
    own = os.fsencode(path.name if path.is_dir() else path.stem).decode(errors="ignore")
    plain = unicodedata.normalize("NFKD", own).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    name = name if name[:1].isalpha() else f"set_{name}".rstrip("_")
    return name if builder_path(name) is None else f"{name}_files"


def default_place(data_dir: str | None) -> str:
    """`data_dir`, or TFDS's own default: a folder, or an address of an object store."""
    return data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def default_data_dir(data_dir: str | None) -> Path:
    """`data_dir`, or TFDS's own default place."""
    return Path(default_place(data_dir)).expanduser()


def _config_name(info_file: Path, base: Path) -> str:
    return "/".join((base.name, *info_file.parent.relative_to(base).parts[:-1]))
