"""Files become objects: data first, and last the one that makes them whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from records.stores.address import Address
from records.stores.client import delete, list_below, write
from records.system.progress import Progress
from records.system.threads import ordered_map

_AT_ONCE = 4


def write_all(address: Address, files: Mapping[str, Path | BinaryIO], label: str = "") -> None:
    """Writes files below an address, some at once; with a `label` it shows how far it is.

    Keys of `files` are what stands behind the address.

    Raises:
      StoreError: one is not taken, as `client.read`.
      OSError: one cannot be read.
    """

    def put(name: str) -> int:
        content = files[name]
        if not isinstance(content, Path):
            write(address / name, content)
            return 0
        with open(content, "rb") as file:
            write(address / name, file)
        return content.stat().st_size

    total = sum(one.stat().st_size for one in files.values() if isinstance(one, Path))
    progress = Progress(total, label, "MB", 1e6) if label else None
    for size in ordered_map(put, files, _AT_ONCE):
        if progress:
            progress.add(size)
    if progress:
        progress.end()


def replace_all(address: Address, files: Mapping[str, Path], last: str, label: str) -> None:
    """Writes files in place of all that stands below an address; without `last` it is no whole.

    However it ends, whoever looks for `last` finds all of the old files, none, or all of the new.

    Raises: as `write_all`.
    """
    old = [address / name for name in list_below(address) if name != last]
    delete(address / last)  # before one of the files that it makes whole is touched
    for _ in ordered_map(delete, old, _AT_ONCE):
        pass
    write_all(address, {name: path for name, path in files.items() if name != last}, label)
    write_all(address, {last: files[last]})
