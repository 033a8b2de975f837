"""Which examples of a split stand in the training data of another set, too."""

from __future__ import annotations

import numpy as np

from records.decoding.parsing import read_feature
from records.examples import Examples
from records.roles import InputConfig, open_data

_HASH = "pixel_hash"  # of the decoded pixels, which the builder of pictures stores


def find_new(examples: Examples, other: str, data_dir: str | None) -> np.ndarray:
    """Finds the pictures that neither train nor validation of another set holds.

    Args:
      examples: of a split.
      other: name/config of a prepared set, or its directory.
      data_dir: where it lies.

    Returns:
      int64 [k], their places in the subset, ascending.

    Raises:
      ValueError: one of the sets stores no hashes of pixels, or nothing is new.
      FileNotFoundError: the other set is not there.
    """
    data = open_data(other, data_dir, InputConfig(cache="none"))
    known: set[bytes] = set()
    for role in ("train", "validation"):
        split, numbers = data.subset(role)
        known.update(_hashes(data.examples(split), numbers))
    own = _hashes(examples, examples.numbers)
    new = np.array([i for i, one in enumerate(own) if one not in known], np.int64)
    if not len(new):
        raise ValueError(f"evaluate: every picture of the split stands in {other}, too")
    return new


def _hashes(examples: Examples, numbers: np.ndarray) -> list[bytes]:
    found = []
    for payload in examples.loader.read(numbers):
        values = read_feature(payload, _HASH)
        if not values:
            raise ValueError(
                f"evaluate: {examples.schema.name} expected a feature {_HASH}, as the sets of "
                "builders/brain_tumor_mri have it, received none"
            )
        found.append(values[0])
    return found
