"""A set for the tests of shards."""

import shutil
from pathlib import Path

import pytest

from records.sets.find import find_directory
from records.sets.schema import Schema, read_schema


@pytest.fixture
def copied(synthetic_data_dir: Path, tmp_path: Path) -> Schema:
    """A copy of fetal_health/synthetic that a test may damage."""
    source = find_directory("fetal_health/synthetic", str(synthetic_data_dir))
    target = tmp_path / "fetal_health" / "synthetic" / Path(source).name
    shutil.copytree(source, target)
    return read_schema(str(target))
