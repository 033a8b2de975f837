"""Fixtures of the builders' tests."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of real data, one folder per builder; skips the test where there is none."""
    directory = Path(os.environ.get("SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not directory.is_dir():
        pytest.skip(f"no real data in {directory}; name its directory in SHARED_DATA")
    return directory.resolve()
