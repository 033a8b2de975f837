"""Reading: prepared sets to batches in a defined order.

`make_dataset` feeds Keras `fit` or any loop; `open_data` gives the parts. Both are loaded on
first use, so that builders can import `records.cleaning` without starting TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from records.data import Data, InputConfig, make_dataset, open_data

__all__ = ["Data", "InputConfig", "make_dataset", "open_data"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'records' has no attribute {name!r}")
    from records import data

    return getattr(data, name)
