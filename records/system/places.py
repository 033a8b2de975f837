"""Where data and run folders may lie: on a file system of this machine, or mounted to it."""

import os
import re
from pathlib import Path

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)
# Commands that copy, and that mount, by the scheme of an address.
_COMMANDS = {
    "gs": ("gcloud storage cp -r {} {}", "gcsfuse BUCKET DIR"),
    "s3": ("aws s3 cp --recursive {} {}", "mount-s3 BUCKET DIR"),
}


def check_local(path: str | os.PathLike[str] | None, flag: str, *, is_output: bool = False) -> None:
    """Refuses an address of an object store, as what `flag` names; a path of None passes.

    Raises:
      ValueError: it has a scheme, such as `gs://`; says why, and how to copy or mount it.
    """
    match = _SCHEME.match(os.fspath(path)) if path is not None else None
    if match is None or path is None:
        return
    received = re.sub(r":/+", "://", os.fspath(path), count=1)  # `Path` makes one slash of two
    received = re.sub(r"//[^/]*@|[?#].*", lambda one: one[0][:2].rstrip("?#"), received)  # secrets
    copy, mount = _COMMANDS.get(match[1].lower(), ("", ""))
    if is_output:
        how = f": {copy.format('DIR', received)}" if copy else ""
        mend = f"Name a local DIR, and copy it there when it is finished{how}"
    else:
        how = f": {copy.format(received, 'DIR')}, or {mount}" if copy else ""
        mend = f"Copy or mount it first{how}; then name DIR"
    raise ValueError(
        f"place: {flag} expected a folder of a local or mounted file system, received "
        f"{received}. Only prepared sets are read from object stores (s3, gs, az and https: "
        "--data-dir), and runs kept there (s3, gs and az: --run-dir). "
        f"{mend}"
    )


def what_stands(path: Path) -> str:
    """What a path leads to, for errors: "a file", "a folder", "nothing" and so on."""
    if path.is_file():
        return "a file"
    if path.is_dir():
        return "a folder"
    if path.exists():
        return "a pipe or a device"
    return f"a link to nothing ({os.readlink(path)})" if path.is_symlink() else "nothing"


def check_utf8(path: str | os.PathLike[str], flag: str) -> None:
    """Raises ValueError for a path that is no UTF-8: TensorFlow writes to no other."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"place: {flag} expected a path in UTF-8, received {os.fsencode(path)!r}: TensorFlow "
            "writes to no other. Name another one, or rename its folder, for instance with: convmv "
            "-f latin1 -t utf8 --notest FOLDER"
        ) from None
