"""Reading: prepared sets to batches in a defined order.

`make_dataset` feeds Keras `fit` or any loop, `make_arrays` gives the same batches as NumPy arrays;
`open_data` gives the parts. All are loaded on first use, so that builders can import
`records.decoding.cleaning` without starting TensorFlow.

The modules here import the rooms from `system` to `damage`; the four commands `service`,
`diagnose`, `describe` and `verify` import them. Nothing of `builders`, `models` or `train` is used.
Begin with `pipeline`; its test is tests/records/pipeline_test.py.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from records.batches import make_arrays, make_dataset
    from records.decoding.input_config import InputConfig
    from records.roles import Data, open_data

_MODULES = {
    "Data": "roles",
    "InputConfig": "decoding.input_config",
    "make_arrays": "batches",
    "make_dataset": "batches",
    "open_data": "roles",
}
__all__ = ["Data", "InputConfig", "make_arrays", "make_dataset", "open_data"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'records' has no attribute {name!r}")
    return getattr(importlib.import_module(f"records.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
