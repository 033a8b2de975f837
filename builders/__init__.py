"""The project's TFDS builders; importing this package makes them known to TFDS by name.

`tfds build fetal_health --imports=builders` and `import builders; tfds.builder("fetal_health")`
find a builder through the provider below. It imports a builder only when it is asked for, so that
importing this package stays cheap and registers no set twice.

Builders import `records.decoding`, `records.sets` and `records.system`. Begin with
`fetal_health/fetal_health_dataset_builder.py`, the smallest, then `base` and `writing`. `convert`
makes sets of files that have no builder. A builder's tests stand in its folder, the others in
tests/builders.
"""

import importlib
from pathlib import Path
from typing import Any

from tensorflow_datasets.core import registered

_FOLDER = Path(__file__).resolve().parent


class _FolderProvider:
    """Finds builders in `builders/<name>/<name>_dataset_builder.py`."""

    def has_dataset(self, name: str) -> bool:
        """Whether a folder of that name holds a builder."""
        return (_FOLDER / name / f"{name}_dataset_builder.py").is_file()

    def get_builder_cls(self, name: str) -> Any:
        """Imports the builder's module and returns its class."""
        return importlib.import_module(f"builders.{name}.{name}_dataset_builder").Builder


# First in the list: TFDS's own provider would import all its legacy builders to look there.
registered.add_dataset_builder_provider(_FolderProvider(), index=0)
