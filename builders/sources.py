"""Finds a set's source files: in the manual directory, else through the Kaggle API."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builders.tfds_private import manual_directory
from records.system.places import what_stands

_KAGGLE_PAGE = "https://www.kaggle.com/datasets/"


def find_files(
    dl_manager: Any, place: str, files: Sequence[str], kaggle_name: str, *, manual_dir_given: bool
) -> Path:
    """Returns the directory that holds all of `files`.

    The manual directory comes first. The Kaggle API is asked only when no manual directory was
    named, and only when the `kaggle` command and a token are there.

    Args:
      place: first words of errors, such as `builders/fetal_health`.
      files: paths of files or folders, relative to the source directory.
      kaggle_name: the set on Kaggle, as `owner/name`.
      manual_dir_given: whether the caller named a manual directory.

    Raises:
      FileNotFoundError: the files are in neither place; names them and what to do.
    """
    manual = manual_directory(dl_manager)
    missing = _missing(manual, files)
    if not missing:
        return manual
    reason = _kaggle_obstacle()
    if not manual_dir_given and reason is None:
        return _download(dl_manager, place, files, kaggle_name)
    if manual_dir_given:
        reason = "not asked, because a manual directory was named"
    raise FileNotFoundError(
        f"{place}: source files not found.\n"
        f"  expected: {', '.join(files)} in {manual}\n"
        f"  received: {_listing(manual)}{_hint(manual, place, files)}\n"
        f"  missing:  {', '.join(missing)}\n"
        f"  Kaggle API: {reason}\n"
        f"Either download {_KAGGLE_PAGE}{kaggle_name}, unpack it and name its directory:\n"
        f"  tfds build {place} --manual_dir <directory>\n"
        "or `pip install kaggle six`, put a token in ~/.kaggle/kaggle.json "
        "(kaggle.com > Settings > API) and run the command without --manual_dir.\n"
        f"Without the real files: tfds build {place} --config synthetic (generated data)"
    )


def _missing(directory: Path, files: Sequence[str]) -> list[str]:
    """Those of `files` that are not there, and what stands in their place."""
    found = []
    for path in (directory / name for name in files):
        # A name with a suffix is that of a file. A pipe in its place would never end.
        if not (path.is_file() if path.suffix else path.is_dir()):
            stands = what_stands(path)
            found.append(path.name + (f" ({stands} stands there)" if stands != "nothing" else ""))
    return found


def _listing(directory: Path) -> str:
    """What stands in a directory, in a few words."""
    if not directory.is_dir():
        if directory.is_file():
            return f"a file, not a directory: name the one that holds it, {directory.parent}"
        stands = what_stands(directory)
        return "no such directory" if stands == "nothing" else f"{stands}, not a directory"
    try:
        names = sorted(p.name for p in directory.iterdir())
    except OSError as error:
        return f"a directory that cannot be read ({error.strerror})"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) + more) if names else "an empty directory"


def _hint(manual: Path, place: str, files: Sequence[str]) -> str:
    """Points at the right folder where the one named is a level too high."""
    # `--add_name_to_manual_dir` appends the set's name.
    name = place.rsplit("/", 1)[-1]
    if not _missing(manual / name, files):
        return f" (they are in {manual / name}: add --add_name_to_manual_dir)"
    below = sorted(manual.iterdir()) if os.access(manual, os.R_OK) and manual.is_dir() else []
    found = [p for p in below if p.is_dir() and not _missing(p, files)]
    return f" (they are in {found[0]}: name that directory)" if found else ""


def _kaggle_obstacle() -> str | None:
    """Why the Kaggle API cannot be used, or None if it can."""
    if shutil.which("kaggle") is None:
        return "not available, the `kaggle` command is not installed"
    if os.environ.get("KAGGLE_API_TOKEN"):
        return None
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return None
    folders = [Path.home() / ".kaggle", Path.home() / ".config" / "kaggle"]
    if os.environ.get("KAGGLE_CONFIG_DIR"):
        folders.insert(0, Path(os.environ["KAGGLE_CONFIG_DIR"]))
    if any((folder / name).is_file() for folder in folders for name in _TOKEN_FILES):
        return None
    return "not available, no token in ~/.kaggle/kaggle.json, KAGGLE_USERNAME and KAGGLE_KEY"


_TOKEN_FILES = ("kaggle.json", "access_token")


def _download(dl_manager: Any, place: str, files: Sequence[str], kaggle_name: str) -> Path:
    try:
        directory = Path(dl_manager.download_kaggle_data(kaggle_name))
    except (RuntimeError, ValueError) as error:
        raise FileNotFoundError(
            f"{place}: the Kaggle API could not download {kaggle_name} (network, token, or the "
            f"set's terms not yet accepted on {_KAGGLE_PAGE}{kaggle_name}): "
            f"{_without_token(str(error))}\n"
            f"Or download it by hand and run: tfds build {place} --manual_dir <directory>"
        ) from None  # the error itself may show the token
    missing = _missing(directory, files)
    if missing:
        raise FileNotFoundError(
            f"{place}: expected {', '.join(files)} in the Kaggle download {directory}, received "
            f"{_listing(directory)}; missing: {', '.join(missing)}. Delete {directory} and run the "
            "command again, or name a directory with --manual_dir"
        )
    return directory


def _without_token(text: str) -> str:
    """The text without the values of the variables that hold a token."""
    for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        if value := os.environ.get(name):
            text = text.replace(value, f"<{name}>")
    return text
