"""TFDS builder of the brain tumor MRI set: grey JPEG pictures in 4 classes."""

import functools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from builders.base import RecordsBuilder
from builders.brain_tumor_mri import splits, synthetic
from builders.brain_tumor_mri.pictures import (
    FOLDERS,
    LABEL_NAMES,
    Picture,
    make_example,
    read_pictures,
)
from builders.writing import NumberedExamples

KAGGLE_NAME = "sartajbhuvaji/brain-tumor-classification-mri"
HOMEPAGE = f"https://www.kaggle.com/datasets/{KAGGLE_NAME}"


class Builder(RecordsBuilder):
    """A slice as its file's own JPEG bytes, its class, and what identifies its copies."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name="kaggle", description="Training and Testing as given, copies included."
        ),
        tfds.core.BuilderConfig(
            name="deduplicated", description="One file of each picture; Testing's leave Training."
        ),
        tfds.core.BuilderConfig(name="synthetic", description="Generated pictures."),
    ]
    NUM_SHARDS = 16
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Download {HOMEPAGE} and unpack Training/ and Testing/."

    def _info(self) -> tfds.core.DatasetInfo:
        return self.make_info(
            {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=list(LABEL_NAMES)),
                "filename": tfds.features.Text(),
                "height": np.int32,
                "width": np.int32,
                "is_grey": np.bool_,
                "pixel_hash": tfds.features.Text(),
                "group": np.int64,
            },
            input_feature="image",
            id_feature="filename",
            group_feature="group",
            homepage=HOMEPAGE,
            metadata={"part_of": {splits.NEW: "test"}} if self._is_deduplicated else None,
        )

    @property
    def _is_deduplicated(self) -> bool:
        return bool(self.builder_config.name == "deduplicated")

    def write_synthetic_source(self, directory: Path) -> None:
        """Writes generated pictures in the folders of the real set."""
        synthetic.write_pictures(directory)

    def _split_generators(self, dl_manager: Any) -> dict[str, NumberedExamples]:
        source = self.find_source(dl_manager, FOLDERS, KAGGLE_NAME)
        pictures = read_pictures(source, self.workers)
        dropped: dict[str, int] = {}
        if self._is_deduplicated:
            chosen, dropped = splits.split_deduplicated(pictures)
        else:
            chosen = splits.split_as_given(pictures)
        # `test_new` repeats pictures of test: they are counted once.
        counts = Counter(p.label for name in chosen if name != splits.NEW for p in chosen[name])
        self.set_counts({name: counts[i] for i, name in enumerate(LABEL_NAMES)}, dropped)
        return {name: self._generate_examples(source, split) for name, split in chosen.items()}

    def _generate_examples(self, source: Path, pictures: list[Picture]) -> NumberedExamples:
        """Pictures that `read_pictures` has checked. No pool: TensorFlow is loaded, see there."""
        make = functools.partial(make_example, source=source)
        return NumberedExamples(range(len(pictures)), make, pictures.__getitem__, in_pool=False)
