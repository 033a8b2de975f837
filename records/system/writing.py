"""Outputs: whether they can be written, asked before the work; files that appear whole or not at
all; texts that stay in their cell.
"""

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from records.system.places import what_stands


def check_output(
    path: Path,
    part: str,
    flag: str = "--output",
    *,
    is_folder: bool = False,
    mend: str = "Choose another {flag}",
) -> None:
    """Asks whether a file or a folder can be written, before the work for it is done.

    Nothing is left behind: folders that are missing are made where the output is written.

    Args:
      path: the output; what is no file, such as /dev/null or a pipe, passes for one.
      part: first words of the error.
      flag: what named it.
      is_folder: files are to be written into it.
      mend: what to do.

    Raises:
      ValueError: it cannot be written; says why.
    """
    try:
        is_dangling = is_folder and path.is_symlink() and not path.exists()
        wrong = (
            what_stands(path) if is_dangling else _obstacle(path.expanduser().resolve(), is_folder)
        )
    except (OSError, RuntimeError) as error:  # the latter: links in a circle
        wrong = getattr(error, "strerror", None) or str(error)
    if wrong:
        what = "a folder" if is_folder else "a file"
        raise ValueError(
            f"{part}: {flag} expected {what} that can be written, received {path} ({wrong}). "
            f"{mend.format(flag=flag)}"
        )


def _obstacle(path: Path, is_folder: bool) -> str:
    """What is in the way of writing there; "" where nothing is."""
    if path.exists() and path.is_dir() != is_folder:
        return "which is a file" if is_folder else f"a folder: name a file in it, as {path}/NAME"
    if path.exists() and not (path.is_dir() or path.is_file()):
        return ""
    folder = path if is_folder else path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is a file"
    longest = os.pathconf(folder, "PC_NAME_MAX")
    for name in path.relative_to(folder).parts:
        if len(os.fsencode(name)) > longest:
            return f"a name of {len(os.fsencode(name)):,} bytes, at most {longest:,} can be stored"
    # Asked by writing: permissions say nothing of a disk that is mounted read-only.
    with tempfile.TemporaryFile(dir=folder):
        return ""


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file of that name, which holds the old bytes or all the new ones at any time.

    A link stays, and its target is written. What is no file, such as /dev/null, is written into.

    Raises:
      OSError: it cannot be written; names the file itself.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with appears_whole(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def appears_whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to, and renames it to `path` where the block ends without an error.

    Raises:
      OSError: it cannot be written; names the file itself.
    """
    # In the same folder: a rename is atomic within one file system only.
    temporary = path.with_name(f".{secrets.token_hex(6)}")  # short: a name has a longest length
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:  # none of the system's: it says what it has to say
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


# A spreadsheet takes a cell that begins so for a formula and runs it
# (owasp.org/www-community/attacks/CSV_Injection).
_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_text(cell: str) -> str:
    """A text as a cell: with a "'" in front where a spreadsheet would take it for a formula.

    A number stays as it is: "-1" is a class's name or a value, and no formula.
    """
    if not cell.startswith(_BEGINS_A_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell


# What Markdown takes for formatting, a link or a picture; an underscore inside a word is none.
_FORMATS = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")


def escape_cell(text: str) -> str:
    """A text as one cell of a table in Markdown, whatever is in it: it shows as it is."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _FORMATS.sub(r"\\\g<0>", plain)


def markdown_table(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The lines of a table in Markdown; the first row is its header."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]
