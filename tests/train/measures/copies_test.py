"""Which pictures of a split stand in the training data, too."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from records.roles import open_data
from train.measures.copies import find_new


def test_new_pictures_are_those_whose_pixels_are_in_no_training_picture(
    synthetic_data_dir: Path,
) -> None:
    """Against the decoded pixels themselves."""
    data_dir, name = str(synthetic_data_dir), "brain_tumor_mri/synthetic"
    data = open_data(name, data_dir)

    def pixels(role: str) -> list[bytes]:
        examples = data.examples(role)
        files = [
            tf.train.Example.FromString(one).features.feature["image"].bytes_list.value[0]
            for one in examples.loader.read(examples.numbers)
        ]
        pictures = [tf.io.decode_jpeg(f, dct_method="INTEGER_ACCURATE").numpy() for f in files]
        return [str(p.shape).encode() + p.tobytes() for p in pictures]

    known = {*pixels("train"), *pixels("validation")}
    test = pixels("test")
    expected = [i for i, one in enumerate(test) if one not in known]
    found = find_new(data.examples("test"), name, data_dir)
    assert 0 < len(expected) < len(test), "the generated set holds copies"
    np.testing.assert_array_equal(found, expected)


def test_other_sets_are_refused(synthetic_data_dir: Path) -> None:
    data = open_data("fetal_health/synthetic", str(synthetic_data_dir))
    with pytest.raises(ValueError, match="expected a feature pixel_hash"):
        find_new(data.examples("test"), "fetal_health/synthetic", str(synthetic_data_dir))
