"""Reading: prepared sets to batches in a defined order.

`make_dataset` feeds Keras `fit` or any loop, `make_arrays` gives the same batches as NumPy arrays;
`open_data` gives the parts. All are loaded on
first use, so that builders can import `records.cleaning` without starting TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from records.data import Data, InputConfig, open_data
    from records.dataset import make_arrays, make_dataset

_MODULES = {
    "Data": "data",
    "InputConfig": "data",
    "make_arrays": "dataset",
    "make_dataset": "dataset",
    "open_data": "data",
}
__all__ = ["Data", "InputConfig", "make_arrays", "make_dataset", "open_data"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'records' has no attribute {name!r}")
    return getattr(importlib.import_module(f"records.{_MODULES[name]}"), name)
