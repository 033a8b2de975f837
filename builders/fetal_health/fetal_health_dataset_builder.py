"""TFDS builder of the fetal health set: 21 cardiotocogram features in 3 classes."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from builders.base import RecordsBuilder
from builders.fetal_health import synthetic
from builders.fetal_health.table import (
    FEATURE_NAMES,
    FILE_NAME,
    LABEL_NAMES,
    Table,
    make_example,
    read_table,
)
from builders.writing import NumberedExamples

KAGGLE_NAME = "andrewmvd/fetal-health-classification"
HOMEPAGE = f"https://www.kaggle.com/datasets/{KAGGLE_NAME}"


class Builder(RecordsBuilder):
    """Features float32 [21] of a cardiotocogram, its class, and the number of its row."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="kaggle", description="The Kaggle file."),
        tfds.core.BuilderConfig(name="synthetic", description="Generated rows in its format."),
    ]
    NUM_SHARDS = 4
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Download {HOMEPAGE} and unpack {FILE_NAME}."

    def _info(self) -> tfds.core.DatasetInfo:
        return self.make_info(
            {
                # One vector: the input of a table is one feature, see `records.sets.schema`.
                "features": tfds.features.Tensor(shape=(len(FEATURE_NAMES),), dtype=np.float32),
                "label": tfds.features.ClassLabel(names=list(LABEL_NAMES)),
                "id": tfds.features.Text(),
            },
            input_feature="features",
            id_feature="id",
            homepage=HOMEPAGE,
            metadata={"feature_names": list(FEATURE_NAMES)},
        )

    def write_synthetic_source(self, directory: Path) -> None:
        """Writes a generated `fetal_health.csv`."""
        synthetic.write_csv(directory)

    def _split_generators(self, dl_manager: Any) -> dict[str, NumberedExamples]:
        table = read_table(self.find_source(dl_manager, [FILE_NAME], KAGGLE_NAME) / FILE_NAME)
        counts = np.bincount(table.labels, minlength=len(LABEL_NAMES))
        self.set_counts(dict(zip(LABEL_NAMES, counts)))
        return {
            "train": self._generate_examples(table, np.flatnonzero(~table.is_test)),
            "test": self._generate_examples(table, np.flatnonzero(table.is_test)),
        }

    def _generate_examples(self, table: Table, rows: np.ndarray) -> NumberedExamples:
        """The given rows. No pool: so small a table is written before one has started."""
        make = functools.partial(make_example, path=table.path)
        return NumberedExamples(rows.tolist(), make, table.row, in_pool=False)
