"""Validation cuts and folds of large splits: made once, kept in a file, mapped by every process.

`<set>/decoded/<split>-cut-<key>.npz`, beside the cached inputs. Making a cut sorts the groups of
the whole split: half a minute and several GB for 10^8 records.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from records.system.npz import map_arrays, write_arrays

# A smaller split (a second or two) is cut at every start, and leaves no file.
KEPT_RECORDS = 2**22

Cut = tuple[np.ndarray, np.ndarray]


def keep_cut(path: Path, count: int, make: Callable[[], Cut]) -> Cut:
    """(train int64 [n], validation int64 [m]), record numbers: of the file, else made and kept.

    The path names all that shapes the cut, of `count` records. Where the folder cannot be written,
    the cut is of this process alone.
    """
    found = _read(path, count)
    if found is not None:
        return found
    made = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_arrays(path, {"train": made[0], "validation": made[1]})
    return _read(path, count) or made


def _read(path: Path, count: int) -> Cut | None:
    try:
        stored = map_arrays(path)
        found = stored["train"], stored["validation"]
    except (OSError, KeyError, ValueError):
        return None
    # Ascending: the ends tell whether all lie in the split.
    fits = sum(map(len, found)) == count and all(
        part.dtype == np.int64 and len(part) and part[0] >= 0 and part[-1] < count for part in found
    )
    return found if fits else None
